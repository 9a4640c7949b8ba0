"""In-context tuning of the small SegGPT: one prompt for three novel names.   python tools/train.py
configs/seggpt/tune_stickers.py   with OVDET_STICKERS naming the sprite pack (docs/stickers.md).
Here: 2026-12-01, 200 steps, 8 minutes of a shared core: mIoU of the three names in 200 scenes of the evaluation stream
0.18, by one example of each 0.39, by eight 0.48 (tools/benchmarks/sticker_modes.py prompt FILE --episodes 200). One
pass paints all three, and that is what the small network cannot do (docs/seggpt.md).

The model is frozen; a picture and a painting, at first a scene that shows the first name, learn to be the prompt. Then
python tools/convert/seggpt.py iter_200.pth prompt.safetensors --trained-by configs/seggpt/tune_stickers.py
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import AdamW

from ovdet.data.painted import painted_pictures
from ovdet.data.stickers.episodes import sticker_classes
from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.contrastive import TowerTraining
from ovdet.engine.loops import ResumableIterLoop
from ovdet.seggpt.colours import class_colours
from ovdet.seggpt.training import prompt_tuning

with read_base():
    from .._base_.in_context import *

steps, batch = 200, 16
names = ["owl", "umbrella", "bicycle"]
world = dict(split="75-25", side=160, objects=(1, 4), long_side=(40, 140))
data = dict(
    type=painted_pictures,
    source=dict(type=sticker_classes, world=world, names=names, length=steps * batch),
    palette=class_colours,
    classes=len(names),
    view=dict(size=192, scale=(0.6, 1.0), jitter_share=0.0),
)
task = dict(type=prompt_tuning, names=names, palette=class_colours, start=data)
task.update(model="ovdet/seggpt/stickers.safetensors")
model = dict(type=TowerTraining, task=task)
train_dataloader.update(batch_size=batch, num_workers=0, persistent_workers=False, dataset=data)
optim_wrapper = dict(
    type=CpuAmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=3e-2, weight_decay=0.0),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=20, end=steps, T_max=steps - 20, eta_min=0.0),
]
train_cfg = dict(type=ResumableIterLoop, max_iters=steps)
default_hooks.checkpoint.update(interval=50)
