"""One sprite made ready to be pasted: scaled, turned, recoloured a little, its edge soft, hard or cut out of paper."""

from __future__ import annotations

import cv2
import numpy as np

from ovdet.data.stickers.restyle import restyle

SOLID = 128
"""Alpha from which on a pixel belongs to a thing's mask."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def render_sprite(
    rng: np.random.Generator,
    sprite: np.ndarray,
    long_side: float,
    degrees: float,
    max_hue_degrees: float = 6.0,
    restyle_share: float = 0.0,
) -> np.ndarray:
    """Warp and recolour one sprite.

    Args:
        rng: source of all randomness.
        sprite: (h, w, 4) uint8, colours multiplied by alpha.
        long_side: of the sprite before it is turned, in pixels.
        degrees: by which it is turned counter-clockwise.
        max_hue_degrees: hues turn by at most so much; small, so that colour words keep their sense.
        restyle_share: how often it is redrawn in another manner, see `restyle`.

    Returns:
        (h', w', 4) uint8, colours multiplied by alpha, cut tight around its solid pixels; (0, 0, 4) if it has none.
    """
    patch = _turn(rng, sprite, long_side, degrees)
    if restyle_share and rng.random() < restyle_share:  # asked for nothing, it draws nothing from rng
        patch = restyle(rng, patch)
    patch = _recolour(rng, patch, max_hue_degrees)
    edge = rng.random()
    if edge < 0.25:
        patch = cv2.GaussianBlur(patch, (0, 0), float(rng.uniform(0.4, 1.1)))
    elif edge < 0.40:
        patch = _harden(patch)
    elif edge < 0.50:
        patch = _paper_border(patch, max(1, round(long_side * 0.03)))
    return _tighten(patch)


def solid(patch: np.ndarray) -> np.ndarray:
    """(h, w) bool: the pixels that belong to the thing."""
    return patch[..., 3] >= SOLID


def paste(canvas: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Lay a patch (h, w, 4), colours multiplied by alpha, on (H, W, 3) uint8; what hangs over the edge is cut."""
    inside, seen = overlap(canvas.shape[:2], patch.shape[:2], left, top)
    part, below = patch[seen], canvas[inside]
    rest = 255 - part[..., 3:].astype(np.uint16)
    canvas[inside] = np.minimum(part[..., :3] + (below * rest + 127) // 255, 255).astype(np.uint8)


def darken(canvas: np.ndarray, strength: np.ndarray, left: int, top: int) -> None:
    """Multiply (H, W, 3) uint8 by 1 - strength, strength (h, w) float in [0, 1]; used for shadows."""
    inside, seen = overlap(canvas.shape[:2], strength.shape, left, top)
    canvas[inside] = (canvas[inside] * (1 - strength[seen])[..., None]).astype(np.uint8)


def overlap(
    size_hw: tuple[int, int], patch_hw: tuple[int, int], left: int, top: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch lies on the canvas, and which part of it that is; both empty where they do not meet."""
    rows = slice(max(top, 0), max(min(top + patch_hw[0], size_hw[0]), max(top, 0)))
    columns = slice(max(left, 0), max(min(left + patch_hw[1], size_hw[1]), max(left, 0)))
    return (rows, columns), (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )


def drop_shadow(alpha: np.ndarray, blur: float, strength: float) -> tuple[np.ndarray, int]:
    """Blurred outline of (h, w) uint8 alpha as float in [0, 1], and by how much it is wider on every side."""
    margin = int(np.ceil(2.5 * blur))
    wide = cv2.copyMakeBorder(alpha, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    return cv2.GaussianBlur(wide, (0, 0), blur).astype(np.float32) * (strength / 255), margin


def contact_shadow(width: int, strength: float) -> np.ndarray:
    """(h, w) float in [0, 1]: a flat soft ellipse for what stands on a floor."""
    height = max(3, round(width * 0.22))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    away = ((rows + 0.5) / height * 2 - 1) ** 2 + ((columns + 0.5) / width * 2 - 1) ** 2
    return np.clip(1 - away, 0, 1) * strength


def _turn(rng: np.random.Generator, sprite: np.ndarray, long_side: float, degrees: float) -> np.ndarray:
    """Scale, mirror, stretch a little and turn; the patch is just large enough."""
    height, width = sprite.shape[:2]
    scale = long_side / max(height, width)
    stretch = float(np.exp(rng.uniform(-0.12, 0.12)))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    angle = np.deg2rad(degrees)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    matrix = np.array([[cosine, sine], [-sine, cosine]]) @ np.diag([mirror * scale * stretch, scale / stretch])
    out_w, out_h = np.ceil(np.abs(matrix) @ (width, height)).astype(int) + 4
    shift = np.array([out_w - 1, out_h - 1]) / 2 - matrix @ (np.array([width - 1, height - 1]) / 2)
    affine = np.concatenate([matrix, shift[:, None]], axis=1)
    return cv2.warpAffine(sprite, affine, (int(out_w), int(out_h)), flags=cv2.INTER_LINEAR)


def _recolour(rng: np.random.Generator, patch: np.ndarray, max_hue_degrees: float) -> np.ndarray:
    """Change brightness, saturation and, slightly, hue and tint: one matrix on RGB, as alpha is a factor of it."""
    saturation, brightness = rng.uniform(0.7, 1.25), rng.uniform(0.75, 1.15)
    angle = np.deg2rad(rng.uniform(-max_hue_degrees, max_hue_degrees))
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) * np.cos(angle) + (1 - np.cos(angle)) * np.outer(axis, axis) + np.sin(angle) * cross
    gray = np.outer(np.ones(3), _LUMA)
    tint = np.diag(rng.uniform(0.95, 1.05, 3))
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = brightness * tint @ (gray + saturation * (turn - gray))
    coloured = cv2.transform(patch, matrix)
    np.minimum(coloured[..., :3], coloured[..., 3:], out=coloured[..., :3])  # a colour never exceeds its alpha
    return coloured


def _harden(patch: np.ndarray) -> np.ndarray:
    """The same with an edge of one step."""
    alpha = patch[..., 3:].astype(np.float32)
    hard = patch[..., :3] * np.where(alpha >= SOLID, 255 / np.maximum(alpha, 1), 0)
    return np.concatenate([hard.clip(0, 255), np.where(alpha >= SOLID, 255, 0)], axis=2).astype(np.uint8)


def _paper_border(patch: np.ndarray, width: int) -> np.ndarray:
    """The same on white paper that is cut out a little wider, as stickers are; the paper belongs to the thing."""
    patch = cv2.copyMakeBorder(patch, width, width, width, width, cv2.BORDER_CONSTANT, value=0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    paper = cv2.dilate(patch[..., 3], kernel)
    white = np.repeat((paper - patch[..., 3])[..., None], 3, axis=2)  # dilation never lowers alpha
    return np.concatenate([cv2.add(patch[..., :3], white), paper[..., None]], axis=2)


def _tighten(patch: np.ndarray) -> np.ndarray:
    inside = solid(patch)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return np.zeros((0, 0, 4), np.uint8)
    return patch[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
