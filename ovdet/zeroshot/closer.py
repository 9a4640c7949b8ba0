"""A closer look at what the maps found: the proposer corrects each box, says how sure it is of it, and draws the mask.

The maps know what is where but not how far it reaches; the proposer, taught by stickers, knows how far things reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.maps import view_size
from ovdet.zeroshot.proposals import ProposalFinder, SizedView, paint_mask
from ovdet.zeroshot.regions import Region, clash


@dataclass(frozen=True)
class Thing:
    """One answer.

    Attributes:
        box_xyxy: in pixels of the picture.
        score: weighted geometric mean of the region's score and of the IoU that the proposer expects of the box.
        label: index of the name.
        likely: (28, 28) in [0, 1], the mask over `window_xyxy`.
        window_xyxy: (4,) in pixels of the picture; may leave it.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float
    label: int
    likely: Tensor
    window_xyxy: Tensor

    def mask(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The mask in the picture, (H, W) bool, cut at the box; the whole box where nothing would be left."""
        limits = (size_hw[1] - 1, size_hw[0] - 1)
        left, top = (min(int(np.floor(edge)), limit) for edge, limit in zip(self.box_xyxy[:2], limits, strict=True))
        right, bottom = (int(np.ceil(edge)) for edge in self.box_xyxy[2:])
        painted = paint_mask(self.likely, self.window_xyxy, size_hw)
        mask = np.zeros_like(painted)
        mask[top:bottom, left:right] = painted[top:bottom, left:right]
        if not mask.any():
            mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        return mask


def look_closer(
    finder: ProposalFinder,
    image: np.ndarray,
    found: Sequence[tuple[Region, int]],
    config: ZeroShotConfig,
    threshold: float,
) -> list[Thing]:
    """Look closer at the regions of all names; of two boxes of one name in each other's way the better one stays.

    Args:
        finder: whose trunk is the backbone's own.
        image: (H, W, 3) uint8 RGB.
        found: regions, and the index of the name of each.
        config: `closer_*`, `overlap` and `inside`.
        threshold: lowest score.

    Returns:
        Things, best first; each name's are the same in any company.
    """
    if not found:
        return []
    size_hw = (image.shape[0], image.shape[1])
    views = [finder.view(image, view_size(size_hw, side, config)) for side in config.closer_sides]
    things: list[Thing] = []
    for label in sorted({label for _, label in found}):  # by name: what else is asked for must not change a digit
        regions = [region for region, own in found if own == label]
        things += _of_one_name(finder, views, regions, label, size_hw, config.closer_weight)
    kept: list[Thing] = []
    for thing in sorted(things, key=lambda thing: -thing.score):
        rivals = (other for other in kept if other.label == thing.label)
        if thing.score >= threshold and not any(clash(thing.box_xyxy, other.box_xyxy, config) for other in rivals):
            kept.append(thing)
    return kept


def _of_one_name(
    finder: ProposalFinder,
    views: list[SizedView],
    regions: list[Region],
    label: int,
    size_hw: tuple[int, int],
    weight: float,
) -> list[Thing]:
    """All regions of one name, each with its corrected box."""
    rows, columns = regions[0].cells.shape
    scale = np.array([size_hw[1] / columns, size_hw[0] / rows] * 2, dtype=np.float32)
    cells = np.array([region.box for region in regions], dtype=np.float32)
    looked = finder.look_closer(views, torch.from_numpy(cells * scale).to(finder.trunk.mean))
    boxes, quality = looked.boxes_xyxy.cpu().numpy(), looked.quality.cpu().numpy()
    return [
        Thing(
            tuple(float(edge) for edge in box),  # type: ignore[arg-type]
            min(1.0, float(region.score * sure**weight) ** (1 / (1 + weight))),
            label,
            likely.cpu(),
            window.cpu(),
        )
        for region, box, sure, likely, window in zip(
            regions, boxes, quality, looked.masks, looked.windows_xyxy, strict=True
        )
    ]
