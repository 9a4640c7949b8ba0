"""The published augmentation of X-VLM's pictures: two operations out of a list, each applied with a chance of one half.

Magnitude 7 of 10: enhancement by 1.36, never less than the original; shear by 0.21 of a side, shift by 7 pixels, turn
by 21 degrees, each to either side; what comes in at the border is grey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ovdet.errors import InputError

GREY = (128, 128, 128)
COLOUR_OPERATIONS = ("identity", "autocontrast", "equalize", "brightness", "sharpness")
"""What leaves boxes where they are."""
ALL_OPERATIONS = (*COLOUR_OPERATIONS, "shear_x", "shear_y", "translate_x", "translate_y", "rotate")

_TOP = 10
"""Magnitudes count up to this."""


class RandAugment:
    """Two operations drawn with replacement, each applied with a chance.

    Args:
        operations: names of those that may be drawn.
        count: drawn for a picture.
        magnitude: of 10.
        chance: that a drawn operation is applied.
    """

    def __init__(
        self, operations: Sequence[str] = COLOUR_OPERATIONS, count: int = 2, magnitude: int = 7, chance: float = 0.5
    ) -> None:
        unknown = [name for name in operations if name not in ALL_OPERATIONS]
        if unknown or not operations:
            raise InputError(f"operations must be of {', '.join(ALL_OPERATIONS)}, got {unknown[:1] or 'none'}")
        self.operations, self.count, self.magnitude, self.chance = tuple(operations), count, magnitude, chance

    def __call__(self, rng: np.random.Generator, picture: Image.Image) -> Image.Image:
        """The picture, changed."""
        for _ in range(self.count):
            name = self.operations[int(rng.integers(len(self.operations)))]
            if rng.random() < self.chance:
                sign = 1 if rng.random() < 0.5 else -1
                picture = apply_operation(name, picture, self.magnitude / _TOP, sign)
        return picture


def apply_operation(name: str, picture: Image.Image, strength: float, sign: int = 1) -> Image.Image:
    """One operation at a strength between 0 and 1; `sign` turns what has a direction."""
    if name == "identity":
        return picture
    if name == "autocontrast":
        return ImageOps.autocontrast(picture)
    if name == "equalize":
        return ImageOps.equalize(picture)
    enhance = {"brightness": ImageEnhance.Brightness, "sharpness": ImageEnhance.Sharpness}.get(name)
    if enhance:
        return enhance(picture).enhance(0.1 + 1.8 * strength)
    return _MOVES[name](picture, strength * sign)


def _affine(picture: Image.Image, matrix: Sequence[float]) -> Image.Image:
    """Warp by (a, b, c, d, e, f), which takes places of the result to places of the picture."""
    return picture.transform(
        picture.size, Image.Transform.AFFINE, tuple(matrix), Image.Resampling.BILINEAR, fillcolor=GREY
    )


def _rotate(picture: Image.Image, strength: float) -> Image.Image:
    return picture.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=GREY)


_MOVES: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "shear_x": lambda picture, strength: _affine(picture, (1, -0.3 * strength, 0, 0, 1, 0)),
    "shear_y": lambda picture, strength: _affine(picture, (1, 0, 0, -0.3 * strength, 1, 0)),
    "translate_x": lambda picture, strength: _affine(picture, (1, 0, 10 * strength, 0, 1, 0)),
    "translate_y": lambda picture, strength: _affine(picture, (1, 0, 0, 0, 1, 10 * strength)),
    "rotate": _rotate,
}
