"""X-VLM base, pre-training on 4 million pictures.   tools/dist_train.sh configs/xvlm/pretrain_4m.py 8

Paper (arXiv:2111.08276): 8 A100 for 3.5 days, 1024 pictures and as many regions a step; the released weights are of
step 200,000. Loops over regions and pictures by turns; files as docs/grounding_data.md says.
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.optim import LinearLR
from torch.optim import AdamW

from ovdet.data.batches import only_one
from ovdet.data.grains import pretraining_steps
from ovdet.engine.loss_scale import CappedAmpOptimWrapper
from ovdet.engine.sentences import ByName, SentenceTraining, TwoGrainLoop
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

steps, warm_up = 4995 * 41, 2500

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="pretrain",
        vocabulary=vocabulary,
        image_size=224,
        max_words=40,
        max_tokens=40,
        max_masks=8,
        clamp_temperature=True,
        swin="data/swin_base_patch4_window7_224_22k.pth",
        bert="data/bert-base-uncased/pytorch_model.bin",
    ),
)
find_unused_parameters = True  # a batch of whole pictures leaves the box head alone
train_dataloader = dict(
    batch_size=1,
    collate_fn=dict(type=only_one),
    num_workers=4,
    persistent_workers=True,
    sampler=None,
    dataset=dict(
        type=pretraining_steps,
        images=["data/xvlm/coco", "data/xvlm/vg", "data/xvlm/sbu", "data/xvlm/cc3m"],
        regions=["data/xvlm/coco_objs", "data/xvlm/vg_objs", "data/xvlm/vg_regions"],
        side=224,
        max_words=40,
        image_batch=128,
        region_pictures=48,
        region_texts_drawn=128,
        region_share=0.5,
    ),
)
optim_wrapper = dict(
    type=CappedAmpOptimWrapper,
    constructor=ByName,
    optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(no_decay=no_decay, faster=new_parts, lr_mult=2.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, by_epoch=False, begin=0, end=warm_up + 1),
    dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=warm_up, end=steps + 1),
]
train_cfg.update(type=TwoGrainLoop, max_iters=steps)
default_hooks.checkpoint.update(interval=50000, max_keep_ckpts=-1)
