"""The proposer at work: boxes of whatever may be a thing in a picture, a closer look at any box, and its mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from ovdet.errors import InputError
from ovdet.layers.compact import read_compact
from ovdet.ops.boxes import clip_boxes, enlarge_boxes
from ovdet.vlm.contrastive.imagenet_words import ImageNetWords
from ovdet.zeroshot.proposer import SURROUNDINGS, FrozenTrunk, Places, Proposer, apply_deltas, best_places

EASY_SIDE = 110.0
"""Square root of the area, in pixels of a view, at which the region head sees a thing best."""


@dataclass(frozen=True)
class SizedView:
    """What the proposer saw in one size of a picture.

    Attributes:
        maps: its pyramid.
        places: what every place says, boxes in pixels of the view.
        size_hw: of the view.
        scale_xy: pixels of the view in a pixel of the picture, along x and y.
    """

    maps: list[Tensor]
    places: Places
    size_hw: tuple[int, int]
    scale_xy: tuple[float, float]

    def to_view(self, boxes_xyxy: Tensor) -> Tensor:
        """Pixels of the picture -> pixels of the view, (N, 4)."""
        return boxes_xyxy * boxes_xyxy.new_tensor(self.scale_xy * 2)

    def to_picture(self, boxes_xyxy: Tensor) -> Tensor:
        """Pixels of the view -> pixels of the picture, (N, 4)."""
        return boxes_xyxy / boxes_xyxy.new_tensor(self.scale_xy * 2)


@dataclass(frozen=True)
class Looked:
    """Boxes after a closer look; pixels of the picture.

    Attributes:
        boxes_xyxy: (N, 4) corrected and clipped.
        quality: (N,) expected IoU with a thing, in [0, 1].
        masks: (N, 28, 28) in [0, 1], over `windows_xyxy`.
        windows_xyxy: (N, 4); may leave the picture.
    """

    boxes_xyxy: Tensor
    quality: Tensor
    masks: Tensor
    windows_xyxy: Tensor

    def __getitem__(self, index: Tensor) -> Looked:
        return Looked(self.boxes_xyxy[index], self.quality[index], self.masks[index], self.windows_xyxy[index])


class ProposalFinder:
    """Finds things in pictures, whatever they are.

    Args:
        trunk: frozen.
        proposer: trained.
        view_sides: square roots of the areas, in pixels, of the sizes in which a picture is looked at.
    """

    def __init__(self, trunk: FrozenTrunk, proposer: Proposer, view_sides: tuple[int, ...] = (224, 448)) -> None:
        self.trunk, self.proposer, self.view_sides = trunk.eval(), proposer.eval(), view_sides

    @torch.no_grad()
    def view(self, image: np.ndarray, size_hw: tuple[int, int]) -> SizedView:
        """Look at a picture, (H, W, 3) uint8 RGB, in one size."""
        shrinks = size_hw[0] * size_hw[1] < image.shape[0] * image.shape[1]
        small = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].to(self.trunk.mean) / 255
        maps = self.proposer.pyramid(self.trunk(pixels))
        scale_xy = (size_hw[1] / image.shape[1], size_hw[0] / image.shape[0])
        return SizedView(maps, self.proposer.places(maps), size_hw, scale_xy)

    def propose(self, views: list[SizedView], count: int = 100, overlap: float = 0.7) -> tuple[Tensor, Tensor]:
        """The boxes that the places are surest of.

        Args:
            views: of one picture.
            count: most boxes.
            overlap: of two boxes that overlap by more (IoU) the less sure one goes.

        Returns:
            (N, 4) in pixels of the picture, and expected IoUs (N,), best first.
        """
        boxes, quality = [], []
        for view in views:
            own, sure = best_places(view.places, view.size_hw, 4 * count)[0]
            boxes.append(view.to_picture(own))
            quality.append(sure)
        all_boxes, all_quality = torch.cat(boxes), torch.cat(quality)
        kept = nms(all_boxes, all_quality, overlap)[:count]
        return all_boxes[kept], all_quality[kept]

    @torch.no_grad()
    def look_closer(self, views: list[SizedView], boxes_xyxy: Tensor) -> Looked:
        """Correct boxes, judge them and draw masks, each in the view in which it has about `EASY_SIDE` pixels.

        Args:
            views: of one picture.
            boxes_xyxy: (N, 4) in pixels of the picture.
        """
        boxes_xyxy = boxes_xyxy.float()
        sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clamp(min=1e-3).prod(dim=1).sqrt()
        away = torch.stack(
            [(sides * math.sqrt(math.prod(view.scale_xy)) / EASY_SIDE).log().abs() for view in views]
        )  # (V, N)
        chosen = away.argmin(dim=0)
        answer = Looked(
            boxes_xyxy.clone(), boxes_xyxy.new_zeros(len(sides)), boxes_xyxy.new_zeros(len(sides), 28, 28), boxes_xyxy
        )
        windows = enlarge_boxes(boxes_xyxy, SURROUNDINGS)
        for number, view in enumerate(views):
            index = torch.nonzero(chosen == number)[:, 0]
            if not len(index):
                continue
            seen = self.proposer.regions(view.maps, [view.to_view(boxes_xyxy[index])])
            better = clip_boxes(apply_deltas(view.to_view(boxes_xyxy[index]), seen.deltas), view.size_hw)
            answer.boxes_xyxy[index] = view.to_picture(better)
            answer.quality[index] = seen.quality.sigmoid()
            answer.masks[index] = seen.masks.sigmoid()
        return Looked(answer.boxes_xyxy, answer.quality, answer.masks, windows)


def load_finder(path: Path, backbone: ImageNetWords, view_sides: tuple[int, ...] = (224, 448)) -> ProposalFinder:
    """A trained proposer on the trunk of a backbone, on its device.

    Args:
        path: of weights that tools/benchmarks/photographs/pack_proposer.py wrote.
        backbone: whose classifier's stages the proposer was trained on.
        view_sides: as for `ProposalFinder`.

    Raises:
        InputError: no such file, damaged, or the weights of something else.
    """
    weights, _ = read_compact(path)
    proposer = Proposer()
    if weights.keys() != proposer.state_dict().keys():
        raise InputError(f"{path} holds no proposer: its weights have other names; see pack_proposer.py")
    proposer.load_state_dict(weights)
    trunk = FrozenTrunk(backbone.classifier.net, backbone.mean, backbone.std)
    device = backbone.mean.device
    return ProposalFinder(trunk.to(device), proposer.to(device), view_sides)


def boxes_at(view: SizedView, points_xy: Tensor) -> Tensor:
    """What the places nearest to points say, one box for each level of the pyramid.

    Args:
        view: of the picture.
        points_xy: (N, 2) in pixels of the picture.

    Returns:
        (N, 4 levels, 4) in pixels of the picture, clipped.
    """
    points = points_xy * points_xy.new_tensor(view.scale_xy)
    answers, start = [], 0
    for level in view.maps:
        height, width = level.shape[-2:]
        stride = float(view.places.strides[start])
        column = (points[:, 0] / stride).long().clamp(0, width - 1)
        row = (points[:, 1] / stride).long().clamp(0, height - 1)
        boxes = view.places.boxes_xyxy[0, start + row * width + column]
        answers.append(view.to_picture(clip_boxes(boxes, view.size_hw)))
        start += height * width
    return torch.stack(answers, dim=1)


def paint_mask(mask: Tensor, window_xyxy: Tensor, size_hw: tuple[int, int]) -> np.ndarray:
    """A mask over a window -> (H, W) bool in the picture.

    Args:
        mask: (28, 28) in [0, 1].
        window_xyxy: (4,) in pixels of the picture; may leave it.
        size_hw: of the picture.
    """
    left, top, right, bottom = (float(edge) for edge in window_xyxy)
    side = mask.shape[-1]
    y = ((np.arange(size_hw[0]) + 0.5 - top) / max(bottom - top, 1e-3) * side - 0.5).astype(np.float32)
    x = ((np.arange(size_hw[1]) + 0.5 - left) / max(right - left, 1e-3) * side - 0.5).astype(np.float32)
    rows, columns = np.flatnonzero((y > -1) & (y < side)), np.flatnonzero((x > -1) & (x < side))
    painted = np.zeros(size_hw, dtype=bool)
    if len(rows) and len(columns):
        grid_x, grid_y = np.meshgrid(x[columns], y[rows])
        values = cv2.remap(mask.cpu().numpy(), grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = values >= 0.5
    return painted
