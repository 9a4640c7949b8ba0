"""X-VLM base, boxes from regions of COCO and Visual Genome: the stage before RefCOCO+.

tools/dist_train.sh configs/xvlm/refcoco_plus_box_stage1.py 8
Published: 2 passes over 318,547 pictures, 24 regions from at most 9 pictures a GPU.
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.optim import LinearLR
from torch.optim import AdamW

from ovdet.data.batches import fixed_texts
from ovdet.data.grains import region_texts
from ovdet.engine.loss_scale import CappedAmpOptimWrapper
from ovdet.engine.sentences import ByName, SentenceTraining
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 2 * 1660, 332

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="box",
        vocabulary=vocabulary,
        image_size=224,
        max_words=40,
        max_tokens=40,
        start="data/xvlm/16m_base.pth",
    ),
)
train_dataloader = dict(
    batch_size=9,
    collate_fn=dict(type=fixed_texts, texts=24),
    num_workers=4,
    persistent_workers=True,
    sampler=None,
    dataset=dict(
        type=region_texts,
        files=["data/xvlm/coco_objs", "data/xvlm/vg_objs", "data/xvlm/vg_regions"],
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
