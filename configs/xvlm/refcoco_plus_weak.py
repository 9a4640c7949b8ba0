"""X-VLM base on RefCOCO+ without boxes: contrastive and matching losses on pictures and sentences.

tools/dist_train.sh configs/xvlm/refcoco_plus_weak.py 8
The best of the passes is kept, by its accuracy on val, as published.
First public README, 4M: val / testA / testB 68.5 / 76.5 / 57.1, heat maps (layer 9) over MAttNet's detector boxes.
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

steps, warm_up = 5 * 751, 375
files = dict(root="data/refer", name="refcoco+", division="unc", picture_root="data/coco/train2014")

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="retrieval",
        vocabulary=vocabulary,
        image_size=384,
        by_picture=True,
        heat=True,
        start="data/xvlm/4m_base.pth",
    ),
)
train_dataloader = dict(
    batch_size=20,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(type=refcoco_training, **files, whole=True, side_words="ignore"),
)
val_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=refcoco_test, **files, detector_boxes="data/refer/refcoco+/dets.json"),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=GroundingMetric, prefix="refcoco+")
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=OptimWrapper,
    constructor=ByName,
    optimizer=dict(type=AdamW, lr=2e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(no_decay=no_decay),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warm_up + 1),
    dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warm_up, end=steps + 1),
]
train_cfg.update(max_iters=steps, val_interval=751)
default_hooks.checkpoint.update(interval=751, save_best="refcoco+/val_inclusive", rule="greater")
