"""In-context tuning: a learned prompt for ADE20K's 150 classes.   python tools/train.py configs/seggpt/tune_ade20k.py
Paper: 39.6 mIoU, 50.7 mAcc (arXiv:2304.03284, table 5). Here: not trained yet.

The model is frozen; a picture and a painting learn to be the prompt, from random numbers. What is learned besides the
picture, how it starts and the schedule are not published: those are ours. Classes have Painter's colours.
For `scenes.py --prompt` and `ovdet segment --prompt`:
python tools/convert/seggpt.py iter_20000.pth ade20k_prompt.safetensors --trained-by configs/seggpt/tune_ade20k.py
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from torch.optim import AdamW

from ovdet.data.label_maps import ade20k, ade_names
from ovdet.data.painted import painted_pictures
from ovdet.engine.contrastive import TowerTraining
from ovdet.engine.loops import ResumableIterLoop
from ovdet.seggpt.colours import class_colours
from ovdet.seggpt.training import prompt_tuning

with read_base():
    from .._base_.in_context import *

steps, warm_up = 20000, 500
root = "data/ADEChallengeData2016"

task = dict(
    type=prompt_tuning,
    model="data/seggpt_vit_large.pth",
    names=dict(type=ade_names, root=root),
    palette=class_colours,
    kind=0,
)
model = dict(type=TowerTraining, task=task)
train_dataloader.update(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        type=painted_pictures,
        source=dict(type=ade20k, root=root),
        palette=class_colours,
        classes=150,
    ),
)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-2, weight_decay=0.0),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=warm_up, end=steps, T_max=steps - warm_up, eta_min=0.0),
]
train_cfg = dict(type=ResumableIterLoop, max_iters=steps)
