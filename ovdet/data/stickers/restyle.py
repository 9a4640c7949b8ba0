"""A sprite as another artist might have drawn it: flatter, with dark lines, as line art, in other colours.

Six artists are few; a model that shall read a seventh must not lean on how the six shade. Shapes are kept, so masks
stay true. Colours may change entirely: colour words must come from the pixels afterwards, as they do in this world.
"""

from __future__ import annotations

import cv2
import numpy as np


def restyle(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
    """Redraw one patch in a manner drawn at random.

    Args:
        rng: source of all randomness.
        patch: (h, w, 4) uint8, colours multiplied by alpha.

    Returns:
        The same size and alpha but for a dark rim that may widen it within the patch.
    """
    if min(patch.shape[:2]) < 8:
        return patch
    manner = rng.random()
    colours, alpha = _straight(patch), patch[..., 3]
    if manner < 0.30:
        colours = _recolour(rng, colours)
    if manner < 0.55 or rng.random() < 0.4:
        colours = _flatten(rng, colours)
    if 0.15 < manner < 0.30 or manner >= 0.45:
        colours, alpha = _draw_lines(rng, colours, alpha, filled=manner < 0.85)
    return np.dstack([colours.astype(np.uint16) * alpha[..., None] // 255, alpha]).astype(np.uint8)


def _straight(patch: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 colours without their alpha; where nothing is, the nearest border's are not needed."""
    alpha = np.maximum(patch[..., 3:].astype(np.uint16), 1)
    return np.minimum(patch[..., :3].astype(np.uint16) * 255 // alpha, 255).astype(np.uint8)


def _recolour(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Turn all hues by one angle, exchange channels, or leave grays alone."""
    luck = rng.random()
    if luck < 0.25:
        return cv2.cvtColor(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if luck < 0.5:
        return np.ascontiguousarray(colours[..., rng.permutation(3)])
    hsv = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(rng.integers(180))) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _flatten(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Smooth areas, then few levels a channel: gradients become flat."""
    side = 3 if min(colours.shape[:2]) < 48 else 5
    levels = int(rng.integers(3, 7))
    steps = np.round(np.round(np.arange(256) / 255 * (levels - 1)) * 255 / (levels - 1)).astype(np.uint8)
    return cv2.LUT(cv2.medianBlur(colours, side), steps)


def _draw_lines(
    rng: np.random.Generator, colours: np.ndarray, alpha: np.ndarray, *, filled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Lines of one dark colour along the rim and along what contrasts inside; unfilled, all else is pale."""
    width = max(1, round(max(alpha.shape) * float(rng.uniform(0.012, 0.035))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    solid = (alpha >= 128).astype(np.uint8)
    outside = cv2.copyMakeBorder(solid, width, width, width, width, cv2.BORDER_CONSTANT, value=0)
    rim = (cv2.dilate(outside, kernel) - cv2.erode(outside, kernel))[width:-width, width:-width].astype(bool)
    gray = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    gradient = cv2.morphologyEx(cv2.medianBlur(gray, 3), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    inner = (gradient > rng.uniform(45, 110)) & cv2.erode(solid, kernel).astype(bool)
    if width > 1:
        inner = cv2.dilate(inner.astype(np.uint8), np.ones((2, 2), np.uint8)).astype(bool) & solid.astype(bool)
    pen = rng.integers(0, 45, 3).astype(np.uint8)
    drawn = colours if filled else np.broadcast_to(rng.integers(190, 256, 3).astype(np.uint8), colours.shape)
    lines = (rim | inner)[..., None]
    wider = np.where(rim, 255, alpha).astype(np.uint8)
    return np.where(lines, pen, drawn).astype(np.uint8), wider
