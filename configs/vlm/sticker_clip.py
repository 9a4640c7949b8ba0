"""The sticker world's teacher on one CPU thread: crops of 64 pixels against 741 names and texts that tell colours.

python tools/train.py configs/vlm/sticker_clip.py --work-dir work_dirs/sticker_clip
OVDET_STICKERS must name the sprite pack (docs/stickers.md).
Here: 2026-11-22, seed 0 (docs/results.md): top 1 of 741 names 93.5, Twemoji 55.2, OpenMoji 18.6. The schedule was
laid out for 15,000 steps and shortened to 11,000 at step 6,000.
"""

from mmengine.dataset import DefaultSampler, default_collate
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.runner import LogProcessor, TestLoop, ValLoop
from torch.optim import AdamW

from ovdet.data.sampling import SeededSampler
from ovdet.data.stickers.teaching import TeacherCrops
from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.contrastive import TextsHook, TowerTraining
from ovdet.engine.hooks import RepeatableHook
from ovdet.engine.loops import ResumableIterLoop
from ovdet.metrics.evaluator import TopK
from ovdet.vlm.contrastive.sticker_training import StickerCLIPTraining

steps = 11000
batch = 64

model = dict(type=TowerTraining, task=dict(type=StickerCLIPTraining))
train_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=default_collate),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=TeacherCrops, split="75-25", length=2_000_000),
)
val_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=default_collate),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=TeacherCrops, split="75-25", length=2223, stream="validation"),
)
test_dataloader = dict(
    batch_size=batch,
    collate_fn=dict(type=default_collate),
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=TeacherCrops, split="75-25", length=7410, stream="evaluation"),
)
val_evaluator = dict(type=TopK)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=CpuAmpOptimWrapper,
    optimizer=dict(type=AdamW, lr=1.5e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"log_scale": dict(lr_mult=5.0, decay_mult=0.0)}
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.05, by_epoch=False, begin=0, end=300),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=300, end=steps, T_max=steps - 300, eta_min=1e-5),
]
custom_hooks = [dict(type=RepeatableHook), dict(type=TextsHook)]
train_cfg = dict(type=ResumableIterLoop, max_iters=steps, val_interval=1500)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=100),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=500, max_keep_ckpts=2),
)
log_processor = dict(type=LogProcessor, window_size=100, by_epoch=False)
