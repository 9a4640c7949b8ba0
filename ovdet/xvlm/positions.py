"""Tables of positions brought to another picture size, as X-VLM's fine-tunings start from 224 pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ovdet.errors import InputError


def resize_relative_positions(table: Tensor, window: int) -> Tensor:
    """Bring a Swin table of relative positions to another window by a cubic spline on geometric knots.

    Source rows are thought to lie at 0, 1, 1 + q, 1 + q + q^2, ... and mirrored, with q such that the outermost ones
    reach the new border; the spline (not-a-knot ends) is read at whole numbers. So near positions stay as they are
    and far ones are stretched. Towards a smaller window q stops at 1.01, so the table is rather cut than squeezed.

    Args:
        table: ((2 w - 1)^2, heads).
        window: w of the result.

    Returns:
        ((2 window - 1)^2, heads), of the table's type; the table itself if the window is the same.

    Raises:
        InputError: the table is of no window.
    """
    source = math.isqrt(len(table))
    if source**2 != len(table) or source % 2 == 0 or source < 3:
        raise InputError(f"a table of relative positions has (2w - 1)^2 rows with w of 2 or more, got {len(table)}")
    target = 2 * window - 1
    if source == target:
        return table
    knots = geometric_knots(source, target)
    reach = target // 2
    places = np.arange(-reach, reach + 1, dtype=np.float64).clip(knots[0], knots[-1])
    weights = torch.from_numpy(spline_weights(knots, places))  # (target, source)
    grid = table.detach().double().cpu().view(source, source, -1)
    resized = torch.einsum("ia,jb,abh->ijh", weights, weights, grid)  # (target, target, heads)
    return resized.reshape(target**2, -1).to(table)


def geometric_knots(source: int, target: int) -> np.ndarray:
    """Where the `source` positions lie on a line whose `target` positions are whole numbers; both counts are odd."""
    steps, reach = source // 2, target // 2
    low, high = 1.01, 1.5
    ratio = low
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**steps) / (1 - ratio) > reach:
            high = ratio
        else:
            low = ratio
    right = np.cumsum(ratio ** np.arange(steps))  # 1, 1 + q, 1 + q + q^2, ...
    return np.concatenate([-right[::-1], [0.0], right])


def spline_weights(knots: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Cubic interpolation as a matrix: values at `places` are `weights @ values at knots`.

    The spline's second derivatives solve a linear system; at both ends the third derivative runs on through the last
    inner knot (not-a-knot). Two or three knots give the line or parabola through them.

    Args:
        knots: (S,) rising.
        places: (T,) within them.

    Returns:
        (T, S) float64.
    """
    count = len(knots)
    if count < 4:
        powers = range(count)
        return np.stack([places**p for p in powers], 1) @ np.linalg.inv(np.stack([knots**p for p in powers], 1))
    gap = np.diff(knots)
    system, right = np.zeros((count, count)), np.zeros((count, count))
    for i in range(1, count - 1):
        system[i, i - 1 : i + 2] = gap[i - 1], 2 * (gap[i - 1] + gap[i]), gap[i]
        right[i, i - 1 : i + 2] = 6 / gap[i - 1], -6 / gap[i - 1] - 6 / gap[i], 6 / gap[i]
    system[0, :3] = gap[1], -gap[0] - gap[1], gap[0]
    system[-1, -3:] = gap[-1], -gap[-1] - gap[-2], gap[-2]
    curvature = np.linalg.solve(system, right)  # (S, S): second derivatives at the knots
    left = np.clip(np.searchsorted(knots, places, side="right") - 1, 0, count - 2)
    h = gap[left][:, None]
    a = (knots[left + 1] - places)[:, None] / h  # (T, 1)
    b = 1 - a
    unit = np.eye(count)
    bend = ((a**3 - a) * curvature[left] + (b**3 - b) * curvature[left + 1]) * h**2 / 6
    return a * unit[left] + b * unit[left + 1] + bend


def resize_absolute_positions(table: Tensor, grid: int) -> Tensor:
    """Bring a table of absolute positions to another grid, bicubic; the first row, of the class token, stays.

    Args:
        table: (1 + n * n, width).
        grid: n of the result.

    Raises:
        InputError: the table is of no square grid.
    """
    side = math.isqrt(max(len(table) - 1, 0))
    if side < 1 or side**2 != len(table) - 1:
        raise InputError(f"a table of positions has 1 + n * n rows, got {len(table)}")
    if side == grid:
        return table
    patches = table[1:].view(1, side, side, -1).permute(0, 3, 1, 2)  # (1, W, n, n)
    patches = F.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], patches.permute(0, 2, 3, 1).reshape(grid * grid, -1)])
