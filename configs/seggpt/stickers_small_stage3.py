"""Third stage of the small SegGPT of stickers.   python tools/train.py configs/seggpt/stickers_small_stage3.py
--cfg-options model.task.init=FILE: what configs/seggpt/stickers_small_stage2.py gave; else the shipped weights.

Other scenes again, a quarter of them crowded with small things, some redrawn in manners that no artist of the training
has; twice as many pictures without the thing (docs/seggpt.md).
Here: not trained yet.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

with read_base():
    from .stickers_small_stage2 import *

steps = 1800
crowded = dict(objects=(4, 7), long_side=(24, 80), restyle_share=0.4)
train_dataloader.dataset.update(crowded=crowded, absent_share=0.2, seed=2)
optim_wrapper.optimizer.update(lr=5e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=100, end=steps, T_max=steps - 100, eta_min=1e-5),
]
train_cfg.update(max_iters=steps)
