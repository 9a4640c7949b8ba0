"""SegGPT ViT-L as published, from MAE weights.   python tools/train.py configs/seggpt/vit_large.py --amp
Paper: ADE20K 39.6 mIoU by a tuned prompt, COCO-20i 56.1 one-shot. Here: not trained yet; the published size is 64 GPUs.

Schedule, weights of the data sets and augmentation: arXiv:2304.03284, section 4, and Painter's released training where
it says nothing; what neither says is ours (`CanvasConfig`). The paper starts from Painter's weights:
`--cfg-options model.task.mae=None model.task.init=painter.pth`, made by tools/convert/seggpt.py. iSAID and the vessels
are to be cut into tiles first. Take out sources that you do not have; weights need not sum to 1.
"""

from mmengine.config import read_base
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from torch.optim import AdamW

from ovdet.data.context_sources import ade20k_contexts, coco_contexts, folder_contexts, panoptic_contexts, voc_contexts
from ovdet.data.in_context import mixture
from ovdet.engine.contrastive import TowerTraining
from ovdet.engine.loops import ResumableIterLoop
from ovdet.seggpt.build import seggpt_vit_large
from ovdet.seggpt.training import seggpt_training

with read_base():
    from .._base_.in_context import *

accumulate = 16  # steps of 2 pictures on 64 GPUs: 2048 a step of the optimiser
steps, warm_up = 9000 * accumulate, 1800 * accumulate
coco = "data/coco/annotations"
stuff = dict(type=folder_contexts, images="data/coco/train2017", maps="data/coco/stuffthingmaps/train2017")
cities = dict(type=folder_contexts, images="data/cityscapes/leftImg8bit/train", maps="data/cityscapes/gtFine/train")
lip = dict(type=folder_contexts, images="data/lip/train_images", maps="data/lip/train_segmentations")
land = dict(type=folder_contexts, images="data/loveda/images", maps="data/loveda/masks")
vessels = dict(type=folder_contexts, images="data/vessels/images", maps="data/vessels/masks")
things = dict(type=coco_contexts, ann_file=f"{coco}/instances_train2017.json", images="data/coco/train2017")
panoptic = dict(type=panoptic_contexts, ann_file=f"{coco}/panoptic_train2017.json", images="data/coco/train2017")
parts = dict(type=coco_contexts, ann_file="data/paco/paco_lvis_v1_train.json", images="data/coco")
aerial = dict(type=coco_contexts, ann_file="data/isaid/train.json", images="data/isaid/images")

sources = [
    dict(weight=0.22, kind="instance", **things),
    dict(weight=0.15, type=ade20k_contexts, root="data/ADEChallengeData2016"),
    dict(weight=0.15, maps=f"{coco}/panoptic_train2017", **panoptic),
    dict(weight=0.07, classes=19, images_end="_leftImg8bit", maps_end="_gtFine_labelTrainIds", **cities),
    dict(weight=0.07, classes=182, **stuff),
    dict(weight=0.07, kind="part", classes=19, first_label=1, **lip),
    dict(weight=0.07, type=voc_contexts, root="data/VOCdevkit/VOC2012"),
    dict(weight=0.07, kind="part", **parts),
    dict(weight=0.03, **aerial),
    dict(weight=0.03, classes=7, first_label=1, ignored=(0,), **land),
    dict(weight=0.06, classes=1, first_label=255, ignored=(), **vessels),
]
model = dict(
    type=TowerTraining,
    task=dict(type=seggpt_training, size=seggpt_vit_large, mae="data/mae_pretrain_vit_large.pth", checkpointing=True),
)
train_dataloader.update(
    batch_size=2,
    num_workers=8,
    dataset=dict(type=mixture, sources=sources, length=1_000_000),
)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"positions": dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=3.0),
    accumulative_counts=accumulate,
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-3, by_epoch=False, begin=0, end=warm_up),
    dict(type=CosineAnnealingLR, by_epoch=False, begin=warm_up, end=steps, T_max=steps - warm_up, eta_min=0.0),
]
train_cfg = dict(type=ResumableIterLoop, max_iters=steps)
default_hooks.checkpoint.update(interval=500 * accumulate)
