"""Sticker scenes drawn on the fly, split 75-25: data, evaluation, schedule and runtime of the compact detector.

OVDET_STICKERS names the sprite pack (docs/stickers.md), OVDET_GROUNDS a folder of photographs to lie on, if any.
--cfg-options model.trunk_checkpoint=FILE: where the trunk starts; custom_hooks.1.text_tower.weights=FILE and
custom_hooks.1.teacher.weights=FILE: another teacher than the shipped one; test_dataloader.dataset.styles=twemoji (or
openmoji): test in the style of an artist who was never trained on.
"""

from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.runner import LogProcessor, TestLoop, ValLoop
from torch.optim import AdamW

from ovdet.data.sampling import SeededSampler
from ovdet.data.stickers.detection import StickerDetectionScenes
from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.hooks import RepeatableHook, VocabularyHook
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.evaluator import DetectionMetric
from ovdet.vlm.prompts import class_embeddings
from ovdet.vlm.zoo import create_vlm

steps = 1500
warm_up = 200

text_tower = dict(type=create_vlm, name="sticker-clip", weights="default")
custom_hooks = [
    dict(type=RepeatableHook),
    dict(
        type=VocabularyHook,
        text_tower=text_tower,
        teacher=text_tower,
        embed=class_embeddings,
        templates="plain",
        test_scale=(256, 256),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=StickerDetectionScenes, split="75-25", stream="train", base_only=True),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=StickerDetectionScenes, split="75-25", stream="validation", length=100),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=StickerDetectionScenes, split="75-25", stream="evaluation", length=1000),
)
val_evaluator = dict(type=DetectionMetric, iou_types=("bbox", "segm"), max_dets=100, prefix="stickers")
test_evaluator = val_evaluator

optim_wrapper = dict(
    type=CpuAmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={"backbone": dict(lr_mult=0.3), ".stage.": dict(lr_mult=0.5)},  # what has learned from crops
    ),
    clip_grad=dict(max_norm=35.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=warm_up),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=warm_up, end=steps, T_max=steps - warm_up, eta_min=1e-5),
]
default_scope = "mmdet"  # where mmdet's leaves look up each other
train_cfg = dict(type=ResumableIterLoop, max_iters=steps, val_interval=500)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=50),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=400, max_keep_ckpts=2),
)
log_processor = dict(type=LogProcessor, window_size=50, by_epoch=False)
