"""How the parts fit; one function for each published variant, of literal numbers.

mmdet's leaves are configured by dicts. They are made here, by hand, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmcv.ops import RoIAlign
from mmdet.models.backbones import ResNet
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.losses import CrossEntropyLoss, SmoothL1Loss
from mmdet.models.losses import L1Loss as PlainL1Loss
from mmdet.models.necks import FPN
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder, MaxIoUAssigner, RandomSampler
from mmengine.config import ConfigDict
from torch import nn

from ovdet.errors import InputError
from ovdet.vild.config import Variant, ViLDConfig
from ovdet.vild.heads import BoxHead, EncoderSizes, Float32RoIExtractor, Float32RPNHead, ImageHead, Norm
from ovdet.vild.model import ViLDModel
from ovdet.vild.recipe import records_recipe
from ovdet.vild.roi_head import RegionParts, ViLDRoIHead
from ovdet.vild.sticker_build import vild_stickers, vild_stickers_crops

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Of RGB in 0..255."""

IMAGENET_STD = (58.395, 57.12, 57.375)

STRIDES = (4, 8, 16, 32, 64)
"""Of the pyramid's levels P2 to P6; regions are pooled from all but the last."""


@dataclass(frozen=True)
class Architecture:
    """Sizes and styles of the parts.

    Attributes:
        depth: of the ResNet.
        base_channels: of the ResNet's first stage.
        channels: of the pyramid, the RPN and the masks.
        region: layers of a region head.
        norm: "bn", or "gn" for small batches. Several devices: mmengine's `sync_bn="torch"` turns "bn" into SyncBN.
        style: "pytorch" strides in the 3x3 convolution, "caffe" in the first 1x1 (DetPro's initial weights).
        norm_eval: freeze the backbone's statistics.
        bn_momentum: torch's, of the backbone.
        bn_eps: of the backbone.
        fc_norm: normalise the fully connected layers of the region heads too.
        mask_norm: normalise the mask head.
        rpn_convs: of the RPN.
        rpn_beta: of its box loss; 0 is plain L1.
        regions: sampled per picture, a quarter of them objects.
        proposals: of the RPN in training and at test.
        pad: sides of a batch are padded to a multiple of it.
    """

    depth: int = 50
    base_channels: int = 64
    channels: int = 256
    region: EncoderSizes = field(default_factory=EncoderSizes)
    norm: str = "bn"
    style: str = "pytorch"
    norm_eval: bool = False
    bn_momentum: float = 0.1
    bn_eps: float = 1e-5
    fc_norm: bool = False
    mask_norm: bool = False
    rpn_convs: int = 1
    rpn_beta: float = 0.0
    regions: int = 512
    proposals: int = 1000
    pad: int = 32

    def __post_init__(self) -> None:
        if self.norm not in ("bn", "gn"):
            raise InputError(f"norm must be 'bn' or 'gn', got {self.norm!r}")


@records_recipe
def vild_r50_fpn(
    variant: Variant = "ensemble",
    *,
    embed_dim: int = 512,
    with_mask: bool = True,
    norm: str = "bn",
    distill_weight: float = 0.5,
    temperature: float = 0.01,
    test_temperature: float = 0.01,
    score_thr: float = 1e-4,
    max_per_img: int = 300,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    backbone_checkpoint: str | None = None,
) -> ViLDModel:
    """Build the official form: Mask R-CNN R50-FPN, 4 convolutions and 2 normalised fcs a head, trained from scratch.

    Differs from the official code in that its RPN convolutions carry no normalisation.

    Args:
        variant: "text", "image", "vild" or "ensemble".
        embed_dim: of the teacher and text tower, 512 for CLIP ViT-B/32.
        with_mask: False where the data has boxes only (open-vocabulary COCO).
        norm: "bn" or "gn".
        distill_weight: 0.5 for this depth.
        temperature: of the cosines in training.
        test_temperature: at test time.
        score_thr: scores at or below it are no detections.
        max_per_img: detections kept.
        mean: of RGB in 0..255.
        std: of RGB in 0..255.
        backbone_checkpoint: file (or mmengine address) to initialise the ResNet from; None is from scratch.
    """
    architecture = Architecture(
        norm=norm, bn_momentum=0.003, bn_eps=1e-4, fc_norm=True, mask_norm=True, rpn_convs=2, rpn_beta=1 / 9
    )
    config = ViLDConfig(
        variant=variant,
        embed_dim=embed_dim,
        distill_weight=distill_weight,
        temperature=temperature,
        test_temperature=test_temperature,
        score_thr=score_thr,
        max_per_img=max_per_img,
    )
    return assemble(architecture, config, with_mask, mean, std, backbone_checkpoint)


