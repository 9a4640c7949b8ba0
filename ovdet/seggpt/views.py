"""How pictures come to the network's size and soft maps back: windows, resizing, tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Windows:
    """Where the views of a picture lie.

    Attributes:
        size_hw: of the picture.
        views: rows and columns of each.
    """

    size_hw: tuple[int, int]
    views: tuple[tuple[slice, slice], ...]


def find_windows(size_hw: tuple[int, int], max_aspect: float, side: int) -> Windows:
    """One view of the whole, or of a very long picture windows of 2:1 that overlap by a quarter or more."""
    short, long = min(size_hw), max(size_hw)
    whole = (slice(0, size_hw[0]), slice(0, size_hw[1]))
    length = max(2 * short, min(long, side))
    if long <= max_aspect * short or length >= long:
        return Windows(size_hw, (whole,))
    count = math.ceil((long - length / 4) / (0.75 * length))
    spans = [slice(int(start), int(start) + length) for start in np.linspace(0, long - length, count)]
    wide = size_hw[1] == long
    return Windows(size_hw, tuple((whole[0], span) if wide else (span, whole[1]) for span in spans))


def enlarge(small: np.ndarray, place: Windows) -> np.ndarray:
    """Soft maps of the views (windows, h, w) -> one of the picture (H, W), bilinear, averaged where views overlap."""
    total = np.zeros(place.size_hw, np.float32)
    times = np.zeros(place.size_hw, np.float32) if len(place.views) > 1 else None
    for view, soft in zip(place.views, small, strict=True):
        height, width = (side.stop - side.start for side in view)
        total[view] += cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
        if times is not None:
            times[view] += 1
    return total if times is None else total / times


def resize_picture(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 to the network's size whatever its shape, as the authors resize: Pillow's bicubic."""
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    return np.asarray(resized)


def tile(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Examples in a square grid on one canvas (spatial ensemble); free cells repeat examples from the first on."""
    side = math.isqrt(len(pairs) - 1) + 1
    picture, painting = (np.zeros_like(each) for each in pairs[0])
    height, width = picture.shape[:2]
    rows = np.linspace(0, height, side + 1).round().astype(int)
    columns = np.linspace(0, width, side + 1).round().astype(int)
    for cell in range(side * side):
        top, bottom = rows[cell // side : cell // side + 2]
        left, right = columns[cell % side : cell % side + 2]
        one, its_painting = pairs[cell % len(pairs)]
        picture[top:bottom, left:right] = resize_picture(one, (bottom - top, right - left))
        shrunk = Image.fromarray(its_painting).resize((right - left, bottom - top), Image.Resampling.NEAREST)
        painting[top:bottom, left:right] = np.asarray(shrunk)
    return picture, painting
