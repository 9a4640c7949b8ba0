"""What the recipes of X-VLM share: loop by iterations, logs, checkpoints."""

from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import LogProcessor, TestLoop, ValLoop

from ovdet.engine.hooks import RepeatableHook
from ovdet.engine.loops import ResumableIterLoop

vocabulary = "data/bert-base-uncased/vocab.txt"
no_decay = ["bias", r"norm\d?\.weight$"]  # as the official code, the norms of the heads are decayed
new_parts = [r"fusion\.layers\.\d+\.(cross_attn|norm2)\.", r"\.space\.", r"\.match_head\.", r"\.box_head\."]

custom_hooks = [dict(type=RepeatableHook)]
train_cfg = dict(type=ResumableIterLoop, max_iters=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
default_hooks = dict(
    logger=dict(type=LoggerHook, interval=50),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=5000, max_keep_ckpts=3),
)
log_processor = dict(type=LogProcessor, window_size=50, by_epoch=False)
