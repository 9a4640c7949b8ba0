"""Fourth stage of the small SegGPT of stickers.   python tools/train.py configs/seggpt/stickers_small_stage4.py
--cfg-options model.task.init=FILE: what configs/seggpt/stickers_small_stage3.py gave; else the shipped weights.

Beside one name a canvas, two or three in colours of their own, and the one of two drawings of a name that is meant:
what `together` and `mode="instance"` ask for (docs/seggpt.md).
Here: 2026-12-01, 38,400 canvases, 55 minutes of a core. Validation (100 episodes; the third stage's first): the other
drawing marked in 62 and 47 %, mIoU of `together` 0.17 and 0.20, a pass each 0.53 and 0.52; one-shot (150 of each) 0.601
base, 0.568 novel. Not shipped.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

from ovdet.seggpt.colours import class_colours

with read_base():
    from .stickers_small_stage3 import *

steps = 2400
train_dataloader.dataset.update(
    of_name=10, absent_share=0.15, several_share=0.15, instance_share=0.1, palette=class_colours, seed=3
)
optim_wrapper.optimizer.update(lr=6e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=100, end=steps, T_max=steps - 100, eta_min=1e-5),
]
train_cfg.update(max_iters=steps)
