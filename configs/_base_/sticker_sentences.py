"""Sentences of the offline world, drawn on the fly, base names alone; tested on expressions of unseen scenes.

OVDET_STICKERS must name the sprite pack (docs/stickers.md).
"""

from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.runner import LogProcessor, TestLoop, ValLoop
from torch.optim import AdamW

from ovdet.data.batches import collate_texts
from ovdet.data.sampling import SeededSampler
from ovdet.data.stickers.grounding import sticker_expressions, sticker_texts
from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.hooks import RepeatableHook
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.sentence_evaluators import GroundingMetric

steps = 20000

train_dataloader = dict(
    batch_size=12,
    collate_fn=dict(type=collate_texts),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=sticker_texts, split="75-25", length=2_000_000, max_texts=5),
)
val_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type=collate_texts),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=sticker_expressions, split="75-25", length=120, stream="validation"),
)
test_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type=collate_texts),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=sticker_expressions, split="75-25", length=700, stream="evaluation"),
)
val_evaluator = dict(type=GroundingMetric)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=CpuAmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=500, end=steps, T_max=steps - 500, eta_min=1e-6),
]
custom_hooks = [dict(type=RepeatableHook)]
train_cfg = dict(type=ResumableIterLoop, max_iters=steps, val_interval=2000)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=50),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=500, max_keep_ckpts=1),
)
log_processor = dict(type=LogProcessor, window_size=50, by_epoch=False)
