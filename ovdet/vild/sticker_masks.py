"""Outlines of the compact detector: masks that also read the trunk at stride 4, learned on a detector that is done.

A map of stride 8 does not hold a thing that is thinner than its cells, such as a needle. The trunk's second stage does;
it is frozen, so that its map is there for the taking.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from ovdet.errors import InputError
from ovdet.vild.model import ViLDModel
from ovdet.vild.pooling import pool_regions
from ovdet.vild.sticker_parts import Regions, read_state

COPIES, SHIFT = 2, 0.06
"""Boxes about each thing that masks are learned in, and how far their sides lie off, as a share of the thing's."""
LEARNS = ("neck.finest.", "roi_head.mask_head.")
"""Names of weights: the parts that are learned here."""


def coarse_settings(channels: int) -> dict[str, Any]:
    """Of mmdet's mask head as the compact detector has it: two convolutions at 14 x 14, masks of 28 x 28."""
    return dict(
        num_convs=2,
        in_channels=channels,
        conv_out_channels=channels,
        upsample_cfg=dict(type="bilinear", scale_factor=2),
        num_classes=1,
        class_agnostic=True,
        loss_mask=dict(type=CrossEntropyLoss, use_mask=True),
    )


class FineMaskHead(FCNMaskHead):
    """Regions to masks of 28 x 28: two convolutions at 14 x 14 on stride 8, two more where stride 4 joins in.

    Args:
        channels: of the map of shapes.
        finest: of the map of stride 4.
        hidden: of the finer convolutions.
    """

    def __init__(self, channels: int = 64, finest: int = 32, hidden: int = 32) -> None:
        super().__init__(**coarse_settings(channels))
        self.refine = nn.Sequential(
            nn.Conv2d(channels + finest, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.conv_logits = nn.Conv2d(hidden, 1, 1)
        for layer in (self.refine[0], self.refine[2], self.conv_logits):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Regions) -> Tensor:
        """N regions -> logits (N, 1, 28, 28)."""
        pyramid, rois = regions
        assert pyramid.finest is not None, "built with a neck that hands on stride 4"
        x = pool_regions(pyramid.shapes, rois, 8, 14)  # (N, C, 14, 14)
        for convolution in self.convs:
            x = convolution(x)
        detail = pool_regions(pyramid.finest, rois, 4, 28, samples=1)  # (N, C', 28, 28)
        return self.conv_logits(self.refine(torch.cat([self.upsample(x), detail], dim=1)))


class MaskTraining(ViLDModel):
    """A trained detector whose masks alone learn; all else is frozen, and stays as it was.

    Args:
        parts: of `ViLDModel`, with a `FineMaskHead`.
        start: checkpoint of the detector, whole or compact, with or without masks.
    """

    def __init__(self, *parts: Any, start: str) -> None:
        super().__init__(*parts)
        self.start = start
        self.requires_grad_(False)
        self.neck.finest.requires_grad_(True)
        self.roi_head.mask_head.requires_grad_(True)

    def init_weights(self) -> None:
        """Take all but the masks out of the checkpoint; mmengine calls it before training.

        Raises:
            InputError: the checkpoint cannot be read, or is of another detector.
        """
        content = read_state(self.start)
        kept = {name: value for name, value in content.items() if not name.startswith(LEARNS[1])}
        own = {name: value for name, value in self.state_dict().items() if not name.startswith(LEARNS)}
        wrong = [name for name in own if name not in kept or kept[name].shape != own[name].shape]
        wrong += [name for name in kept if name not in own and not name.startswith(LEARNS)]
        if wrong:
            raise InputError(f"start '{self.start}' does not fit: {wrong[0]} is missing, too many or of another size")
        self.load_state_dict({**self.state_dict(), **kept})

    def train(self, mode: bool = True) -> MaskTraining:
        """Nothing here behaves differently in training: what learns has neither statistics nor dropout."""
        return super().train(False)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict[str, Tensor]:
        """The loss of the masks, in boxes about the things as a detector's lie; arguments as of `ViLDModel.loss`."""
        with torch.no_grad():
            levels = self.backbone(batch_inputs)
        pyramid = self.neck(levels)
        sampled = [about_things(sample.gt_instances.bboxes) for sample in batch_data_samples]
        return {"loss_mask": self.roi_head.mask_loss(pyramid, sampled, batch_data_samples)}


def about_things(boxes_xyxy: Tensor) -> SimpleNamespace:
    """Boxes (M, 4) as a sample of regions: `COPIES` of each, sides shifted at random by a normal share of its own."""
    count = len(boxes_xyxy)
    owners = torch.arange(count, device=boxes_xyxy.device).repeat(COPIES)
    boxes = boxes_xyxy[owners]
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # (N, 4): w, h, w, h
    shifted = boxes + SHIFT * sides * torch.randn_like(boxes).clamp(-3, 3)
    labels = torch.zeros(len(owners), dtype=torch.long, device=boxes.device)
    return SimpleNamespace(pos_priors=shifted, pos_assigned_gt_inds=owners, pos_gt_labels=labels)
