"""Masks of `--model stickers`, which read the trunk's stride 4 too, learned on the detector of stickers_shipped.py.

python tools/train.py configs/vild/stickers_shipped_masks.py
All but the masks is frozen and stays as it was; names without boxes are given no masks either.
Here: 2026-11-30, seed 0, started from the shipped file; figures in docs/results.md and stickers_shipped_crops.py.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

from ovdet.vild.sticker_build import vild_stickers_masks

with read_base():
    from .._base_.stickers import *

steps = 2000

model = dict(type=vild_stickers_masks, variant="ensemble", start="work_dirs/stickers_shipped/iter_3200.pth")
custom_hooks[1].pop("teacher")
train_dataloader["dataset"].update(restyle_share=0.25, seed=2)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=50, end=steps, T_max=steps - 50, eta_min=1e-5),
]
train_cfg.update(max_iters=steps, val_interval=1000)
