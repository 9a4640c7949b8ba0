"""ViLD-text, compact detector, sticker scenes, 48 base and 17 novel names.

python tools/train.py configs/vild/stickers_48_17_text.py
The trunk starts from crops of base names alone (configs/vlm/sticker_base_48_17.py).
Here: 2026-12-01, seed 0, 1500 steps, 1000 scenes, 65 candidates (docs/results.md):
box AP50 base 54.6, novel 9.0, all 42.7; masks base 43.6, novel 6.5, all 33.9.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers

with read_base():
    from .._base_.stickers import *

trunk = "work_dirs/sticker_base_48_17/iter_1500.pth"
model = dict(type=vild_stickers, variant="text", trunk_checkpoint=trunk)
custom_hooks[1].update(teacher=None)
train_dataloader["dataset"].update(split="48-17")
val_dataloader["dataset"].update(split="48-17")
test_dataloader["dataset"].update(split="48-17")
