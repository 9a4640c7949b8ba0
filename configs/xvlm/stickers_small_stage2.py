"""Second stage of the small X-VLM of stickers: sentences that name nothing.

python tools/train.py configs/xvlm/stickers_small_stage2.py
--cfg-options model.task.init=FILE: what configs/xvlm/stickers_small.py gave; else the shipped weights.
"the largest thing", "the red object", "the thing above the dog" take their turns with the other kinds of expressions.
Here: 2026-11-30, 14 minutes of a core (docs/results.md), own boxes at IoU 0.5: names 56.7 base, 54.7 novel; relations
36.6 base.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR

with read_base():
    from .stickers_small import *

steps, warm_up = 500, 40

model.task.update(init="ovdet/xvlm/stickers.safetensors")
train_dataloader.sampler.update(seed=1)
train_dataloader.dataset.update(nouns=("thing", "object"), seed=1)
optim_wrapper.optimizer.update(lr=2e-4)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=warm_up),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=warm_up, end=steps, T_max=steps - warm_up, eta_min=5e-6),
]
train_cfg.update(max_iters=steps)
