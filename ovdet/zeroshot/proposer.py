"""Where are things, whatever they are? A small head on the frozen trunk of the ImageNet classifier.

Two stages, both without classes. Every place of a pyramid says which box it lies in and how well it thinks it knows
(FCOS, arXiv:1904.01355; the quality is the expected IoU, arXiv:2006.04388). A region head then looks at a box with its
surroundings and gives a better box, a mask (arXiv:1703.06870) and, again, the expected IoU (arXiv:1903.00241).
"""

from __future__ import annotations

import copy
import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import roi_align

from ovdet.ops.boxes import clip_boxes, enlarge_boxes

STRIDES = (8, 16, 32, 64)
TAPS = (2, 4, 6)
"""Stages of EfficientNet-Lite0 whose outputs have strides 8, 16 and 32."""
TAP_WIDTHS = (40, 112, 320)
SURROUNDINGS = 1.5
"""The region head sees a box enlarged so, and draws its mask in there."""
ROI_SIDE, MASK_SIDE = 14, 28
DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)
"""Spread of the corrections of the region head, in parts of a box: centre x, y, logarithm of width, height."""


class Places(NamedTuple):
    """What every place of the pyramid says of pictures.

    Attributes:
        boxes_xyxy: (B, L, 4) in pixels of the network's input, not clipped.
        quality: (B, L) logits of the IoU that its box is expected to have with the thing it lies in; low off things.
        centres: (L, 2) x, y of the places, in pixels.
        strides: (L,) of the level that each place belongs to.
    """

    boxes_xyxy: Tensor
    quality: Tensor
    centres: Tensor
    strides: Tensor


class Regions(NamedTuple):
    """What the region head says of N boxes.

    Attributes:
        deltas: (N, 4) corrections; see `apply_deltas`.
        quality: (N,) logits of the expected IoU of the corrected box.
        masks: (N, 28, 28) logits, over the box enlarged by `SURROUNDINGS`.
    """

    deltas: Tensor
    quality: Tensor
    masks: Tensor


class FrozenTrunk(nn.Module):
    """The classifier's own stages, never trained, normalisation folded into the convolutions (twice as fast).

    Args:
        classifier: timm's EfficientNet, in eval mode; copied.
        mean: of its input's channels, (1, 3, 1, 1).
        std: of its input's channels, (1, 3, 1, 1).
    """

    def __init__(self, classifier: Any, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        parts = {"stem": classifier.conv_stem, "norm": classifier.bn1, "blocks": classifier.blocks[: TAPS[-1] + 1]}
        self.net = _fold(copy.deepcopy(nn.ModuleDict(parts)).eval()).requires_grad_(False)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.register_buffer("std", std.clone(), persistent=False)

    def train(self, mode: bool = True) -> FrozenTrunk:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> levels (B, C, h, w) at strides 8, 16 and 32."""
        x = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        x = self.net["norm"](self.net["stem"](x))
        levels = []
        for index, block in enumerate(self.net["blocks"]):
            x = block(x)
            if index in TAPS:
                levels.append(x)
        return levels


class Proposer(nn.Module):
    """Boxes and masks of things out of the trunk's levels; about a million weights.

    Args:
        widths: channels of the trunk's levels.
        width: channels of the pyramid.
        roi_width: channels of the region head.
    """

    def __init__(self, widths: tuple[int, ...] = TAP_WIDTHS, width: int = 96, roi_width: int = 64) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(channels, width, 1) for channels in widths])
        self.smooth = nn.ModuleList([_conv(width, width) for _ in widths])
        self.coarser = _conv(width, width, 2)
        self.tower = nn.Sequential(_conv(width, width), _conv(width, width))
        self.reach = nn.Conv2d(width, 4, 3, 1, 1)
        self.quality = nn.Conv2d(width, 1, 3, 1, 1)
        self.reach_scale = nn.Parameter(torch.ones(len(STRIDES)))
        self.region = RegionHead(width, roi_width)
        nn.init.constant_(self.quality.bias, -4.0)  # at first nothing is a thing (arXiv:1708.02002)
        nn.init.constant_(self.reach.bias, 1.5)

    def pyramid(self, levels: list[Tensor]) -> list[Tensor]:
        """The trunk's levels -> maps of one width at strides 8, 16, 32 and 64."""
        merged = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for index in range(len(merged) - 1, 0, -1):
            merged[index - 1] = merged[index - 1] + F.interpolate(merged[index], merged[index - 1].shape[-2:])
        maps = [smooth(level) for smooth, level in zip(self.smooth, merged, strict=True)]
        return [*maps, self.coarser(maps[-1])]

    def places(self, maps: list[Tensor]) -> Places:
        """Ask every place of the pyramid."""
        boxes, quality, centres, strides = [], [], [], []
        for level, stride, scale in zip(maps, STRIDES, self.reach_scale, strict=True):
            seen = self.tower(level)
            reach = F.softplus(self.reach(seen).float() * scale) * stride  # left, top, right, bottom: (B, 4, h, w)
            middle = _centres(level, stride)  # (h * w, 2)
            reach = reach.flatten(2).transpose(1, 2)
            boxes.append(torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=2))
            quality.append(self.quality(seen).float().flatten(1))
            centres.append(middle)
            strides.append(middle.new_full((len(middle),), float(stride)))
        return Places(torch.cat(boxes, 1), torch.cat(quality, 1), torch.cat(centres), torch.cat(strides))

    def regions(self, maps: list[Tensor], boxes_xyxy: list[Tensor]) -> Regions:
        """Look closer at boxes, pixels of the network's input, one tensor (N_i, 4) for each picture."""
        return self.region(maps[0], boxes_xyxy)  # type: ignore[no-any-return]


