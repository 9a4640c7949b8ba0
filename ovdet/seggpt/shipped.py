"""Segmenters that the package brings along, by the names that `ovdet segment --model` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ovdet.layers.shipped import ShippedModel

if TYPE_CHECKING:
    import torch

    from ovdet.seggpt.predict import SegGPTSegmenter

SHIPPED = {
    "stickers": ShippedModel(
        path=Path(__file__).parent / "stickers.safetensors",
        domain="drawings, stickers, clip art; not photographs",
        licence="Apache-2.0",
        source="trained by ovdet on its world of stickers (docs/seggpt.md)",
    ),
}


def load_shipped(name: str, device: str | torch.device = "cpu") -> SegGPTSegmenter:
    """Load one of `SHIPPED`.

    Raises:
        InputError: its file is missing from the installation, or damaged.
    """
    from ovdet.seggpt.predict import SegGPTSegmenter

    segmenter = SegGPTSegmenter.load(SHIPPED[name].checked_path(name), device)
    segmenter.name = name
    segmenter.mirror = True  # small enough to look twice, and surer (docs/results.md)
    return segmenter
