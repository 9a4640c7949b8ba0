"""Which patches of a canvas are hidden from the model in training.

A canvas is the prompt above the target, (2S, S) pixels, h x w patches with h = 2w.
"""

from __future__ import annotations

import math

import numpy as np

LEAST_SHARE, MOST_SHARE = 16 / 1568, 392 / 1568
"""Share of all patches that one block hides, least and most: 16 and 392 of 56 x 28 (Painter's released training)."""
ASPECT = 0.3
"""A block's height / width lies between this and its inverse."""
_TRIES = 10


def half_mask(grid_hw: tuple[int, int]) -> np.ndarray:
    """The target's half hidden, as at inference.

    Returns:
        (h, w) bool, True where hidden.
    """
    hidden = np.zeros(grid_hw, bool)
    hidden[grid_hw[0] // 2 :] = True
    return hidden


def block_mask(rng: np.random.Generator, grid_hw: tuple[int, int], share: float = 0.5) -> np.ndarray:
    """Rectangles laid over one another until exactly a share of the patches is hidden (BEiT's block-wise masking).

    Args:
        rng: source of all randomness.
        grid_hw: patches of the canvas.
        share: of them to hide; 784 of 1568 in the published training.

    Returns:
        (h, w) bool, True where hidden.
    """
    height, width = grid_hw
    total = height * width
    wanted = round(share * total)
    low, high = max(1.0, LEAST_SHARE * total), max(1.0, MOST_SHARE * total)
    hidden = np.zeros(grid_hw, bool)
    missed = 0
    while (missing := wanted - int(hidden.sum())) > 0 and missed < _TRIES:
        area = rng.uniform(low, max(low, min(high, missing)))
        aspect = math.exp(rng.uniform(math.log(ASPECT), -math.log(ASPECT)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < h <= height and 0 < w <= width):
            missed += 1
            continue
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        block = hidden[top : top + h, left : left + w]
        if 0 < block.size - int(block.sum()) <= missing:
            block[:] = True
            missed = 0
        else:
            missed += 1
    flat = hidden.reshape(-1)  # a view
    still = np.flatnonzero(~flat)
    flat[rng.choice(still, wanted - int(flat.sum()), replace=False)] = True
    return hidden