class RegionHead(nn.Module):
    """A box and its surroundings, 14 x 14 -> correction, expected IoU and mask."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_width, width, 1)
        self.body = nn.Sequential(*(_conv(width, width) for _ in range(3)))
        self.mask = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(width, width // 2, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(width // 2, 1, 1),
        )  # fmt: skip
        self.squeeze = nn.Sequential(_conv(width, width, 2), nn.Flatten(), nn.Linear(width * 49, 2 * width), nn.ReLU())
        self.box = nn.Linear(2 * width, 5)
        nn.init.zeros_(self.box.weight)
        nn.init.zeros_(self.box.bias)

    def forward(self, level: Tensor, boxes_xyxy: list[Tensor]) -> Regions:
        """Finest map of the pyramid (B, C, h, w) and boxes in pixels, (N_i, 4) for each of B pictures."""
        rois = [enlarge_boxes(boxes.float(), SURROUNDINGS) for boxes in boxes_xyxy]
        seen = roi_align(self.reduce(level).float(), rois, ROI_SIDE, 1 / STRIDES[0], 2, aligned=True)
        seen = self.body(seen)
        answers = self.box(self.squeeze(seen)).float()
        return Regions(answers[:, :4], answers[:, 4], self.mask(seen)[:, 0].float())


def apply_deltas(boxes_xyxy: Tensor, deltas: Tensor) -> Tensor:
    """Correct boxes (N, 4) by what the region head says, (N, 4); sides change by at most a factor of 4."""
    centre, size = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    deltas = deltas * deltas.new_tensor(DELTA_SCALE)
    centre = centre + deltas[:, :2] * size
    half = size * deltas[:, 2:].clamp(-1.39, 1.39).exp() / 2
    return torch.cat([centre - half, centre + half], dim=1)


def find_deltas(boxes_xyxy: Tensor, wanted_xyxy: Tensor) -> Tensor:
    """What `apply_deltas` would have to be told to make the wanted boxes of the given ones: (N, 4)."""
    size, wanted = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], wanted_xyxy[:, 2:] - wanted_xyxy[:, :2]
    shift = (wanted_xyxy[:, :2] + wanted_xyxy[:, 2:] - boxes_xyxy[:, :2] - boxes_xyxy[:, 2:]) / 2 / size
    return torch.cat([shift, (wanted / size).log()], dim=1) / boxes_xyxy.new_tensor(DELTA_SCALE)


def best_places(places: Places, size_hw: tuple[int, int], count: int) -> list[tuple[Tensor, Tensor]]:
    """Of each picture the boxes of the places that are surest.

    Args:
        places: of B pictures.
        size_hw: of the network's input; boxes are clipped to it.
        count: most boxes of a picture.

    Returns:
        B pairs of boxes (N, 4) and expected IoUs (N,), best first.
    """
    answers = []
    for boxes, quality in zip(places.boxes_xyxy, places.quality.sigmoid(), strict=True):
        best = quality.topk(min(count, len(quality)))
        answers.append((clip_boxes(boxes[best.indices], size_hw), best.values))
    return answers


def _conv(in_width: int, out_width: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, group normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_width, out_width, 3, stride, 1, bias=False), nn.GroupNorm(8, out_width), nn.ReLU(inplace=True)
    )


def _centres(level: Tensor, stride: int) -> Tensor:
    """(h * w, 2) x, y of the cells of a map, in pixels."""
    height, width = level.shape[-2:]
    y, x = ((torch.arange(side, device=level.device, dtype=torch.float32) + 0.5) * stride for side in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def _fold(module: nn.Module) -> nn.Module:
    """Fold each normalisation into the convolution before it, where the two are neighbours; keep its activation."""
    for (name, child), (after, norm) in itertools.pairwise(list(module.named_children())):
        if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, norm))
            setattr(module, after, getattr(norm, "act", nn.Identity()))
    for child in module.children():
        _fold(child)
    return module
