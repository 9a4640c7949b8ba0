"""ViLD* of DetPro: ensemble R50-FPN, LVIS v1, 20 epochs.

tools/dist_train.sh configs/vild/r50_lvis_detpro_ensemble.py 8
DetPro's README, mask AP: rare 16.8, common 25.6, frequent 28.5, all 25.2, from SoCo's self-supervised weights (add
--cfg-options load_from=FILE; without them expect far less). 20 epochs of 16 pictures a step. Differences: repeat
factors count base classes only (DetPro's count rare ones too), templates are vild63 (DetPro's 74 are other texts).
The teacher embeds the RPN's own best boxes on the fly; stored rows are read from a teacher store
(docs/teacher_store.md) with --cfg-options train_dataloader.dataset.pipeline.2.source=DIR.
Here: not trained yet; builds and steps on CPU (tests/test_configs.py).
"""

from mmcv.transforms import RandomChoiceResize
from mmengine.config import read_base
from mmengine.optim import LinearLR, MultiStepLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop
from torch.optim import SGD

from ovdet.engine.hooks import RepeatableHook, VocabularyHook
from ovdet.vild.build import vild_detpro_r50_fpn
from ovdet.vlm.prompts import class_embeddings
from ovdet.vlm.zoo import create_vlm

with read_base():
    from .._base_.ov_lvis import *

model = dict(type=vild_detpro_r50_fpn, variant="ensemble", distill_weight=0.5, test_temperature=0.007, max_per_img=300)
text_tower = dict(type=create_vlm, name="clip-vit-b-32")
custom_hooks = [
    dict(type=RepeatableHook),
    dict(type=VocabularyHook, text_tower=text_tower, teacher=text_tower, embed=class_embeddings, templates="vild63"),
]
sync_bn = "torch"
train_pipeline = [
    dict(type=LoadPicture),
    dict(type=LoadAnnotations, with_bbox=True, with_mask=True, poly2mask=False),
    dict(type=LoadProposals, source=None, limit=300),
    dict(
        type=RandomChoiceResize,
        scales=[(1333, side) for side in (640, 672, 704, 736, 768, 800)],
        resize_type=Resize,
        keep_ratio=True,
    ),
    dict(type=RandomFlip, prob=0.5),
    dict(type=TransformProposals),
    dict(type=PackDetection),
]
test_pipeline = [
    dict(type=LoadPicture),
    dict(type=Resize, scale=(1333, 800), keep_ratio=True),
    dict(type=PackDetection),
]
train_dataloader.update(sampler=dict(type=SeededSampler, seed=0, endless=False, repeat_threshold=1e-3))
train_dataloader["dataset"].update(pipeline=train_pipeline)
val_dataloader["dataset"].update(pipeline=test_pipeline)
test_dataloader = val_dataloader
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=SGD, lr=0.02, momentum=0.9, weight_decay=2.5e-5),
)
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=20, val_interval=5)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type=MultiStepLR, by_epoch=True, milestones=[16], gamma=0.1),
]
default_hooks["checkpoint"].update(by_epoch=True, interval=1)
log_processor.update(by_epoch=True)
auto_scale_lr.update(base_batch_size=16)
