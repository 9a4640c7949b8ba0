"""X-VLM base, captions of COCO (Karpathy's split), cross-entropy.   tools/dist_train.sh configs/xvlm/caption.py 8

Published is the last of five passes; the best of them on Karpathy's val is kept beside it.
Official README: BLEU-4 39.9, CIDEr 134.0 (16M); 39.8, 133.1 (4M). After it: caption_scst.py.
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import LinearLR, OptimWrapper
from torch.optim import AdamW

from ovdet.data.batches import collate_texts
from ovdet.data.karpathy import karpathy_test, karpathy_training
from ovdet.data.sampling import SeededSampler
from ovdet.engine.sentences import ByName, SentenceTraining
from ovdet.metrics.sentence_evaluators import CaptionMetric
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 5 * 2213, 1106

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="caption",
        vocabulary=vocabulary,
        image_size=384,
        max_words=43,
        max_tokens=40,
        prompt="a picture of ",
        smoothing=0.1,
        start="data/xvlm/caption_stage1.pth",
    ),
)
train_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(
        type=karpathy_training,
        file="data/karpathy/dataset_coco.json",
        picture_root="data/coco",
        max_words=40,
        prompt="a picture of ",
    ),
)
val_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=karpathy_test, file="data/karpathy/dataset_coco.json", picture_root="data/coco", split="val"),
)
test_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=karpathy_test, file="data/karpathy/dataset_coco.json", picture_root="data/coco"),
)
val_evaluator = dict(type=CaptionMetric, out="work_dirs/captions.json")
test_evaluator = val_evaluator
optim_wrapper = dict(
    type=OptimWrapper,
    constructor=ByName,
    optimizer=dict(type=AdamW, lr=1e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(no_decay=no_decay),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warm_up + 1),
    dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warm_up, end=steps + 1),
]
train_cfg.update(max_iters=steps, val_interval=2213)
default_hooks.checkpoint.update(interval=2213, save_best="caption/CIDEr", rule="greater")
