"""ViLD-image (w = 0.8), compact detector, sticker scenes, 556 base and 185 novel names.

python tools/train.py configs/vild/stickers_75_25_image.py
The trunk starts from crops of base names alone (configs/vlm/sticker_base_75_25.py).
Names come from distillation alone; the teacher names the detector's own best nine proposals.
Here: not trained yet; builds and steps on CPU (tests/test_sticker_configs.py).
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers

with read_base():
    from .._base_.stickers import *

trunk = "work_dirs/sticker_base_75_25/iter_3500.pth"
model = dict(type=vild_stickers, variant="image", distill_weight=0.8, teacher_boxes=9, trunk_checkpoint=trunk)
