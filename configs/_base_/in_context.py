"""What the recipes of SegGPT share: how samples are drawn and fetched, hooks, logging."""

from mmengine.dataset import default_collate
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import LogProcessor

from ovdet.data.sampling import SeededSampler
from ovdet.engine.hooks import RepeatableHook

train_dataloader = dict(
    batch_size=2,
    collate_fn=dict(type=default_collate),
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
)
custom_hooks = [dict(type=RepeatableHook)]
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=50),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=1000, max_keep_ckpts=2),
)
log_processor = dict(type=LogProcessor, window_size=50, by_epoch=False)
