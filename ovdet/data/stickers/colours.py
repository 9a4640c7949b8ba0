"""Colour words of pixels: eleven basic words, looked up by hue, saturation and value."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "gray", "white")
CLEARLY = 0.55
"""A thing is of a colour if at least this share of its pixels is."""
PERHAPS = 0.25
"""Below this share nobody would call it of that colour; in between, people may differ."""

_BITS = 5
_HUES = ((8, "red"), (21, "orange"), (34, "yellow"), (85, "green"), (128, "blue"), (148, "purple"), (171, "pink"))
"""Upper ends of hues, of 180; beyond the last it is red again."""


@cache
def _table() -> np.ndarray:
    """(32768,) uint8: index of the word of each colour of 5 bits a channel."""
    steps = ((np.arange(1 << _BITS) + 0.5) * (256 >> _BITS)).astype(np.uint8)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
    hue, saturation, value = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[0].astype(int).T
    words = np.full(hue.shape, WORDS.index("red"))
    for end, word in reversed(_HUES):
        words[hue < end] = WORDS.index(word)
    words[(hue < 20) & (value < 165) & (saturation > 60) & ~((hue < 6) & (saturation > 170) & (value > 90))] = (
        WORDS.index("brown")
    )
    words[((hue >= 160) | (hue < 5)) & (value > 190) & (saturation < 140)] = WORDS.index("pink")
    dull = (saturation < 38) | ((value < 90) & (saturation < 80))
    words[dull] = WORDS.index("gray")
    words[(saturation < 30) & (value > 205)] = WORDS.index("white")
    words[(value < 48) | (dull & (value < 75))] = WORDS.index("black")
    return words.astype(np.uint8)


def colour_words(pixels: np.ndarray) -> np.ndarray:
    """Index into `WORDS` of each of (N, 3) uint8 RGB pixels, (N,) uint8."""
    down = (pixels >> (8 - _BITS)).astype(np.int32)
    return _table()[(down[:, 0] << (2 * _BITS)) | (down[:, 1] << _BITS) | down[:, 2]]


def colour_shares(pixels: np.ndarray) -> np.ndarray:
    """Share of each of `WORDS` among pixels.

    Args:
        pixels: (N, 3) uint8 RGB; N may be 0.

    Returns:
        (11,) float32 that sums to 1, or zeros where N is 0.
    """
    counts = np.bincount(colour_words(pixels), minlength=len(WORDS))
    return (counts / max(len(pixels), 1)).astype(np.float32)
