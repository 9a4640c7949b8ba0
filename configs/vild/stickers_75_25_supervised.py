"""Supervised baseline: a closed set's own classifier, compact detector, sticker scenes, 556 base and 185 novel names.

python tools/train.py configs/vild/stickers_75_25_supervised.py
The trunk starts from crops of base names alone (configs/vlm/sticker_base_75_25.py).
A box head with a learned row for each name: novel names cannot come out, so that AP novel is 0 by construction.
Here: 2026-11-30, seed 0, 1500 steps, 1000 scenes, 741 candidates (docs/results.md):
box AP50 base 11.2, novel 0.0, all 8.4; masks base 10.5, novel 0.0, all 7.9.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers

with read_base():
    from .._base_.stickers import *

trunk = "work_dirs/sticker_base_75_25/iter_3500.pth"
model = dict(type=vild_stickers, variant="supervised", closed_classes=741, trunk_checkpoint=trunk)
custom_hooks[1].update(teacher=None)
