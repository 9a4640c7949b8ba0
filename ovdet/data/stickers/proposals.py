"""Boxes that a detector proposed in scenes, kept in a file for those who choose among them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ovdet.errors import InputError
from ovdet.files import replacing


class SceneProposals:
    """Boxes that a detector proposed in the first scenes of a stream, as tools/data/sticker_proposals.py writes them.

    Args:
        path: of the .npz file.

    Raises:
        InputError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                rows, counts, self._checks = file["boxes"], file["counts"], file["checks"]
            self._boxes = np.split(rows, counts.cumsum()[:-1])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"cannot read {path}: {error}; tools/data/sticker_proposals.py makes it") from error

    def __len__(self) -> int:
        return len(self._boxes)

    def of(self, index: int, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (R, 4) of one scene, pixels, and how likely each is a thing (R,).

        Raises:
            InputError: they were proposed in another picture.
        """
        if scene_check(image) != self._checks[index]:
            raise InputError(f"{self.path} is of other scenes: number {index} is another picture; make it again")
        rows = torch.from_numpy(self._boxes[index])
        return rows[:, :4], rows[:, 4]

    @staticmethod
    def write(path: Path, boxes: Sequence[np.ndarray], checks: Sequence[int]) -> None:
        """Write the boxes of scenes in their order; the file is whole or not there.

        Args:
            path: of the file.
            boxes: for each scene (R, 5): corners in pixels and likelihood.
            checks: for each scene `scene_check` of its picture.

        Raises:
            InputError: it cannot be written.
        """
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                boxes=np.concatenate(boxes).astype(np.float32),
                counts=np.array([len(some) for some in boxes]),
                checks=np.array(checks),
            )


def scene_check(image: np.ndarray) -> int:
    """A number that tells pictures apart."""
    return zlib.crc32(np.ascontiguousarray(image))
