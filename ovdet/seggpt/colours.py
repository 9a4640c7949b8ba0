"""Masks as colours and back: what is painted for each class, and how sure a painted colour is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ovdet.errors import InputError

MOST_CLASSES = 2000
"""Of which colours still differ by more than 20 in some channel."""


def class_colours(count: int) -> np.ndarray:
    """Colours that lie apart from each other and from black, the background; (K, 3) uint8, the first white.

    Painter's rule (released evaluation code): `base` even levels a channel, counted down from white.

    Raises:
        InputError: more classes than can be told apart.
    """
    if not 1 <= count <= MOST_CLASSES:
        raise InputError(f"1 to {MOST_CLASSES} classes can be painted together, got {count}; paint them one by one")
    base = 1
    while base**3 <= count:
        base += 1
    step, index = 256 // base, np.arange(count)
    levels = np.stack([index // base**2, index % base**2 // base, index % base], axis=1)
    return (255 - step * levels).astype(np.uint8)


def paint_labels(labels: np.ndarray, colours: ArrayLike) -> np.ndarray:
    """Paint a map of labels.

    Args:
        labels: (H, W) integers, 0 for background and i + 1 for colour i.
        colours: (K, 3) in 0..255.

    Returns:
        (H, W, 3) uint8, background black.
    """
    table = np.concatenate([np.zeros((1, 3), np.uint8), np.asarray(colours, np.uint8).reshape(-1, 3)])
    painted: np.ndarray = table[labels]
    return painted


def soft_masks(painted: Tensor, colours: ArrayLike) -> Tensor:
    """How near each pixel is to each colour, compared with the nearest of the others and of black.

    With d the summed difference over red, green and blue, that is d_other / (d_other + d_own): 1 on the colour
    itself, 0.5 halfway to the nearest other, so that the largest is the nearest colour. For white alone it is the
    mean of the three channels divided by 255, as the authors read their masks.

    Args:
        painted: (B, 3, H, W) in 0..255.
        colours: (K, 3) in 0..255, no two alike, none black.

    Returns:
        (B, K, H, W) in [0, 1].
    """
    table = painted.new_tensor(np.asarray(colours, np.float32).tolist()).view(-1, 3)
    away = [painted.sub(colour.view(1, 3, 1, 1)).abs().sum(1) for colour in (torch.zeros_like(table[0]), *table)]
    distances = torch.stack(away, dim=1)  # (B, K + 1, H, W), black first
    nearest = distances.topk(2, dim=1, largest=False)
    first, second = nearest.values[:, :1], nearest.values[:, 1:]  # each (B, 1, H, W)
    places = torch.arange(distances.shape[1], device=painted.device).view(1, -1, 1, 1)
    others = torch.where(nearest.indices[:, :1] == places, second, first)[:, 1:]  # (B, K, H, W)
    return others / (others + distances[:, 1:])


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes without blanks and repetitions.

    Raises:
        InputError: there is none, one is blank or comes twice.
    """
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"class name {index} is blank; every class of an example needs a name")
        if name in names[:index]:
            raise InputError(f"class name {name!r} comes twice in one example")
    if not names:
        raise InputError("an example needs at least one class")
    return tuple(names)
