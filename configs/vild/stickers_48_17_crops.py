"""Teacher on crops of a trained ViLD-text's boxes, sticker scenes, 48 base and 17 novel names.

python tools/test.py configs/vild/stickers_48_17_crops.py work_dirs/stickers_48_17_text/iter_1500.pth
For tests alone. A score is the geometric mean of the teacher's probability and the proposal's objectness.
Here: 2026-12-01, seed 0, 1000 scenes, 65 candidates (docs/results.md):
box AP50 base 60.1, novel 52.9, all 58.2; masks base 46.8, novel 33.5, all 43.3.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers_crops

with read_base():
    from .._base_.stickers import *

model = dict(type=vild_stickers_crops, variant="text")
train_dataloader["dataset"].update(split="48-17")
val_dataloader["dataset"].update(split="48-17")
test_dataloader["dataset"].update(split="48-17")
