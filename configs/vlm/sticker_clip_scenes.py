"""The sticker world's teacher, last stage: half of the crops cut out of whole scenes, as a detector's boxes cut them.

python tools/train.py configs/vlm/sticker_clip_scenes.py --work-dir work_dirs/sticker_clip_scenes
Goes on from configs/vlm/sticker_clip_restyled.py; the text projection of configs/vlm/sticker_clip.py is put back and
kept, so that detectors trained on its vectors stay right.
Here: 2026-11-22, seed 0 (docs/results.md), shipped: top 1 of 741 names 92.9, Twemoji 57.3, OpenMoji 36.7.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

from ovdet.engine.contrastive import TowerTraining
from ovdet.vlm.contrastive.sticker_training import StickerCLIPTraining

with read_base():
    from .sticker_clip import *

steps = 3000

model = dict(
    type=TowerTraining,
    task=dict(
        type=StickerCLIPTraining,
        start="work_dirs/sticker_clip_restyled/iter_5500.pth",
        fixed_texts="work_dirs/sticker_clip/iter_11000.pth",
    ),
)
train_dataloader.dataset.update(restyle_share=0.35, scene_share=0.5, seed=1)
optim_wrapper.optimizer.update(lr=7e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=100, end=steps, T_max=steps - 100, eta_min=1e-5),
]
train_cfg.update(max_iters=steps, val_interval=1500)
