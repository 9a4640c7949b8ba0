"""X-VLM base on NLVR2.   tools/dist_train.sh configs/xvlm/nlvr2.py 8

The best of the passes is kept, by its accuracy on dev, as published; tools/test.py is on test-P (test1.json).
Official README: dev / test-P 84.41 / 84.76 (16M), 84.16 / 84.21 (4M).
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import LinearLR, OptimWrapper
from torch.optim import AdamW

from ovdet.data.nlvr import collate_pairs, nlvr2_pairs
from ovdet.data.sampling import SeededSampler
from ovdet.engine.sentences import ByName, SentenceTraining
from ovdet.metrics.sentence_evaluators import PairMetric
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 10 * 1079, 1079

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="nlvr",
        vocabulary=vocabulary,
        image_size=384,
        start="data/xvlm/nlvr2_stage1.pth",
    ),
)
train_dataloader = dict(
    batch_size=10,
    collate_fn=dict(type=collate_pairs),
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=nlvr2_pairs, file="data/nlvr2/train.json", picture_root="data/nlvr2", training=True),
)
val_dataloader = dict(
    batch_size=10,
    collate_fn=dict(type=collate_pairs),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=nlvr2_pairs, file="data/nlvr2/dev.json", picture_root="data/nlvr2"),
)
test_dataloader = dict(
    batch_size=10,
    collate_fn=dict(type=collate_pairs),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=nlvr2_pairs, file="data/nlvr2/test1.json", picture_root="data/nlvr2"),
)
val_evaluator = dict(type=PairMetric)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=OptimWrapper,
    constructor=ByName,
    optimizer=dict(type=AdamW, lr=3e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(no_decay=no_decay, faster=[r"\.head\."], lr_mult=2.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warm_up + 1),
    dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warm_up, end=steps + 1),
]
train_cfg.update(max_iters=steps, val_interval=1079)
default_hooks.checkpoint.update(interval=1079, save_best="nlvr/accuracy", rule="greater")
