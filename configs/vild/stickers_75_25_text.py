"""ViLD-text, compact detector, sticker scenes, 556 base and 185 novel names.

python tools/train.py configs/vild/stickers_75_25_text.py
The trunk starts from crops of base names alone (configs/vlm/sticker_base_75_25.py).
Here: 2026-11-30, seed 0, 1500 steps, 1000 scenes, 741 candidates (docs/results.md):
box AP50 base 24.2, novel 14.1, all 21.7; masks base 21.6, novel 12.6, all 19.3.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers

with read_base():
    from .._base_.stickers import *

trunk = "work_dirs/sticker_base_75_25/iter_3500.pth"
model = dict(type=vild_stickers, variant="text", trunk_checkpoint=trunk)
custom_hooks[1].update(teacher=None)
