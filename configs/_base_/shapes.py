"""Generated pictures of coloured shapes, 6 base and 3 novel names, for a CPU: data, evaluation and runtime.

python tools/data/make_shapes.py --out data/shapes/train --images 400 --seed 0
python tools/data/make_shapes.py --out data/shapes/val --images 60 --seed 1
"""

from mmdet.datasets.transforms import LoadAnnotations, RandomFlip, Resize
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import LogProcessor, TestLoop, ValLoop

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.sampling import SeededSampler
from ovdet.data.transforms import LoadPicture, PackDetection
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.evaluator import DetectionMetric

train_pipeline = [
    dict(type=LoadPicture),
    dict(type=LoadAnnotations, with_bbox=True, with_mask=True),
    dict(type=Resize, scale=(160, 160), keep_ratio=True),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackDetection),
]
test_pipeline = [
    dict(type=LoadPicture),
    dict(type=Resize, scale=(160, 160), keep_ratio=True),
    dict(type=PackDetection),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(
        type=OpenVocabularyDataset,
        data_root="data/shapes/train",
        ann_file="annotations.json",
        data_prefix=dict(img="images"),
        base_only=True,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=OpenVocabularyDataset,
        data_root="data/shapes/val",
        ann_file="annotations.json",
        data_prefix=dict(img="images"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=DetectionMetric, iou_types=("bbox", "segm"), max_dets=100, prefix="shapes")
test_evaluator = val_evaluator

default_scope = "mmdet"  # where mmdet's leaves look up each other
train_cfg = dict(type=ResumableIterLoop, max_iters=600, val_interval=200)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=20),
    checkpoint=dict(
        type=CheckpointHook,
        by_epoch=False,
        interval=100,
        max_keep_ckpts=3,
        save_best="shapes/box_AP50_all",
        rule="greater",
    ),
)
log_processor = dict(type=LogProcessor, window_size=20, by_epoch=False)
auto_scale_lr = dict(base_batch_size=4)
