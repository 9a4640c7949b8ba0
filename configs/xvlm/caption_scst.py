"""X-VLM base, captions of COCO (Karpathy's split), by reward: self-critical training after caption.py.

tools/dist_train.sh configs/xvlm/caption_scst.py 8
Words are counted first, by tools/data/caption_frequencies.py (docs/grounding_data.md).
Published is step 41,000, which is among the 8 last checkpoints that are kept; so is the best on Karpathy's val.
Official README: BLEU-4 41.0, CIDEr 140.3 (16M, step 41,000); 41.3, 140.8 (4M).
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.optim import LinearLR

from ovdet.engine.sentences import RewardHook
from ovdet.metrics.cider import CiderReward

with read_base():
    from .caption import *

steps, warm_up = 5 * 8855, 4427

model.task.pop("smoothing")
model.task.update(samples=5, longest=20, start="data/xvlm/caption.pth")
train_dataloader.update(batch_size=8)
train_dataloader.dataset.pop("prompt")
train_dataloader.dataset.update(references=5)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warm_up + 1),
    dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warm_up, end=steps + 1),
]
custom_hooks += [
    dict(type=RewardHook, reward=dict(type=CiderReward, frequencies="data/karpathy/coco_frequencies.json"))
]
train_cfg.update(max_iters=steps, val_interval=500)
default_hooks.checkpoint.update(interval=500, max_keep_ckpts=8)
