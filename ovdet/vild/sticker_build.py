"""The compact detector of the offline world, made to be trained on CPU threads in an hour or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.losses import CrossEntropyLoss, L1Loss
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder, MaxIoUAssigner, RandomSampler
from mmengine.config import ConfigDict

from ovdet.vild.config import Variant, ViLDConfig
from ovdet.vild.crops import CropNamedModel
from ovdet.vild.model import ViLDModel
from ovdet.vild.recipe import records_recipe
from ovdet.vild.roi_head import RegionParts, ViLDRoIHead
from ovdet.vild.sticker_masks import FineMaskHead, MaskTraining, coarse_settings
from ovdet.vild.sticker_parts import (
    MaskSource,
    RegionNamer,
    RegionSource,
    StickerBoxHead,
    StickerNeck,
    StickerRPNHead,
    StickerTrunk,
)
from ovdet.vlm.contrastive.sticker_clip import CROP_MARGIN

CHANNELS, NARROW, FINEST = 128, 64, 32
ANCHOR_STRIDE, ANCHOR_SIDES = 16, (28, 48, 80, 128)
"""One square anchor a size: the things of the world are 24 to 140 pixels long."""
REGIONS, OBJECTS = 36, 0.4
"""Sampled per picture, and the share of objects: there are some five things in a scene."""
Masks = Literal["coarse", "fine"] | None
"""Whether masks read stride 8 alone, or stride 4 too."""
FINE_THRESHOLD = 0.45
"""Of fine masks: of 463 things of 80 validation scenes, 77.3 % had a box and a mask at IoU 0.5, and 76.7 % by 0.5."""
PROPOSALS = {"training": 100, "test": 80}
HALF = (127.5, 127.5, 127.5)
QUARTER = (63.75, 63.75, 63.75)


# One square crop a box, like those that the teacher learned from. It named 74 % of 334 things of 60 validation scenes,
# the paper's two warped crops 68 %, at twice the cost (boxes off by 5 % of their sides, 741 names).


@records_recipe
def vild_stickers(
    variant: Variant = "ensemble",
    *,
    embed_dim: int = 256,
    with_mask: bool = True,
    distill_weight: float = 0.8,
    teacher_boxes: int = 9,
    temperature: float = 0.02,
    test_temperature: float = 0.02,
    score_thr: float = 1e-3,
    max_per_img: int = 100,
    closed_classes: int = 0,
    frozen_stages: int = 2,
    freeze_norm: bool = True,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = QUARTER,
    trunk_checkpoint: str | None = None,
    with_projection: bool = False,
    fine_masks: bool = False,
    mask_threshold: float = 0.5,
) -> ViLDModel:
    """Build the detector: `CompactTrunk`, one map of stride 8, regions named by the trunk's own last stage.

    Args:
        variant: "text", "image", "vild", "ensemble" or "supervised".
        embed_dim: of the teacher and text tower.
        with_mask: learn class-agnostic masks.
        distill_weight: of the L1 distance to the teacher, summed over the width.
        teacher_boxes: of the RPN's best that the teacher names in each training picture.
        temperature: of the cosines in training.
        test_temperature: at test time.
        score_thr: scores at or below it are no detections.
        max_per_img: detections kept.
        closed_classes: for "supervised", the number of names of the training data.
        frozen_stages: of the trunk, that do not learn.
        freeze_norm: keep the trunk's statistics. Say False where training starts from random weights.
        mean: of RGB in 0..255, as the trunk saw it.
        std: of RGB in 0..255.
        trunk_checkpoint: file of a picture tower whose trunk training starts from; None is from scratch.
        with_projection: start from its projection too, where its texts are the detector's.
        fine_masks: masks read the trunk's stride 4 too; `vild_stickers_masks` trains them.
        mask_threshold: probability from which a pixel belongs to a mask.
    """
    config = ViLDConfig(
        variant=variant,
        embed_dim=embed_dim,
        distill_weight=distill_weight,
        teacher_boxes=teacher_boxes,
        crop_scales=(CROP_MARGIN,),
        square_crops=True,
        half_teacher=True,
        temperature=temperature,
        test_temperature=test_temperature,
        score_thr=score_thr,
        max_per_img=max_per_img,
        closed_classes=closed_classes,
        max_mask_regions=8,
        mask_threshold=mask_threshold,
    )
    masks: Masks = ("fine" if fine_masks else "coarse") if with_mask else None
    return ViLDModel(*_parts(config, masks, frozen_stages, freeze_norm, (mean, std), trunk_checkpoint, with_projection))


def vild_stickers_masks(
    start: str,
    variant: Variant = "ensemble",
    *,
    embed_dim: int = 256,
    closed_classes: int = 0,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = QUARTER,
) -> MaskTraining:
    """Build a trained detector whose fine masks alone learn; what comes out is a `vild_stickers` with them.

    Args:
        start: checkpoint of the detector, whole or compact.
        variant: that it was trained as.
        embed_dim: of its teacher.
        closed_classes: as trained.
        mean: of RGB in 0..255.
        std: of RGB in 0..255.
    """
    arguments = dict(
        variant=variant,
        embed_dim=embed_dim,
        closed_classes=closed_classes,
        mean=mean,
        std=std,
        fine_masks=True,
        mask_threshold=FINE_THRESHOLD,
    )
    model = vild_stickers(**arguments)
    parts = (model.data_preprocessor, model.backbone, model.neck, model.rpn_head, model.roi_head)
    training = MaskTraining(*parts, model.proposal_settings, start=start)
    training.recipe = model.recipe
    return training


@records_recipe
def vild_stickers_crops(
    variant: Variant = "text",
    *,
    embed_dim: int = 256,
    with_mask: bool = True,
    temperature: float = 0.02,
    score_thr: float = 1e-3,
    max_per_img: int = 100,
    closed_classes: int = 0,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = QUARTER,
    fine_masks: bool = False,
    mask_threshold: float = 0.5,
) -> ViLDModel:
    """Build `vild_stickers` for testing, with the teacher's crops in place of its own names.

    Args:
        variant: that the checkpoint was trained as; it decides which weights there are.
        embed_dim: of the teacher.
        with_mask: as trained.
        temperature: of the teacher's cosines.
        score_thr: scores at or below it are no detections.
        max_per_img: detections kept.
        closed_classes: as trained.
        mean: of RGB in 0..255.
        std: of RGB in 0..255.
        fine_masks: as trained.
        mask_threshold: probability from which a pixel belongs to a mask.
    """
    config = ViLDConfig(
        variant=variant,
        embed_dim=embed_dim,
        crop_scales=(CROP_MARGIN,),
        square_crops=True,
        mask_threshold=mask_threshold,
        test_temperature=temperature,
        score_thr=score_thr,
        max_per_img=max_per_img,
        closed_classes=closed_classes,
    )
    masks: Masks = ("fine" if fine_masks else "coarse") if with_mask else None
    return CropNamedModel(*_parts(config, masks, 0, True, (mean, std), None, False))


def _parts(
    config: ViLDConfig,
    masks: Masks,
    frozen_stages: int,
    freeze_norm: bool,
    mean_std: tuple[Sequence[float], Sequence[float]],
    checkpoint: str | None,
    with_projection: bool,
) -> tuple:
    """What `ViLDModel` takes."""
    fine = masks == "fine"
    backbone = StickerTrunk(frozen_stages, freeze_norm, checkpoint, from_stride=4 if fine else 8)
    finest = (backbone.trunk.widths[1], FINEST) if fine else None

    def namer() -> RegionNamer:
        return RegionNamer(
            backbone.trunk,
            config.embed_dim,
            NARROW,
            freeze_norm=freeze_norm,
            checkpoint=checkpoint,
            with_projection=with_projection,
        )

    regions = RegionParts(
        box_extractor=RegionSource(),
        mask_extractor=RegionSource() if fine else MaskSource(),
        assigner=MaxIoUAssigner(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
        sampler=RandomSampler(num=REGIONS, pos_fraction=OBJECTS, add_gt_as_proposals=True),
        coder=DeltaXYWHBBoxCoder(target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
    )
    box_head = StickerBoxHead(
        namer(),
        NARROW,
        with_background=config.learns_classes and not config.closed_classes,
        closed_classes=config.closed_classes,
    )
    image_head = namer() if config.variant == "ensemble" else None
    mean, std = mean_std
    return (
        DetDataPreprocessor(mean=list(mean), std=list(std), bgr_to_rgb=True, pad_size_divisor=32, pad_mask=bool(masks)),
        backbone,
        StickerNeck(backbone.trunk.out_channels, CHANNELS, NARROW, finest).to(memory_format=torch.channels_last),
        _rpn_head(),
        ViLDRoIHead(regions, box_head, image_head, _mask_head(masks), config),
        ConfigDict(_proposal_settings(PROPOSALS["training"])),
    )


def _mask_head(masks: Masks) -> FCNMaskHead | None:
    if masks is None:
        return None
    if masks == "fine":
        return FineMaskHead(NARROW, FINEST).to(memory_format=torch.channels_last)
    return FCNMaskHead(**coarse_settings(NARROW)).to(memory_format=torch.channels_last)


def _proposal_settings(kept: int) -> dict:
    return dict(nms_pre=300, max_per_img=kept, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=4)


def _rpn_head() -> StickerRPNHead:
    return StickerRPNHead(
        in_channels=CHANNELS,
        feat_channels=CHANNELS,
        anchor_generator=dict(
            type=AnchorGenerator,
            base_sizes=[1],
            scales=list(ANCHOR_SIDES),
            ratios=[1.0],
            strides=[ANCHOR_STRIDE],
            centers=[(ANCHOR_STRIDE / 2, ANCHOR_STRIDE / 2)],
        ),
        bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_means=[0.0] * 4, target_stds=[0.5] * 4),
        loss_cls=dict(type=CrossEntropyLoss, use_sigmoid=True),
        loss_bbox=dict(type=L1Loss),
        train_cfg=ConfigDict(
            assigner=dict(
                type=MaxIoUAssigner, pos_iou_thr=0.6, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True
            ),
            sampler=dict(type=RandomSampler, num=64, pos_fraction=0.5, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=ConfigDict(_proposal_settings(PROPOSALS["test"])),
    ).to(memory_format=torch.channels_last)
