"""Detectors that the package brings along, by the names that `--model` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ovdet.errors import InputError

if TYPE_CHECKING:
    import torch

    from ovdet.vild.predict import ViLDDetector

ROOM = Path(__file__).parent


@dataclass(frozen=True)
class ShippedDetector:
    """A detector whose weights lie in the package.

    Attributes:
        path: of its compact checkpoint.
        domain: what pictures it reads, and which it does not.
        licence: of the weights; whose work they were trained on stands in NOTICE.
        source: how they were made.
    """

    path: Path
    domain: str
    licence: str
    source: str

    @property
    def is_here(self) -> bool:
        """Whether the weights are in this installation."""
        return self.path.is_file()

    @property
    def size_mb(self) -> int:
        """Of the weights, rounded up; 0 if they are not here."""
        return -(-self.path.stat().st_size // 1_000_000) if self.is_here else 0


SHIPPED = {
    "stickers": ShippedDetector(
        path=ROOM / "stickers.safetensors",
        domain="drawings, stickers, clip art; not photographs",
        licence="Apache-2.0",
        source="trained by ovdet on its world of stickers (docs/stickers.md)",
    ),
}


def load_shipped(name: str, device: str | torch.device = "cpu") -> ViLDDetector:
    """Load one of `SHIPPED`.

    Raises:
        InputError: its file is missing from the installation, or damaged.
    """
    from ovdet.vild.predict import ViLDDetector

    shipped = SHIPPED[name]
    if not shipped.is_here:
        raise InputError(f"the weights of model {name!r} are missing from this installation of ovdet; install it again")
    detector = ViLDDetector.load(shipped.path, device)
    detector.name = name
    return detector
