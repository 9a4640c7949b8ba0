"""Second stage of the small SegGPT of stickers.   python tools/train.py configs/seggpt/stickers_small_stage2.py
--cfg-options model.task.init=FILE: what configs/seggpt/stickers_small.py gave; else the shipped weights.

Other scenes, nearly always by anybody, and a measure of likeness in front of the blocks that learns from names
(docs/seggpt.md).
Here: 2026-12-01, 64,000 canvases, about 95 minutes of a core: mIoU of one-shot validation episodes, 150 of each, 0.621
base, 0.592 novel (docs/results.md). Twins and pictures without the thing came in at step 1200, when the schedule, laid
out for 4,400 steps, was shortened.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

with read_base():
    from .stickers_small import *

steps = 4000
model.task.update(init="ovdet/seggpt/stickers.safetensors", names=556, threshold=0.25)
train_dataloader.dataset.update(same_drawing=0.1, twin_share=0.1, absent_share=0.1, seed=1)
optim_wrapper.optimizer.update(lr=7e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=100, end=steps, T_max=steps - 100, eta_min=1e-5),
]
train_cfg.update(max_iters=steps)
