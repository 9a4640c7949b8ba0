"""X-VLM base, captions of COCO (Karpathy's split), by reward: self-critical training after caption.py.

tools/dist_train.sh configs/xvlm/caption_scst.py 8
Words are counted first, by tools/data/caption_frequencies.py (docs/grounding_data.md).
Published is step 41,000, which is among the 8 last checkpoints that are kept; so is the best on Karpathy's val.
Official README: BLEU-4 41.0, CIDEr 140.3 (16M, step 41,000); 41.3, 140.8 (4M).
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import LinearLR, OptimWrapper
from torch.optim import AdamW

from ovdet.data.batches import collate_texts
from ovdet.data.karpathy import karpathy_test, karpathy_training
from ovdet.data.sampling import SeededSampler
from ovdet.engine.sentences import ByName, RewardHook, SentenceTraining
from ovdet.metrics.cider import CiderReward
from ovdet.metrics.sentence_evaluators import CaptionMetric
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 5 * 8855, 4427

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
        samples=5,
        longest=20,
        start="data/xvlm/caption.pth",
    ),
)
train_dataloader = dict(
    batch_size=8,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(
        type=karpathy_training,
        file="data/karpathy/dataset_coco.json",
        picture_root="data/coco",
        max_words=40,
        references=5,
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
custom_hooks += [
    dict(type=RewardHook, reward=dict(type=CiderReward, frequencies="data/karpathy/coco_frequencies.json"))
]
train_cfg.update(max_iters=steps, val_interval=500)
default_hooks.checkpoint.update(interval=500, max_keep_ckpts=8, save_best="caption/CIDEr", rule="greater")
