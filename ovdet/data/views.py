"""What a model sees of a picture: a part of it, perhaps mirrored, as a square; and where its boxes are then.

The published views of X-VLM (arXiv:2111.08276 and its data code). Pictures are resized by PIL, bicubic with
antialiasing, without regard to their aspect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from ovdet.data.sampling import Draw
from ovdet.data.texts import swap_sides, tells_sides
from ovdet.errors import InputError

SideWords = Literal["ignore", "keep", "swap"]
"""What a mirrored picture does to texts that tell left from right: nothing at all (published for pre-training), such
pictures are not mirrored (published for fine-tuning), or the words are exchanged."""

Augmentation = Callable[[np.random.Generator, Image.Image], Image.Image]


@dataclass(frozen=True)
class View:
    """A part of a picture.

    Attributes:
        crop_xyxy: whole pixels of the original picture.
        mirrored: left and right exchanged, after the crop.
    """

    crop_xyxy: tuple[int, int, int, int]
    mirrored: bool = False

    def picture(self, picture: Image.Image, side: int) -> Image.Image:
        """The part as a square of `side` pixels."""
        part = picture.crop(self.crop_xyxy)
        if self.mirrored:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return part.resize((side, side), Image.Resampling.BICUBIC)

    def boxes(self, boxes_xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where boxes are in the view.

        Args:
            boxes_xywh: (N, 4) left, top, width, height in pixels of the original picture; none without area.

        Returns:
            boxes_cxcywh_norm (N, 4) of what is inside, as shares of the view; and the shares (N,) of their areas that
            are inside.
        """
        boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
        start, past = np.array(self.crop_xyxy[:2]), np.array(self.crop_xyxy[2:])
        first = np.maximum(boxes[:, :2], start)
        last = np.minimum(boxes[:, :2] + boxes[:, 2:], past)
        size = np.maximum(last - first, 0)  # (N, 2)
        seen = size.prod(axis=1) / boxes[:, 2:].prod(axis=1)
        centre = (first + size / 2 - start) / (past - start)
        if self.mirrored:
            centre[:, 0] = 1 - centre[:, 0]
        return np.concatenate([centre, size / (past - start)], axis=1), seen


def whole_view(picture: Image.Image) -> View:
    """All of a picture."""
    return View((0, 0, picture.width, picture.height))


def crop_around(rng: np.random.Generator, box_xywh: Sequence[float], size_wh: tuple[int, int]) -> View:
    """A random part that holds a box whole: each border anywhere between the box's and the picture's.

    Raises:
        InputError: the box has no area or is not inside the picture.
    """
    left, top, width, height = box_xywh
    full_width, full_height = size_wh
    if not (left >= 0 and top >= 0 and width > 0 and height > 0):
        raise InputError(f"the box {list(box_xywh)} (left, top, width, height) has no area or starts outside")
    if left + width > full_width + 1 or top + height > full_height + 1:
        raise InputError(f"the box {list(box_xywh)} reaches out of the picture of {full_width} x {full_height} pixels")
    x0, y0 = (int(rng.integers(0, math.floor(edge) + 1)) for edge in (left, top))
    x1 = int(rng.integers(min(math.ceil(left + width), full_width), full_width + 1))
    y1 = int(rng.integers(min(math.ceil(top + height), full_height), full_height + 1))
    return View((x0, y0, x1, y1))


def crop_anywhere(rng: np.random.Generator, size_wh: tuple[int, int], scale: tuple[float, float]) -> View:
    """A random part of the area and the aspect that torchvision's `RandomResizedCrop` draws."""
    canvas = torch.empty(1, size_wh[1], size_wh[0], device="meta")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        top, left, height, width = RandomResizedCrop.get_params(canvas, list(scale), [3 / 4, 4 / 3])
    return View((left, top, left + width, top + height))


def mirror(
    rng: np.random.Generator, view: View, texts: Sequence[Sequence[str]], side_words: SideWords, chance: float = 0.5
) -> tuple[View, list[list[str]]]:
    """Mirror a view by chance; gives it and the texts as they are to be said of it.

    Args:
        rng: of the chance.
        view: not mirrored yet.
        texts: all that is said of the picture, in groups.
        side_words: what to do where left and right are told.
        chance: of mirroring.
    """
    groups = [list(group) for group in texts]
    if rng.random() >= chance or (side_words == "keep" and any(tells_sides(group) for group in groups)):
        return view, groups
    if side_words == "swap":
        groups = [[swap_sides(text) for text in group] for group in groups]
    return View(view.crop_xyxy, mirrored=True), groups


def view_generator(seed: int, index: int) -> np.random.Generator:
    """The source of a view's randomness: of seed and index, or of seed and number where the index is a `Draw`."""
    return np.random.default_rng((seed, index.number if isinstance(index, Draw) else int(index)))


def check_side_words(side_words: str) -> None:
    """Refuse what is no policy.

    Raises:
        InputError: it is none.
    """
    if side_words not in ("ignore", "keep", "swap"):
        raise InputError(f"side_words must be 'ignore', 'keep' or 'swap', got {side_words!r}")


def to_tensor(picture: Image.Image) -> Tensor:
    """(3, H, W) uint8 RGB."""
    return torch.from_numpy(np.asarray(picture.convert("RGB")).transpose(2, 0, 1).copy())
