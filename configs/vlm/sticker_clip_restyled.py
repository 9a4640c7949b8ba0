"""The sticker world's teacher, second half: half of the drawings redrawn in other manners, for artists never seen.

python tools/train.py configs/vlm/sticker_clip_restyled.py --work-dir work_dirs/sticker_clip_restyled
Goes on from configs/vlm/sticker_clip.py, with a lower learning rate.
Here: 2026-11-22, stopped at step 5900 of 8000; configs/vlm/sticker_clip_scenes.py went on from 5500; not tested.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

with read_base():
    from .sticker_clip import *

steps = 8000

load_from = "work_dirs/sticker_clip/iter_11000.pth"
train_dataloader.dataset.update(restyle_share=0.5)
optim_wrapper.optimizer.update(lr=8e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=200),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=200, end=steps, T_max=steps - 200, eta_min=1e-5),
]
train_cfg.update(max_iters=steps, val_interval=1000)
