"""From a region on the grid to a mask and a box in the picture.

The map says roughly where; the picture's own colours say where the edge is. GrabCut (Rother et al. 2004) joins the
two, and where it strays far from the map, the map's outline stays.
"""

from __future__ import annotations

import cv2
import numpy as np

from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.regions import Region

WORK_SIDE = 640
CUT_SIDE = 160
_ROUNDS = 3


def work_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width in which masks are drawn: the picture's own, or smaller with a long side of `WORK_SIDE`."""
    scale = min(1.0, WORK_SIDE / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def outline(region: Region, work_hw: tuple[int, int]) -> np.ndarray:
    """The region in working pixels by its map alone, (h, w) bool, smooth; never empty."""
    rim = region.likely[region.cells].min()
    likely = np.where(region.cells, region.likely, np.minimum(region.likely, rim * 0.99)).astype(np.float32)
    mask: np.ndarray = cv2.resize(likely, work_hw[::-1], interpolation=cv2.INTER_LINEAR) >= rim
    if not mask.any():
        left, top, right, bottom = _in_work(region.box, region.cells.shape, work_hw)
        mask[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    return mask


def snap_to_edges(image: np.ndarray, region: Region, rough: np.ndarray, config: ZeroShotConfig) -> np.ndarray:
    """Move the outline to the picture's edges.

    Args:
        image: (h, w, 3) uint8 RGB, the working copy of the picture.
        region: what the map says.
        rough: (h, w) bool, `outline` of the region.
        config: `cut_*` fields.

    Returns:
        (h, w) bool: GrabCut's mask if it overlaps the rough one by `cut_trust` (IoU), else the rough one.
    """
    left, top, right, bottom = _surroundings(rough, config.cut_around)
    scale = min(1.0, CUT_SIDE / max(right - left, bottom - top))
    size = (max(8, round((right - left) * scale)), max(8, round((bottom - top) * scale)))  # (w, h)
    window = np.s_[top:bottom, left:right]
    colours = cv2.cvtColor(cv2.resize(image[window], size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    inside = cv2.resize(rough[window].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    likely = cv2.resize(region.likely, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)[window]
    likely = cv2.resize(likely, size, interpolation=cv2.INTER_LINEAR)
    seeds = np.full(inside.shape, cv2.GC_PR_BGD, np.uint8)
    seeds[inside] = cv2.GC_PR_FGD
    seeds[inside & (likely >= config.cut_sure)] = cv2.GC_FGD
    seeds[~inside & (likely < config.cut_never)] = cv2.GC_BGD
    cut = _grab_cut(colours, seeds, inside)
    if cut is None:
        return rough
    mask = np.zeros_like(rough)
    mask[window] = cv2.resize(cut.astype(np.uint8), (right - left, bottom - top), interpolation=cv2.INTER_NEAREST) > 0
    overlap = (mask & rough).sum() / (mask | rough).sum()
    return mask if overlap >= config.cut_trust else rough


def cut_out_box(image: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    """The thing in a box, by colours: GrabCut, to which all outside of the box is background.

    Args:
        image: (h, w, 3) uint8 RGB, the working copy of the picture.
        box_xyxy: (4,) in its pixels.

    Returns:
        (h, w) bool, never empty: the whole box where the cut finds nothing in it.
    """
    height, width = image.shape[:2]
    left, top = (min(max(int(edge), 0), side - 1) for edge, side in zip(box_xyxy[:2], (width, height), strict=True))
    right, bottom = (
        min(max(int(np.ceil(edge)), low + 1), side)
        for edge, low, side in zip(box_xyxy[2:], (left, top), (width, height), strict=True)
    )
    inside = np.zeros((height, width), bool)
    inside[top:bottom, left:right] = True
    seeds = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    cut = _grab_cut(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), seeds, inside)
    return inside if cut is None or not (cut & inside).any() else cut & inside


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


def _in_work(box: tuple[int, int, int, int], grid_hw: tuple[int, ...], work_hw: tuple[int, int]) -> tuple[float, ...]:
    """A box in cells to working pixels."""
    scales = (work_hw[1] / grid_hw[1], work_hw[0] / grid_hw[0]) * 2
    return tuple(edge * scale for edge, scale in zip(box, scales, strict=True))


def _surroundings(rough: np.ndarray, around: float) -> tuple[int, int, int, int]:
    """The tight box of a mask, wider by `around` of its sides each way, inside the picture."""
    columns, rows = np.flatnonzero(rough.any(axis=0)), np.flatnonzero(rough.any(axis=1))
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    more_x, more_y = int(np.ceil(around * (right - left))), int(np.ceil(around * (bottom - top)))
    height, width = rough.shape
    return max(0, left - more_x), max(0, top - more_y), min(width, right + more_x), min(height, bottom + more_y)


def _grab_cut(colours: np.ndarray, seeds: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """GrabCut, then only blobs that share a tenth of the rough mask; None where it finds nothing."""
    front = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if front.all() or not front.any() or min(front.sum(), (~front).sum()) < 2 * _MIXTURE:
        return None
    cv2.setRNGSeed(0)  # GrabCut starts with k-means: the same picture must give the same mask
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(colours), seeds, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    front = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    front = cv2.morphologyEx(front, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(front, connectivity=8)
    shared = np.bincount(labels[inside], minlength=count)
    kept = [label for label in range(1, count) if shared[label] > 0.1 * inside.sum()]
    return np.isin(labels, kept) if kept else None


_MIXTURE = 5
"""Colours that GrabCut's mixtures are made of; k-means needs at least as many pixels."""
