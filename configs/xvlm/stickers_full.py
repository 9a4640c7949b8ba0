"""Small X-VLM on the offline world: all grains with boxes.

python tools/train.py configs/xvlm/stickers_full.py
One of three that differ in nothing else (the paper's ablation in small). The trunk starts from crops of base names.
Here: not trained yet; builds and steps on CPU (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base

from ovdet.engine.sentences import SentenceTraining
from ovdet.xvlm.recipes import small_training

with read_base():
    from .._base_.sticker_sentences import *

trunk = "work_dirs/sticker_base_75_25/iter_3500.pth"
model = dict(type=SentenceTraining, task=dict(type=small_training, trunk=trunk, losses=("contrast", "match", "box")))
