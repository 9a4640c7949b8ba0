"""A small SegGPT of the sticker world on a CPU.   python tools/train.py configs/seggpt/stickers_small.py
OVDET_STICKERS must name the sprite pack (docs/stickers.md).
Here: 2026-11-30, 67,200 canvases, about 90 minutes of a core; mIoU of one-shot validation episodes, 150 of each, at the
best threshold of seven: 0.561 base, 0.531 novel, before the network had its measure of likeness (docs/seggpt.md).

Pairs that share the drawing first, then anybody's, out of a pool of scenes; docs/seggpt.md says what differs from the
paper. Validation is on base names; test on novel ones, in scenes that training never draws.
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.runner import TestLoop, ValLoop
from torch.optim import AdamW

from ovdet.data.stickers.episodes import sticker_canvases
from ovdet.data.stickers.pool import pooled_canvases
from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.contrastive import TowerTraining
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.episodes import EpisodeIoU
from ovdet.seggpt.build import seggpt_small
from ovdet.seggpt.training import seggpt_training

with read_base():
    from .._base_.in_context import *

steps, batch, side, patch = 4200, 16, 192, 16
samples = steps * batch
share = [1.0, 0.1, samples // 20, samples // 3]  # of pairs of one drawing, before and after, by samples
world = dict(split="75-25", side=160, objects=(1, 4), long_side=(40, 140))
trunk = dict(trunk="package:vild/stickers.safetensors", matching=True)
task = dict(type=seggpt_training, size=seggpt_small, side=side, threshold=0.3, beta=5.0, **trunk)
model = dict(type=TowerTraining, task=task)
train_dataloader.update(
    batch_size=batch,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type=pooled_canvases, world=world, size=side, patch=patch, of_name=12, white_share=0.9, same_drawing=share
    ),
)
val_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=default_collate),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=sticker_canvases, world={**world, "stream": "validation"}, length=200, size=side, patch=patch, side="base"
    ),
)
test_dataloader = {
    **val_dataloader,
    "dataset": {
        **val_dataloader["dataset"],
        "world": {**world, "stream": "evaluation"},
        "length": 1000,
        "side": "novel",
    },
}
val_evaluator = dict(type=EpisodeIoU)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=CpuAmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"positions": dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=100, end=steps, T_max=steps - 100, eta_min=1e-5),
]
train_cfg = dict(type=ResumableIterLoop, max_iters=steps, val_interval=1000)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks.checkpoint.update(interval=200)
