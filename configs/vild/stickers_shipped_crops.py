"""Boxes and masks of stickers_shipped.py, named by the teacher on crops, sticker scenes: what `--model stickers` does.

python tools/test.py configs/vild/stickers_shipped_crops.py work_dirs/stickers_shipped/iter_3200.pth
The teacher of this world is small enough to look at each of 80 boxes; temperature chosen on validation scenes.
Here: 2026-11-22, seed 0, 1000 scenes, 741 candidates (docs/results.md):
box AP50 base 57.8, novel 57.3, all 57.7, masks all 51.8; Twemoji all 30.8.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers_crops

with read_base():
    from .._base_.stickers import *

model = dict(type=vild_stickers_crops, variant="ensemble", temperature=0.04)
