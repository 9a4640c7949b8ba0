"""ViLD (w = 0.8), compact detector, sticker scenes, 556 base and 185 novel names.

python tools/train.py configs/vild/stickers_75_25_vild.py
The trunk starts from crops of base names alone (configs/vlm/sticker_base_75_25.py).
One head learns both ways; the teacher names the detector's own best nine proposals.
Here: 2026-12-01, seed 0, 1500 steps, 1000 scenes, 741 candidates (docs/results.md):
box AP50 base 29.3, novel 23.1, all 27.7; masks base 26.1, novel 20.8, all 24.8.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers

with read_base():
    from .._base_.stickers import *

trunk = "work_dirs/sticker_base_75_25/iter_3500.pth"
model = dict(type=vild_stickers, variant="vild", distill_weight=0.8, teacher_boxes=9, trunk_checkpoint=trunk)
