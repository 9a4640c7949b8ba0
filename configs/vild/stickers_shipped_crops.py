"""Boxes and masks of stickers_shipped.py, named by the teacher on crops, sticker scenes: what `--model stickers` does.

python tools/test.py configs/vild/stickers_shipped_crops.py work_dirs/stickers_shipped_masks/iter_2000.pth
The teacher of this world is small enough to look at each of 80 boxes; temperature chosen on validation scenes.
Here: 2026-11-30, seed 0, 1000 scenes, 741 candidates, bfloat16 (docs/results.md), the teacher of
configs/vlm/sticker_clip_scenes.py: box AP50 base 64.6, novel 63.6, all 64.3, masks all 59.5; Twemoji all 37.1.
"""

from mmengine.config import read_base

from ovdet.vild.build import vild_stickers_crops

with read_base():
    from .._base_.stickers import *

model = dict(type=vild_stickers_crops, variant="ensemble", temperature=0.04, fine_masks=True, mask_threshold=0.45)