@records_recipe
def vild_detpro_r50_fpn(
    variant: Variant = "ensemble",
    *,
    embed_dim: int = 512,
    with_mask: bool = True,
    norm: str = "bn",
    distill_weight: float = 0.5,
    temperature: float = 0.01,
    test_temperature: float = 0.007,
    score_thr: float = 1e-4,
    max_per_img: int = 300,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    backbone_checkpoint: str | None = None,
) -> ViLDModel:
    """Build DetPro's form: caffe-style R50 with frozen statistics, 4 convolutions and 1 fc a head, L1 box losses.

    Arguments as in `vild_r50_fpn`.
    """
    architecture = Architecture(norm=norm, style="caffe", norm_eval=True, region=EncoderSizes(num_fcs=1))
    config = ViLDConfig(
        variant=variant,
        embed_dim=embed_dim,
        distill_weight=distill_weight,
        temperature=temperature,
        test_temperature=test_temperature,
        box_beta=0.0,
        score_thr=score_thr,
        max_per_img=max_per_img,
    )
    return assemble(architecture, config, with_mask, mean, std, backbone_checkpoint)


@records_recipe
def vild_tiny(
    variant: Variant = "ensemble",
    *,
    embed_dim: int = 32,
    with_mask: bool = True,
    norm: str = "bn",
    distill_weight: float = 0.5,
    temperature: float = 0.01,
    test_temperature: float = 0.01,
    score_thr: float = 1e-4,
    max_per_img: int = 100,
    num_fcs: int = 1,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    backbone_checkpoint: str | None = None,
) -> ViLDModel:
    """Build a detector for a CPU and small pictures: ResNet-18 of 16 channels, pyramid of 32, heads of 2 convolutions.

    Arguments as in `vild_r50_fpn`; `num_fcs` is 1 or 2.
    """
    architecture = Architecture(
        depth=18,
        base_channels=16,
        channels=32,
        region=EncoderSizes(in_channels=32, conv_channels=32, num_convs=2, fc_channels=64, num_fcs=num_fcs),
        norm=norm,
        regions=64,
        proposals=200,
    )
    config = ViLDConfig(
        variant=variant,
        embed_dim=embed_dim,
        distill_weight=distill_weight,
        temperature=temperature,
        test_temperature=test_temperature,
        score_thr=score_thr,
        max_per_img=max_per_img,
    )
    return assemble(architecture, config, with_mask, mean, std, backbone_checkpoint)


BUILDERS: dict[str, Callable[..., ViLDModel]] = {
    "vild_r50_fpn": vild_r50_fpn,
    "vild_detpro_r50_fpn": vild_detpro_r50_fpn,
    "vild_tiny": vild_tiny,
    "vild_stickers": vild_stickers,
    "vild_stickers_crops": vild_stickers_crops,
}
"""What a checkpoint may name as its builder; nothing else is ever called on a checkpoint's word."""


def assemble(
    architecture: Architecture,
    config: ViLDConfig,
    with_mask: bool = True,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    backbone_checkpoint: str | None = None,
) -> ViLDModel:
    """Put the parts together; arguments as in `vild_r50_fpn`."""
    preprocessor = DetDataPreprocessor(
        mean=list(mean), std=list(std), bgr_to_rgb=True, pad_size_divisor=architecture.pad, pad_mask=with_mask
    )
    return ViLDModel(
        preprocessor,
        _backbone(architecture, backbone_checkpoint),
        _neck(architecture),
        _rpn_head(architecture),
        _roi_head(architecture, config, with_mask),
        ConfigDict(_proposal_settings(2 * architecture.proposals, architecture.proposals)),
    )


