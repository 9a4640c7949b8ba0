"""X-VLM base, retrieval on COCO (Karpathy's split).   tools/dist_train.sh configs/xvlm/retrieval_coco.py 8

Official README, 5K test, two stages (k = 256): TR@1 81.2, IR@1 63.4 (16M); 80.4, 63.1 (4M).
Validation is the first stage alone; tools/test.py, in one process, is both. The best of the passes is kept by the mean
recall of the first stage on the test pictures; published is the choice by both stages, on the test pictures too.
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import LinearLR, OptimWrapper
from torch.optim import AdamW

from ovdet.data.batches import collate_texts
from ovdet.data.karpathy import karpathy_test, karpathy_training
from ovdet.data.sampling import SeededSampler
from ovdet.engine.sentences import ByName, SecondStageHook, SentenceTraining
from ovdet.metrics.sentence_evaluators import RetrievalMetric
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 10 * 3542, 3542

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="retrieval",
        vocabulary=vocabulary,
        image_size=384,
        by_picture=True,
        start="data/xvlm/16m_base.pth",
    ),
)
train_dataloader = dict(
    batch_size=20,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=karpathy_training, file="data/karpathy/dataset_coco.json", picture_root="data/coco"),
)
val_dataloader = dict(
    batch_size=12,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=karpathy_test, file="data/karpathy/dataset_coco.json", picture_root="data/coco"),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=RetrievalMetric)
test_evaluator = dict(type=RetrievalMetric, keep=256)
custom_hooks += [dict(type=SecondStageHook)]
optim_wrapper = dict(
    type=OptimWrapper,
    constructor=ByName,
    optimizer=dict(type=AdamW, lr=3e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(no_decay=no_decay),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warm_up + 1),
    dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warm_up, end=steps + 1),
]
train_cfg.update(max_iters=steps, val_interval=3542)
default_hooks.checkpoint.update(interval=3542, save_best="retrieval/mean", rule="greater")
