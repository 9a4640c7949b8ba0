"""ViLD-ensemble (w = 0.8), compact detector, sticker scenes, 48 base and 17 novel names.

python tools/train.py configs/vild/stickers_48_17_ensemble.py
The trunk starts from crops of base names alone (configs/vlm/sticker_base_48_17.py).
Two heads; the teacher names the detector's own best nine proposals.
Here: 2026-12-01, seed 0, 1500 steps, 1000 scenes, 65 candidates (docs/results.md):
box AP50 base 55.2, novel 26.6, all 47.7; masks base 44.4, novel 18.5, all 37.6.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers

with read_base():
    from .._base_.stickers import *

trunk = "work_dirs/sticker_base_48_17/iter_1500.pth"
model = dict(type=vild_stickers, variant="ensemble", distill_weight=0.8, teacher_boxes=9, trunk_checkpoint=trunk)
train_dataloader["dataset"].update(split="48-17")
val_dataloader["dataset"].update(split="48-17")
test_dataloader["dataset"].update(split="48-17")
