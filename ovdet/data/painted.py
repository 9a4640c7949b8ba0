"""Pictures whose classes have fixed colours: what a learned prompt is tuned to (SegGPT, section 3.3)."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.colouring import ViewConfig, paint, random_view
from ovdet.data.contexts import PictureSource


class PaintedPictures(Dataset):
    """Random views, each class in its own colour, always the same.

    A sample is a dict: "image" and "painting" (3, S, S) uint8, "valid" (S, S) bool.

    Args:
        source: of the pictures; its keys are classes.
        palette: (K, 3) uint8.
        view: of the pictures.
        seed: of the views; with `SeededSampler` a sample is a function of seed and draw.
    """

    def __init__(
        self, source: PictureSource, palette: np.ndarray, view: ViewConfig | None = None, seed: int = 0
    ) -> None:
        self.source, self.palette, self.view, self.seed = source, palette, view or ViewConfig(), seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, int(getattr(index, "number", index))))
        view = random_view(rng, self.source[int(index)], self.view)
        painted, valid = paint(view.key_map, range(len(self.palette)), self.palette)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(view.image.transpose(2, 0, 1))),
            "painting": torch.from_numpy(np.ascontiguousarray(painted.transpose(2, 0, 1))),
            "valid": torch.from_numpy(np.ascontiguousarray(valid)),
        }


def painted_pictures(
    source: Mapping[str, Any],
    palette: Callable[[int], np.ndarray] | str,
    classes: int,
    view: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> PaintedPictures:
    """`PaintedPictures` as a config says it.

    Args:
        source: `dict(type=..., **arguments)` of a `PictureSource`.
        palette: gives (K, 3) uint8 colours of K classes, such as `ovdet.seggpt.colours.class_colours`.
        classes: K.
        view: fields of `ViewConfig`.
        seed: of the views.
    """
    arguments = dict(source)
    builder = arguments.pop("type")
    built = (pkgutil.resolve_name(builder) if isinstance(builder, str) else builder)(**arguments)
    colours = (pkgutil.resolve_name(palette) if isinstance(palette, str) else palette)(classes)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in (view or {}).items()}
    return PaintedPictures(built, colours, ViewConfig(**fields), seed)
