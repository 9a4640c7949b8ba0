"""From the maps of one name to its things: where, how sure, and which cells."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ovdet.zeroshot.config import ZeroShotConfig


@dataclass(frozen=True)
class Region:
    """One thing on the grid.

    Attributes:
        box: left, top, right, bottom in cells, edges at whole numbers.
        peak: highest value of its map, in [0, 1].
        score: geometric mean of the peak and the mean over its cells: a thing convinces as a whole, a
            mistake mostly in one spot.
        cells: (rows, columns) bool, which cells it covers.
        likely: (rows, columns) float32, the map it was cut from, 1 at the peak.
    """

    box: tuple[int, int, int, int]
    peak: float
    score: float
    cells: np.ndarray
    likely: np.ndarray


def find_regions(maps: np.ndarray, config: ZeroShotConfig, least: float) -> list[Region]:
    """Find the things of one name.

    Args:
        maps: (V, rows, columns) of one name, coarse to fine.
        config: the rules.
        least: lowest score.

    Returns:
        Regions, best first, overlaps resolved.
    """
    candidates = []
    for fused in fuse(maps):
        peak = float(fused.max())
        if peak >= least:
            candidates += [region for rim in config.rims for region in _cut(fused, rim * peak, config, least)]
    everywhere = maps.mean(axis=0)
    total = max(float(everywhere.sum()), 1e-9)

    def worth(region: Region) -> float:
        left, top, right, bottom = region.box
        return region.peak * (float(everywhere[top:bottom, left:right].sum()) / total) ** config.wholeness

    candidates.sort(key=worth, reverse=True)  # stable: of equals the coarser and larger stays first
    kept = [region for region in resolve_overlaps(candidates, config) if region.score >= least]
    return sorted(kept, key=lambda region: -region.score)


def fuse(maps: np.ndarray) -> list[np.ndarray]:
    """Ask three neighbouring sizes to agree: their geometric mean, (V, rows, columns) -> V - 2 maps.

    What only one size sees is mostly a mistake, and the geometric mean lets it go.
    """
    return [np.cbrt(np.prod(maps[first : first + 3], axis=0)) for first in range(len(maps) - 2)]


def _cut(fused: np.ndarray, threshold: float, config: ZeroShotConfig, least: float) -> list[Region]:
    """The blobs of a map above a threshold."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats((fused >= threshold).astype(np.uint8), connectivity=8)
    regions = []
    for label in range(1, count):
        left, top, width, height, area = (int(value) for value in facts[label])
        cells = labels == label
        peak = float(fused[cells].max())
        if area >= config.least_cells and peak >= max(least, config.apart * float(fused.max())):
            score = (peak * float(fused[cells].mean())) ** 0.5
            regions.append(Region((left, top, left + width, top + height), peak, score, cells, fused / peak))
    return regions


def resolve_overlaps(regions: list[Region], config: ZeroShotConfig) -> list[Region]:
    """Keep the best of those that overlap (IoU) or lie in each other."""
    kept: list[Region] = []
    for region in regions:
        if not any(clash(region.box, other.box, config) for other in kept):
            kept.append(region)
    return kept


def clash(one: tuple[float, ...], other: tuple[float, ...], config: ZeroShotConfig) -> bool:
    """Are two boxes of one name in each other's way?"""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared > config.overlap * (sum(areas) - shared) or shared > config.inside * min(areas)
