"""ViLD-ensemble (w = 0.5) R50-FPN, CLIP ViT-B/32, OV-COCO 48/17.

tools/dist_train.sh configs/vild/r50_coco_ensemble.py 8
Paper: no number known to us for the ensemble on COCO. Its schedule on COCO is not known; this one, 40,000
iterations of 16 pictures (6 epochs) from an ImageNet backbone, is OADP's re-implementation.
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
    from .._base_.ov_coco import *

model = dict(
    type=vild_r50_fpn,
    variant="ensemble",
    with_mask=False,
    distill_weight=0.5,
    max_per_img=100,
    backbone_checkpoint="torchvision://resnet50",
)
text_tower = dict(type=create_vlm, name="clip-vit-b-32")
custom_hooks = [
    dict(type=RepeatableHook),
    dict(type=VocabularyHook, text_tower=text_tower, teacher=text_tower, embed=class_embeddings, templates="vild63"),
]
train_dataloader["dataset"].update(pipeline=distill_pipeline)
sync_bn = "torch"
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=SGD, lr=0.02, momentum=0.9, weight_decay=1e-4),
)
train_cfg.update(max_iters=40000, val_interval=10000)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type=MultiStepLR, by_epoch=False, milestones=[30000], gamma=0.1),
]
auto_scale_lr.update(base_batch_size=16)