def _norm_dict(architecture: Architecture, **more: float) -> dict[str, Any]:
    if architecture.norm == "gn":
        return dict(type="GN", num_groups=_groups(architecture.base_channels), requires_grad=True)
    return dict(type="BN", requires_grad=True, **more)


def _groups(channels: int) -> int:
    return min(32, channels // 2)


def _backbone(architecture: Architecture, checkpoint: str | None) -> ResNet:
    return ResNet(
        depth=architecture.depth,
        base_channels=architecture.base_channels,
        stem_channels=architecture.base_channels,
        style=architecture.style,
        norm_cfg=_norm_dict(architecture, momentum=architecture.bn_momentum, eps=architecture.bn_eps),
        norm_eval=architecture.norm_eval and architecture.norm == "bn",
        init_cfg=dict(type="Pretrained", checkpoint=checkpoint) if checkpoint else None,
    )


def _neck(architecture: Architecture) -> FPN:
    expansion = 1 if architecture.depth < 50 else 4
    return FPN(
        in_channels=[architecture.base_channels * expansion * 2**stage for stage in range(4)],
        out_channels=architecture.channels,
        num_outs=len(STRIDES),
        norm_cfg=_norm_dict(architecture),
    )


def _proposal_settings(candidates: int, kept: int) -> dict[str, Any]:
    return dict(nms_pre=candidates, max_per_img=kept, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)


def _rpn_head(architecture: Architecture) -> Float32RPNHead:
    box_loss = dict(type=SmoothL1Loss, beta=architecture.rpn_beta) if architecture.rpn_beta else dict(type=PlainL1Loss)
    return Float32RPNHead(
        in_channels=architecture.channels,
        feat_channels=architecture.channels,
        num_convs=architecture.rpn_convs,
        anchor_generator=dict(type=AnchorGenerator, scales=[8], ratios=[0.5, 1.0, 2.0], strides=list(STRIDES)),
        bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type=CrossEntropyLoss, use_sigmoid=True),
        loss_bbox=box_loss,
        train_cfg=ConfigDict(
            assigner=dict(
                type=MaxIoUAssigner, pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True
            ),
            sampler=dict(type=RandomSampler, num=256, pos_fraction=0.5, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=ConfigDict(_proposal_settings(architecture.proposals, architecture.proposals)),
    )


def _roi_head(architecture: Architecture, config: ViLDConfig, with_mask: bool) -> ViLDRoIHead:
    sizes = replace(architecture.region, in_channels=architecture.channels)
    norm: Norm = nn.BatchNorm2d if architecture.norm == "bn" else _group_norm
    fc_norm: Norm | None = (
        (nn.BatchNorm1d if architecture.norm == "bn" else _group_norm) if architecture.fc_norm else None
    )
    parts = RegionParts(
        box_extractor=_extractor(architecture, sizes.roi_size),
        mask_extractor=_extractor(architecture, 14),
        assigner=MaxIoUAssigner(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
        sampler=RandomSampler(num=architecture.regions, pos_fraction=0.25, add_gt_as_proposals=True),
        coder=DeltaXYWHBBoxCoder(target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
    )
    mask_head = FCNMaskHead(
        num_convs=4,
        in_channels=architecture.channels,
        conv_out_channels=architecture.channels,
        num_classes=1,
        class_agnostic=True,
        norm_cfg=_norm_dict(architecture) if architecture.mask_norm else None,
        loss_mask=dict(type=CrossEntropyLoss, use_mask=True),
    )
    image_head = ImageHead(sizes, config.embed_dim, norm, fc_norm) if config.variant == "ensemble" else None
    bbox_head = BoxHead(sizes, config.embed_dim, norm, fc_norm, with_background=config.learns_classes)
    return ViLDRoIHead(parts, bbox_head, image_head, mask_head if with_mask else None, config)


def _extractor(architecture: Architecture, side: int) -> Float32RoIExtractor:
    return Float32RoIExtractor(
        roi_layer=dict(type=RoIAlign, output_size=side, sampling_ratio=0),
        out_channels=architecture.channels,
        featmap_strides=list(STRIDES[:-1]),
    )


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_groups(channels), channels)
