"""ViLD (w = 0.5) R50-FPN, CLIP ViT-B/32, LVIS v1, official recipe.

tools/dist_train.sh configs/vild/r50_lvis_vild.py 8 --auto-scale-lr
Paper, mask AP: rare 16.1, common 20.0, frequent 28.3, all 22.5 (released checkpoint 16.6 / 19.8 / 28.2 / 22.5).
180,000 steps of 256 pictures from scratch (46 million pictures, 460 epochs); lr 0.32 is for these. The command's steps
are of 16, so --auto-scale-lr makes it 0.02; for as many pictures lengthen the schedule 16 times.
The teacher embeds the RPN's own best boxes on the fly. The paper's 300 fixed proposals, embedded once, are read from a
teacher store (docs/teacher_store.md) with --cfg-options train_dataloader.dataset.pipeline.2.source=DIR.
Here: not trained yet; builds and steps on CPU (tests/test_configs.py).
"""

from mmengine.config import read_base
from mmengine.optim import LinearLR, MultiStepLR, OptimWrapper
from torch.optim import SGD

from ovdet.engine.hooks import RepeatableHook, VocabularyHook
from ovdet.vild.build import vild_r50_fpn
from ovdet.vlm.prompts import class_embeddings
from ovdet.vlm.zoo import create_vlm

with read_base():
    from .._base_.ov_lvis import *

model = dict(type=vild_r50_fpn, variant="vild", distill_weight=0.5, max_per_img=300)
text_tower = dict(type=create_vlm, name="clip-vit-b-32")
custom_hooks = [
    dict(type=RepeatableHook),
    dict(
        type=VocabularyHook,
        text_tower=text_tower,
        teacher=text_tower,
        embed=class_embeddings,
        templates="vild63",
        test_scale=(1024, 1024),
    ),
]
train_dataloader["dataset"].update(pipeline=distill_pipeline)
sync_bn = "torch"
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=SGD, lr=0.32, momentum=0.9, weight_decay=4e-5),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
train_cfg.update(max_iters=180000, val_interval=60000)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, by_epoch=False, begin=0, end=1001),
    dict(type=MultiStepLR, by_epoch=False, milestones=[162000, 171000], gamma=0.1),
]
auto_scale_lr.update(base_batch_size=256)
