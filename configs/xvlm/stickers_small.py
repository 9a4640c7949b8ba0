"""A small X-VLM on sticker scenes, all grains.   python tools/train.py configs/xvlm/stickers_small.py

OVDET_STICKERS must name the sprite pack (docs/stickers.md). Ablations, with --cfg-options: without box loss,
model.task.losses=contrast,match; without regions (image-level only), train_dataloader.dataset.grains=caption; short,
train_cfg.max_iters=240 param_scheduler.0.end=40 param_scheduler.1.begin=40 param_scheduler.1.end=240
param_scheduler.1.T_max=200. A step takes about 1.7 s of a core.
Here: 2026-11-30 (docs/results.md), own boxes at IoU 0.5: names 56.5 base, 52.7 novel; relations 35.6 base. The schedule
was laid out for 2600 steps; at step 1100 the rest was shortened, so that it ended at step 1800.
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

from ovdet.data.batches import collate_texts
from ovdet.data.sampling import SeededSampler
from ovdet.data.stickers.grounding import sticker_expressions, sticker_texts
from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.sentences import SentenceTraining
from ovdet.metrics.sentence_evaluators import GroundingMetric
from ovdet.xvlm.small_training import small_training

with read_base():
    from .._base_.sentences import *

steps, warm_up, batch = 1800, 100, 16

model = dict(type=SentenceTraining, task=dict(type=small_training, teacher="sticker-clip", frozen_stages=3))
train_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=collate_texts),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=sticker_texts, split="75-25", max_texts=4, turn=batch),
)
val_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=collate_texts),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=sticker_expressions, split="75-25", stream="validation", length=100),
)
test_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=collate_texts),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=sticker_expressions, split="75-25", length=1010, max_texts=5),
)
val_evaluator = dict(type=GroundingMetric, prefix="stickers")
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=CpuAmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={"temperature": dict(decay_mult=0.0), "image_encoder.trunk": dict(lr_mult=0.2)},
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=warm_up),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=warm_up, end=steps, T_max=steps - warm_up, eta_min=5e-6),
]
test_cfg.update(fp16=True)
train_cfg.update(max_iters=steps, val_interval=500)
default_hooks.logger.update(interval=25)
default_hooks.checkpoint.update(interval=100, max_keep_ckpts=2)
