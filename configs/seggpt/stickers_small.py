"""A small SegGPT of the sticker world on a CPU.   python tools/train.py configs/seggpt/stickers_small.py
OVDET_STICKERS must name the sprite pack (docs/stickers.md). Here: not trained yet.

Pairs that share the drawing first, then the artist, then anybody's: a trial without that schedule stayed below "mark
everything". Validation is on base names; test on novel ones, in scenes that training never draws.
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.runner import TestLoop, ValLoop
from torch.optim import AdamW

from ovdet.data.in_context import mixture
from ovdet.data.stickers.episodes import sticker_canvases, sticker_contexts
from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.contrastive import TowerTraining
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.episodes import EpisodeIoU
from ovdet.seggpt.build import seggpt_small
from ovdet.seggpt.training import seggpt_training

with read_base():
    from .._base_.in_context import *

steps, batch, side, patch = 12000, 16, 128, 8
samples = steps * batch
world = dict(split="75-25", side=160, objects=(1, 4), long_side=(40, 140))
stickers = dict(
    type=sticker_contexts,
    world=world,
    kinds=dict(semantic=0.75, instance=0.1, colour=0.05, part=0.1),
    same_drawing=[1.0, 0.1, samples // 10, samples // 2],  # shares before and after, by samples
    same_artist=[1.0, 0.2, samples // 2, samples * 3 // 4],
    base_only=True,
)

model = dict(type=TowerTraining, task=dict(type=seggpt_training, size=seggpt_small, side=side))
train_dataloader.update(
    batch_size=batch,
    num_workers=1,
    dataset=dict(
        type=mixture,
        sources=[stickers],
        view=dict(size=side, scale=(0.4, 1.0)),
        canvas=dict(patch=patch, half_mask_share=0.5, max_colours=4, white_share=0.5, mix_share=0.05),
    ),
)
val_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=default_collate),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=sticker_canvases, world={**world, "stream": "validation"}, length=320, size=side, patch=patch, side="base"
    ),
)
test_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=default_collate),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset={**val_dataloader["dataset"], "world": {**world, "stream": "evaluation"}, "length": 1000, "side": "novel"},
)
val_evaluator = dict(type=EpisodeIoU)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=CpuAmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"positions": dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=500, end=steps, T_max=steps - 500, eta_min=1e-5),
]
train_cfg = dict(type=ResumableIterLoop, max_iters=steps, val_interval=1000)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks.checkpoint.update(interval=250)
