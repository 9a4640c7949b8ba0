"""Boxes and masks of things without names, on the frozen ImageNet trunk of `imagenet-words`, taught by stickers.

export OVDET_STICKERS=...   (made by tools/data/pack_stickers.py)
export OVDET_GROUNDS=...    (optional: a folder of photographs for grounds and textures, tools/data/fetch_grounds.py)
python tools/train.py configs/zeroshot/lite0_proposer.py --amp --work-dir work_dirs/lite0_proposer
python tools/benchmarks/photographs/pack_proposer.py --last work_dirs/lite0_proposer/iter_3000.pth proposer.safetensors

About 0.7 seconds of one core a step; `--resume` goes on.
Here: 2026-12-01, all steps, 25 minutes of a core: no better than the maps alone on the report half (docs/zeroshot.md).
"""

from mmengine.hooks import CheckpointHook, EMAHook, LoggerHook
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import LinearLR, OptimWrapper
from mmengine.runner import LogProcessor
from torch.optim import AdamW

from ovdet.data.sampling import SeededSampler
from ovdet.data.stickers.photolike import photolike_scenes
from ovdet.engine.hooks import RepeatableHook
from ovdet.engine.loops import ResumableIterLoop
from ovdet.zeroshot.training import collate, proposer_training

model = dict(type=proposer_training, regions=8)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=photolike_scenes, length=1_000_000, seed=0, side=224),
    collate_fn=dict(type=collate),
)
optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(type=AdamW, lr=8e-4, weight_decay=0.02), clip_grad=dict(max_norm=10.0)
)
param_scheduler = [dict(type=LinearLR, start_factor=0.02, by_epoch=False, begin=0, end=100)]
train_cfg = dict(type=ResumableIterLoop, max_iters=3000)
custom_hooks = [
    dict(type=RepeatableHook),
    dict(type=EMAHook, ema_type=ExponentialMovingAverage, momentum=0.005),  # any step is as good to stop at
]
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=25),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=100, max_keep_ckpts=3),
)
log_processor = dict(type=LogProcessor, window_size=25, by_epoch=False)
