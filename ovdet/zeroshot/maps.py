"""Look at a picture in several sizes, and say for every place how likely each name is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ovdet.vlm.base import VLMBackbone
from ovdet.zeroshot import matching
from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.matching import Matcher

LEAST_SIDE = 32


@dataclass(frozen=True)
class View:
    """What the backbone saw in one size of the picture.

    Attributes:
        vectors: (h, w, D), one for each cell.
        offset: where in a cell its centre lies, in cells: 0.5 is the middle.
        cells: (rows, columns) that the whole picture spans, in cells; not whole numbers in general.
        mirrored: the picture was looked at in the mirror.
    """

    vectors: Tensor
    offset: float
    cells: tuple[float, float]
    mirrored: bool


def view_size(size_hw: tuple[int, int], side: int, config: ZeroShotConfig) -> tuple[int, int]:
    """Height and width of a view, multiples of 32 with an area of about `side` squared; see `longest_ratio`."""
    height, width = size_hw
    longest = side * config.longest_ratio
    scale = side / (height * width) ** 0.5
    return tuple(  # type: ignore[return-value]
        max(LEAST_SIDE, round(min(edge * scale, longest) / LEAST_SIDE) * LEAST_SIDE) for edge in (height, width)
    )


def grid_size(size_hw: tuple[int, int], config: ZeroShotConfig) -> tuple[int, int]:
    """Rows and columns of the common grid of a picture: at most `config.grid`, at least 4."""
    longest = max(size_hw)
    return tuple(max(4, round(edge * config.grid / longest)) for edge in size_hw)  # type: ignore[return-value]


@torch.no_grad()
def look(backbone: VLMBackbone, image: np.ndarray, config: ZeroShotConfig) -> list[list[View]]:
    """Run the backbone densely over every size of one picture.

    Args:
        backbone: with dense maps.
        image: (H, W, 3) uint8 RGB.
        config: which sizes.

    Returns:
        For each size, coarse to fine, one view, or two where the mirror is asked too.
    """
    looks = []
    for side in config.view_sides:
        size_hw = view_size(image.shape[:2], side, config)
        shrinks = size_hw[0] * size_hw[1] < image.shape[0] * image.shape[1]
        small = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].to(backbone.mean) / 255  # (1, 3, h, w)
        mirrors = (False, True) if side < config.mirror_below else (False,)
        looks.append([_view(backbone, pixels, mirrored) for mirrored in mirrors])
    return looks


def _view(backbone: VLMBackbone, pixels: Tensor, mirrored: bool) -> View:
    vectors = backbone.forward_dense(pixels.flip(3) if mirrored else pixels)[0].permute(1, 2, 0)  # (h, w, D)
    offset = float(getattr(backbone, "cell_offset", 0.5))
    return View(vectors, offset, (float(vectors.shape[0]), float(vectors.shape[1])), mirrored)


def name_maps(
    looks: list[list[View]], matcher: Matcher, size_hw: tuple[int, int], config: ZeroShotConfig, least: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the maps of each name that is likely somewhere.

    Args:
        looks: of one picture.
        matcher: for the names.
        size_hw: of the picture.
        config: the grid.
        least: a name whose probability stays below this in all views is left out.

    Yields:
        Index of the name, and its maps (V, rows, columns) float32 in [0, 1], one for each size, on the common grid.
    """
    rows, columns = grid_size(size_hw, config)
    for first in range(0, matcher.count, matching.BLOCK):
        cells = [
            [matcher.probabilities(view.vectors, first).float().cpu().numpy() for view in views] for views in looks
        ]
        peaks = np.max([part.max(axis=(0, 1)) for parts in cells for part in parts], axis=0)  # (names,)
        for index in np.flatnonzero(peaks >= least):
            maps = [
                np.mean(
                    [on_grid(part[..., index], view, rows, columns) for part, view in zip(parts, views, strict=True)],
                    axis=0,
                )
                for parts, views in zip(cells, looks, strict=True)
            ]
            yield first + int(index), np.stack(maps)


def on_grid(cells: np.ndarray, view: View, rows: int, columns: int) -> np.ndarray:
    """Bring a view's map (h, w) to the common grid (rows, columns), bilinear, mirrored back."""
    y = ((np.arange(rows) + 0.5) * view.cells[0] / rows - view.offset).astype(np.float32)
    x = ((np.arange(columns) + 0.5) * view.cells[1] / columns - view.offset).astype(np.float32)
    grid_x, grid_y = np.meshgrid(x, y)
    contiguous = np.ascontiguousarray(cells, dtype=np.float32)
    seen: np.ndarray = cv2.remap(contiguous, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return seen[:, ::-1] if view.mirrored else seen
