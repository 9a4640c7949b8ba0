"""Teacher on crops of a trained ViLD-text's boxes, sticker scenes, 556 base and 185 novel names.

python tools/test.py configs/vild/stickers_75_25_crops.py work_dirs/stickers_75_25_text/iter_1500.pth
For tests alone. A score is the geometric mean of the teacher's probability and the proposal's objectness.
Here: 2026-11-30, seed 0, boxes of ViLD-text after 1500 steps, 1000 scenes, 741 candidates (docs/results.md):
box AP50 base 56.8, novel 55.3, all 56.4; masks base 50.5, novel 47.5, all 49.7.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers_crops

with read_base():
    from .._base_.stickers import *

model = dict(type=vild_stickers_crops, variant="text")
