"""Open-vocabulary COCO 2017, 48 base and 17 novel classes, boxes: data, evaluation and runtime of one 65-way run.

data/coco/{annotations,train2017,val2017}, as published. For BARON's protocol (80 names compete, all 5,000 pictures)
replace `ov_coco_split` by `ov_coco_split_80` and leave out `only_named`; the two protocols' numbers do not compare.
"""

from mmdet.datasets.transforms import LoadAnnotations, RandomFlip, Resize
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import LogProcessor, TestLoop, ValLoop

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.sampling import SeededSampler
from ovdet.data.splits import ov_coco_split
from ovdet.data.transforms import LoadPicture, LoadProposals, PackDetection, TransformProposals
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.evaluator import DetectionMetric

train_pipeline = [
    dict(type=LoadPicture),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=Resize, scale=(1333, 800), keep_ratio=True),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackDetection),
]
distill_pipeline = [
    dict(type=LoadPicture),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=LoadProposals, source=None, limit=300),  # a teacher store; None: the teacher on the fly
    dict(type=Resize, scale=(1333, 800), keep_ratio=True),
    dict(type=RandomFlip, prob=0.5),
    dict(type=TransformProposals),
    dict(type=PackDetection),
]
test_pipeline = [
    dict(type=LoadPicture),
    dict(type=Resize, scale=(1333, 800), keep_ratio=True),
    dict(type=PackDetection),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(
        type=OpenVocabularyDataset,
        ann_file="data/coco/annotations/instances_train2017.json",
        data_prefix=dict(img="data/coco/train2017"),
        split=ov_coco_split,
        base_only=True,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=OpenVocabularyDataset,
        ann_file="data/coco/annotations/instances_val2017.json",
        data_prefix=dict(img="data/coco/val2017"),
        split=ov_coco_split,
        only_named=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=DetectionMetric, iou_types=("bbox",), max_dets=100, prefix="ov_coco")
test_evaluator = val_evaluator

default_scope = "mmdet"  # where mmdet's leaves look up each other
train_cfg = dict(type=ResumableIterLoop, max_iters=90000, val_interval=10000)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=50),
    checkpoint=dict(
        type=CheckpointHook,
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=3,
        save_best="ov_coco/box_AP50_novel",
        rule="greater",
    ),
)
log_processor = dict(type=LogProcessor, window_size=50, by_epoch=False)
auto_scale_lr = dict(base_batch_size=16)
