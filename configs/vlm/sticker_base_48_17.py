"""A trunk that has seen the base names of split 48-17 alone, as crops: where the sticker detectors start from.

python tools/train.py configs/vlm/sticker_base_48_17.py --work-dir work_dirs/sticker_base_48_17
The teacher's recipe (configs/vlm/sticker_clip.py), without the novel names and shorter.
Here: 2026-11-22, seed 0: top 1 of 48 names 96.0 on 2,223 validation crops.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

with read_base():
    from .sticker_clip import *

steps = 1500

train_dataloader.dataset.update(split="48-17", base_only=True)
val_dataloader.dataset.update(split="48-17", base_only=True)
test_dataloader.dataset.update(split="48-17", base_only=True)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=300),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=300, end=steps, T_max=steps - 300, eta_min=1e-5),
]
train_cfg.update(max_iters=steps, val_interval=500)
