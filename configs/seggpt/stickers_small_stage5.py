"""Fifth stage of the small SegGPT of stickers.   python tools/train.py configs/seggpt/stickers_small_stage5.py
--cfg-options model.task.init=FILE: the mean of what stages 2, 3 and 4 gave (tools/convert/seggpt.py); else the shipped
weights.

One name a canvas again, on more scenes than the stages before drew (docs/seggpt.md).
Here: 2026-12-01, 54,400 canvases, 76 minutes of a core: 0.615 base, 0.579 novel (300 one-shot validation episodes of
each; the second stage 0.606, 0.591). Not shipped.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

with read_base():
    from .stickers_small_stage3 import *

steps = 3400
train_dataloader.dataset.update(of_name=12, absent_share=0.1, seed=4)
optim_wrapper.optimizer.update(lr=7e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=100, end=steps, T_max=steps - 100, eta_min=1e-5),
]
train_cfg.update(max_iters=steps)
