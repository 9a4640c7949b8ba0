"""From a region on the grid to a mask and a box in the picture."""

from __future__ import annotations

import cv2
import numpy as np

from ovdet.zeroshot.regions import Region

WORK_SIDE = 640
"""Masks are drawn in a copy of the picture with at most this long side."""


def work_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width in which masks are drawn: the picture's own, or smaller."""
    scale = min(1.0, WORK_SIDE / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def outline(region: Region, work_hw: tuple[int, int]) -> np.ndarray:
    """The region in working pixels, (h, w) bool, edges smoothed by enlarging the map itself; never empty."""
    rim = region.likely[region.cells].min()
    likely = np.where(region.cells, region.likely, np.minimum(region.likely, rim * 0.99)).astype(np.float32)
    mask = cv2.resize(likely, work_hw[::-1], interpolation=cv2.INTER_LINEAR) >= rim
    if not mask.any():
        cells = region.cells.astype(np.uint8)
        mask = cv2.resize(cells, work_hw[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    if not mask.any():
        mask[:] = True
    return mask


def to_picture(mask: np.ndarray, size_hw: tuple[int, int]) -> tuple[tuple[float, float, float, float], np.ndarray]:
    """Enlarge a working mask to the picture.

    Args:
        mask: (h, w) bool, not empty, no larger than the picture.
        size_hw: of the picture.

    Returns:
        The tight box in the picture's pixels, and the mask (H, W) bool.
    """
    rows, columns = (np.arange(full) * small // full for full, small in zip(size_hw, mask.shape, strict=True))
    full_mask = mask[rows[:, None], columns[None, :]]
    seen_x, seen_y = np.flatnonzero(full_mask.any(axis=0)), np.flatnonzero(full_mask.any(axis=1))
    box_xyxy = (float(seen_x[0]), float(seen_y[0]), float(seen_x[-1] + 1), float(seen_y[-1] + 1))
    return box_xyxy, full_mask
