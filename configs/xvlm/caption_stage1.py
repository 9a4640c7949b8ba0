"""X-VLM base, captions of 4 million pictures: the stage before COCO's.

tools/dist_train.sh configs/xvlm/caption_stage1.py 8
Published: 2 passes over 5,114,489 captions, 128 a GPU.
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.optim import LinearLR
from torch.optim import AdamW

from ovdet.data.batches import collate_texts
from ovdet.data.grains import captioned_pictures
from ovdet.engine.loss_scale import CappedAmpOptimWrapper
from ovdet.engine.sentences import ByName, SentenceTraining
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 2 * 4995, 999

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="caption",
        vocabulary=vocabulary,
        image_size=224,
        max_words=40,
        max_tokens=40,
        start="data/xvlm/4m_base.pth",
    ),
)
train_dataloader = dict(
    batch_size=128,
    collate_fn=dict(type=collate_texts),
    num_workers=4,
    persistent_workers=True,
    sampler=None,
    dataset=dict(
        type=captioned_pictures,
        files=["data/xvlm/coco", "data/xvlm/vg", "data/xvlm/sbu", "data/xvlm/cc3m"],
        side=224,
        max_words=40,
    ),
)
optim_wrapper = dict(
    type=CappedAmpOptimWrapper,
    constructor=ByName,
    optimizer=dict(type=AdamW, lr=3e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(no_decay=no_decay),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warm_up + 1),
    dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warm_up, end=steps + 1),
]
train_cfg.update(max_iters=steps)
