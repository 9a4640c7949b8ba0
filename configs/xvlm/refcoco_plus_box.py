"""X-VLM base on RefCOCO+ with boxes.   tools/dist_train.sh configs/xvlm/refcoco_plus_box.py 8

The best of the passes is kept, by its accuracy on val, as published.
Official README: accuracy at IoU 0.5 val / testA / testB 84.51 / 89.00 / 76.91 (16M), 80.17 / 86.36 / 71.00 (4M).
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import LinearLR, OptimWrapper
from torch.optim import AdamW

from ovdet.data.batches import collate_texts
from ovdet.data.referring import refcoco_test, refcoco_training
from ovdet.data.sampling import SeededSampler
from ovdet.engine.sentences import ByName, SentenceTraining
from ovdet.metrics.sentence_evaluators import GroundingMetric
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 10 * 751, 751

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="box",
        vocabulary=vocabulary,
        image_size=384,
        max_words=30,
        max_tokens=40,
        start="data/xvlm/refcoco_plus_box_stage1.pth",
    ),
)
train_dataloader = dict(
    batch_size=20,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(
        type=refcoco_training, root="data/refer", name="refcoco+", division="unc", picture_root="data/coco/train2014"
    ),
)
val_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=refcoco_test, root="data/refer", name="refcoco+", division="unc", picture_root="data/coco/train2014"
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=GroundingMetric, prefix="refcoco+")
test_evaluator = val_evaluator
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
train_cfg.update(max_iters=steps, val_interval=751)
default_hooks.checkpoint.update(interval=751, save_best="refcoco+/val_inclusive", rule="greater")
