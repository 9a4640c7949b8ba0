"""The small SegGPT on all kinds of contexts.   python tools/train.py configs/seggpt/stickers_contexts.py
With OVDET_STICKERS naming the sprite pack (docs/stickers.md).
Here: not trained yet.

Names, single things, colours and parts, up to three of them on a canvas, stitched or tiled, any patches hidden: the
paper's in-context colouring out of the world of stickers, from the shipped weights. Scenes are drawn as they are
needed, which takes longer than the small network takes to learn from them.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

from ovdet.data.in_context import mixture
from ovdet.data.stickers.episodes import sticker_contexts

with read_base():
    from .stickers_small import *

steps = 4000
contexts = dict(
    type=sticker_contexts,
    world=world,
    kinds=dict(semantic=0.5, instance=0.2, colour=0.15, part=0.15),
    same_drawing=0.1,
    same_artist=0.2,
    base_only=True,
)
model.task.update(init="ovdet/seggpt/stickers.safetensors", threshold=0.25)
train_dataloader.dataset = dict(
    type=mixture,
    sources=[contexts],
    view=dict(size=side, scale=(0.5, 1.0)),
    canvas=dict(patch=patch, half_mask_share=0.8, max_colours=3, white_share=0.5),
)
optim_wrapper.optimizer.update(lr=5e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=100, end=steps, T_max=steps - 100, eta_min=1e-5),
]
train_cfg.update(max_iters=steps)
