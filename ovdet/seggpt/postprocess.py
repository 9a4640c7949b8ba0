"""From soft maps to masks: threshold, largest component, holes, and what is one thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ovdet.errors import InputError


@dataclass(frozen=True)
class MaskRules:
    """What becomes of a soft map.

    Attributes:
        threshold: above which a pixel belongs to the thing; None is the model's own.
        exclusive: give each pixel to the class that is surest of it, instead of letting masks overlap.
        largest: keep only the largest connected part.
        fill_holes: fill what is enclosed by the mask.
        min_pixels: smaller connected parts are left out.
    """

    threshold: float | None = None
    exclusive: bool = True
    largest: bool = False
    fill_holes: bool = False
    min_pixels: int = 1

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise InputError(f"threshold must lie in [0, 1), got {self.threshold}")
        if self.min_pixels < 1:
            raise InputError(f"min_pixels must be at least 1, got {self.min_pixels}")


def tidy(mask: np.ndarray, rules: MaskRules) -> np.ndarray:
    """Apply holes, largest part and smallest size to a mask, (H, W) bool -> the same."""
    if not mask.any():
        return mask
    if rules.fill_holes:
        mask = fill_holes(mask)
    if rules.largest or rules.min_pixels > 1:
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA].copy()
        areas[0] = 0  # the background
        keep = areas >= rules.min_pixels
        if rules.largest:
            keep &= np.arange(count) == areas.argmax()
        keep[0] = False
        mask = keep[parts]
    return mask


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Add what cannot reach the border of the picture over its four neighbours without crossing the mask."""
    around = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    _, parts = cv2.connectedComponents(around, connectivity=4)
    inner: np.ndarray = parts[1:-1, 1:-1]
    return inner != parts[0, 0]


def things(mask: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Each connected part (eight neighbours) of a mask by itself, (H, W) bool, the `most` largest."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    for part in np.argsort(-areas, kind="stable")[:most]:
        yield parts == part + 1
