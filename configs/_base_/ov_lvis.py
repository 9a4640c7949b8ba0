"""Open-vocabulary LVIS v1, 866 base classes (frequent, common), 337 novel (rare), boxes and masks: data and runtime.

data/lvis/lvis_v1_{train,val}.json, as published, and data/coco/{train2017,val2017}: LVIS says in `coco_url` which
picture lies where. Large-scale jitter as in the official recipe; rare annotations are left out of training. The model
pads with the mean colour, as the official code does, but only to the batch's largest picture: mmdet's `Pad` would pad
with black and count it as picture, for the RPN and for the teacher's crops.
"""

from mmcv.transforms import RandomResize
from mmdet.datasets.transforms import FilterAnnotations, LoadAnnotations, RandomCrop, RandomFlip, Resize
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import LogProcessor, TestLoop, ValLoop

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.sampling import SeededSampler
from ovdet.data.splits import lvis_split
from ovdet.data.transforms import LoadPicture, LoadProposals, PackDetection, TransformProposals
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.evaluator import DetectionMetric

train_pipeline = [
    dict(type=LoadPicture),
    dict(type=LoadAnnotations, with_bbox=True, with_mask=True, poly2mask=False),
    dict(type=RandomFlip, prob=0.5),
    dict(type=RandomResize, scale=(1024, 1024), ratio_range=(0.1, 2.0), resize_type=Resize, keep_ratio=True),
    dict(type=RandomCrop, crop_size=(1024, 1024), allow_negative_crop=True),
    dict(type=FilterAnnotations, min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type=PackDetection),
]
distill_pipeline = [
    dict(type=LoadPicture),
    dict(type=LoadAnnotations, with_bbox=True, with_mask=True, poly2mask=False),
    dict(type=LoadProposals, source=None, limit=300),  # a teacher store; None: the teacher on the fly
    dict(type=RandomFlip, prob=0.5),
    dict(type=RandomResize, scale=(1024, 1024), ratio_range=(0.1, 2.0), resize_type=Resize, keep_ratio=True),
    dict(type=RandomCrop, crop_size=(1024, 1024), allow_negative_crop=True),
    dict(type=FilterAnnotations, min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type=TransformProposals),
    dict(type=PackDetection),
]
test_pipeline = [
    dict(type=LoadPicture),
    dict(type=Resize, scale=(1024, 1024), keep_ratio=True),
    dict(type=PackDetection),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(
        type=OpenVocabularyDataset,
        ann_file="data/lvis/lvis_v1_train.json",
        data_prefix=dict(img="data/coco"),
        split=lvis_split,
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
        ann_file="data/lvis/lvis_v1_val.json",
        data_prefix=dict(img="data/coco"),
        split=lvis_split,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=DetectionMetric, iou_types=("bbox", "segm"), max_dets=300, federated=True, prefix="ov_lvis")
test_evaluator = val_evaluator

default_scope = "mmdet"  # where mmdet's leaves look up each other
train_cfg = dict(type=ResumableIterLoop, max_iters=180000, val_interval=60000)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=50),
    checkpoint=dict(
        type=CheckpointHook,
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=3,
        save_best="ov_lvis/mask_AP_novel",
        rule="greater",
    ),
)
log_processor = dict(type=LogProcessor, window_size=50, by_epoch=False)
auto_scale_lr = dict(base_batch_size=256)
