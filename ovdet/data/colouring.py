"""In-context colouring: views of segmented pictures, stitched pictures, and colours that mean nothing by themselves.

Views are Painter's (crop, jitter, flip), which SegGPT keeps (section 4.2). How colours are drawn is not published; what
is done here is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from ovdet.data.segments import IGNORED, SegmentedPicture
from ovdet.errors import InputError

_CROPS = 10
"""Tries of torchvision's random resized crop before it falls back to the middle."""
_COLOURS = 100
"""Tries of one colour before the most distant of them is taken."""


@dataclass(frozen=True)
class ViewConfig:
    """How a picture is looked at anew.

    Attributes:
        size: side of the square view, in pixels. The aspect ratio is not kept, as at inference.
        scale: share of the picture's area that a crop has, least and most.
        ratio: width / height of a crop, least and most.
        jitter: strengths of brightness, contrast, saturation and hue changes.
        jitter_share: how often colours are changed.
        flip_share: how often left and right are swapped.
    """

    size: int = 448
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    jitter_share: float = 0.8
    flip_share: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 16:
            raise InputError(f"size must be at least 16 pixels, got {self.size}")
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} must be above 0 and in ascending order, got {low} and {high}")
        for name in ("jitter_share", "flip_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class View:
    """A square look at a picture.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        key_map: (S, S) int64: key of each pixel, `NOTHING` or `IGNORED`.
    """

    image: np.ndarray
    key_map: np.ndarray


def random_view(rng: np.random.Generator, picture: SegmentedPicture, config: ViewConfig) -> View:
    """Crop, flip and jitter; the picture is resized bicubically, its keys by the nearest pixel."""
    box = random_box(rng, picture.image.shape[:2], config.scale, config.ratio)
    view = resized(View(picture.image, picture.key_map), box, (config.size, config.size))
    image, key_map = view.image, view.key_map
    if rng.random() < config.jitter_share:
        image = _jittered(rng, image, config.jitter)
    if rng.random() < config.flip_share:
        image, key_map = image[:, ::-1], key_map[:, ::-1]
    return View(image, key_map)


def whole_view(picture: SegmentedPicture, size: int) -> View:
    """The whole picture, resized to a square and not changed otherwise."""
    height, width = picture.image.shape[:2]
    return resized(View(picture.image, picture.key_map), (0, 0, height, width), (size, size))


def random_box(
    rng: np.random.Generator, size_hw: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop as of torchvision's RandomResizedCrop."""
    height, width = size_hw
    for _ in range(_CROPS):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h = min(height, max(1, round(width / ratio[0])))
    w = min(width, max(1, round(height * ratio[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def resized(view: View, box: tuple[int, int, int, int], size_hw: tuple[int, int]) -> View:
    """Cut (top, left, height, width) out and scale it to `size_hw`."""
    top, left, height, width = box
    cut_out = np.ascontiguousarray(view.image[top : top + height, left : left + width])
    image = cut_out
    if cut_out.shape[:2] != size_hw:
        image = np.asarray(Image.fromarray(cut_out).resize(size_hw[::-1], Image.Resampling.BICUBIC))
    rows = top + nearest(height, size_hw[0])
    columns = left + nearest(width, size_hw[1])
    return View(image, view.key_map[rows[:, None], columns[None]])


def nearest(old: int, new: int) -> np.ndarray:
    """(new,) int: for each of `new` pixels of a resized line, the one of `old` pixels below its centre."""
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)


def stitch(views: Sequence[View], grid: tuple[int, int]) -> View:
    """Lay rows * columns views of one size side by side, row by row."""
    rows, columns = grid
    if len(views) != rows * columns:
        raise ValueError(f"a grid of {rows} x {columns} takes {rows * columns} views, got {len(views)}")
    lines = [views[row * columns : (row + 1) * columns] for row in range(rows)]
    return View(
        np.concatenate([np.concatenate([view.image for view in line], axis=1) for line in lines], axis=0),
        np.concatenate([np.concatenate([view.key_map for view in line], axis=1) for line in lines], axis=0),
    )


def draw_colours(rng: np.random.Generator, count: int, min_distance: int = 60) -> np.ndarray:
    """Colours that differ from one another and from black.

    Args:
        rng: source of all randomness.
        count: how many.
        min_distance: least sum of absolute differences of R, G and B. Where 100 tries find none that far off (many
            colours, a large distance), the most distant of them is taken.

    Returns:
        (count, 3) uint8, spread evenly but for the distance kept.
    """
    taken = np.zeros((1, 3), np.int64)  # black is what nothing is painted in
    for _ in range(count):
        candidates = rng.integers(0, 256, (_COLOURS, 3))
        distance = np.abs(candidates[:, None] - taken[None]).sum(axis=2).min(axis=1)  # (_COLOURS,)
        far = np.flatnonzero(distance >= min_distance)
        best = int(far[0]) if len(far) else int(distance.argmax())
        taken = np.concatenate([taken, candidates[best : best + 1]])
    return taken[1:].astype(np.uint8)


def paint(key_map: np.ndarray, keys: Sequence[int], colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour the chosen keys and leave all else black.

    Args:
        key_map: (H, W) int64.
        keys: K chosen keys.
        colours: (K, 3) uint8.

    Returns:
        (H, W, 3) uint8, and (H, W) bool: pixels that are judged, which is all but the ignored ones.
    """
    order = np.argsort(keys)
    chosen = np.asarray(keys, dtype=np.int64)[order]
    place = np.searchsorted(chosen, key_map).clip(max=max(len(chosen) - 1, 0))
    hit = chosen[place] == key_map if len(chosen) else np.zeros(key_map.shape, bool)
    table = np.concatenate([np.asarray(colours, np.uint8).reshape(-1, 3)[order], np.zeros((1, 3), np.uint8)])
    return table[np.where(hit, place, len(chosen))], key_map != IGNORED


def _jittered(rng: np.random.Generator, image: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """Brightness, contrast, saturation and hue, in a random order, as torchvision's ColorJitter."""
    factors = [float(rng.uniform(max(0.0, 1 - strength), 1 + strength)) for strength in strengths[:3]]
    turn = float(rng.uniform(-strengths[3], strengths[3]))
    picture = torch.from_numpy(image.copy()).permute(2, 0, 1)
    changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for step in rng.permutation(4).tolist():
        picture = _turn_hue(picture, turn) if step == 3 else changes[step](picture, factors[step])
    return picture.permute(1, 2, 0).numpy()


def _turn_hue(picture: torch.Tensor, turn: float) -> torch.Tensor:
    """Turn hues by a share of the circle; OpenCV's whole degrees of 180 are many times faster than torchvision."""
    hsv = cv2.cvtColor(picture.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(turn * 180)) % 180
    return torch.from_numpy(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).permute(2, 0, 1)
