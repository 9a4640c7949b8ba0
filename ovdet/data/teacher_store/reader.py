"""Rows of a teacher store by picture id, read off the disk as they are asked for."""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ovdet.data.proposals import Proposals, ProposalSource
from ovdet.data.teacher_store.facts import (
    BLOCKS,
    COLUMNS,
    INDEX,
    PICTURES,
    PLAN,
    StoreFacts,
    read_stated,
    sha256_of,
)  # fmt: skip
from ovdet.data.teacher_store.folder import missing_blocks
from ovdet.errors import InputError

OPEN_BLOCKS = 64
"""Blocks that stay mapped in a process; each holds two file descriptors."""


class TeacherStore:
    """Proposals with the teacher's embeddings, by picture id; as cheap to copy to another process as its path.

    Nothing is read until it is asked for, but the list of pictures (48 bytes each). Blocks are mapped when first
    needed, by each process for itself.

    Args:
        folder: a finished store.

    Raises:
        InputError: it is no store, unfinished, of another version, or a file of it is missing or of another size.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self._read_index()
        self.facts = StoreFacts.from_json(index.get("facts"), self.folder / INDEX)
        try:
            self._blocks: list[dict[str, Any]] = index["blocks"]
            self._check_size(self.folder / PICTURES, index["pictures_file"])
            self.rows = int(index["rows"])
            for number, block in enumerate(self._blocks):
                for kind in ("rows", "boxes"):
                    self._check_size(self._file(number, kind), block["files"][kind])
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.folder / INDEX} is damaged: it has no {error}") from error
        self._pictures = self._read_pictures(index)
        self._maps: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    @property
    def teacher(self) -> str:
        """Name of the backbone that made the rows."""
        return self.facts.teacher.name

    @property
    def embed_dim(self) -> int:
        """Width D of the rows."""
        return self.facts.teacher.embed_dim

    @property
    def image_ids(self) -> np.ndarray:
        """(M,) int64, ascending."""
        return self._pictures[:, 0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows and boxes on disk."""
        return sum(facts["bytes"] for block in self._blocks for facts in block["files"].values())

    def __len__(self) -> int:
        return len(self._pictures)

    def __contains__(self, image_id: int) -> bool:
        return self._position(image_id) is not None

    def __getitem__(self, image_id: int) -> Proposals:
        """The proposals of a picture, best first; embeddings are float16 and, as the rest, a view of the file."""
        return self.proposals(image_id)

    def proposals(self, image_id: int, size_hw: tuple[int, int] | None = None) -> Proposals:
        """As `store[image_id]`, for a caller who knows the picture's size.

        Raises:
            InputError: the picture is not in the store, or is of another size there.
        """
        position = self._position(image_id)
        if position is None:
            raise InputError(
                f"the teacher store {self.folder} has no picture {image_id}; it was made for "
                f"{self.facts.annotations.get('file')}: make one for the annotation file that you train on"
            )
        _, number, first, count, height, width = (int(value) for value in self._pictures[position])
        if size_hw is not None and (height, width) != tuple(size_hw):
            raise InputError(
                f"picture {image_id} is {size_hw[1]} x {size_hw[0]} pixels, but was {width} x {height} when the "
                f"teacher store {self.folder} was made; was it made for another data set?"
            )
        rows, boxes = self._block(number)
        part = slice(first, first + count)
        return Proposals(boxes[part, :4], boxes[part, 4], rows[part])

    def check_teacher(self, fingerprint: str, embed_dim: int | None = None, name: str | None = None) -> None:
        """Refuse to serve a student of another teacher.

        Args:
            fingerprint: of the backbone whose space the student is to learn.
            embed_dim: its width.
            name: of it, for the message.

        Raises:
            InputError: the rows are of another width or were made with other weights.
        """
        mine = self.facts.teacher
        if embed_dim is not None and embed_dim != mine.embed_dim:
            raise InputError(
                f"the teacher store {self.folder} has rows of {mine.embed_dim} dimensions, made by {mine.name!r}, but "
                f"the student learns {embed_dim} of {name or 'its teacher'!r}; make a store with that teacher"
            )
        if fingerprint != mine.fingerprint:
            raise InputError(
                f"the teacher store {self.folder} was made by {mine.name!r} with weights {mine.fingerprint[:12]}, but "
                f"the student's teacher is {name or 'another'!r} with weights {fingerprint[:12]}; "
                "make a store with that teacher"
            )

    def doubt(self, ann_file: str | Path) -> str | None:
        """A warning where the store was made from other annotations than those to train on; None where from these."""
        made_from = self.facts.annotations
        if made_from.get("sha256") == sha256_of(ann_file):
            return None
        return (
            f"the teacher store {self.folder} was made from {made_from.get('file')} "
            f"({str(made_from.get('sha256'))[:12]}), which is not {ann_file}; that is right only where both "
            "mean the same pictures by the same ids"
        )

    def verify(self) -> None:
        """Read everything and compare checksums.

        Raises:
            InputError: a file is not what was written.
        """
        for number, block in enumerate(self._blocks):
            for kind, array in zip(("rows", "boxes"), self._block(number), strict=True):
                if zlib.crc32(np.ascontiguousarray(array)) != block["files"][kind]["crc32"]:
                    raise InputError(f"{self._file(number, kind)} is damaged: its checksum is not that of the index")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": OrderedDict()}

    def _read_index(self) -> dict[str, Any]:
        if (self.folder / INDEX).exists():
            return read_stated(self.folder / INDEX)
        if (self.folder / PLAN).exists():
            missing = len(missing_blocks(self.folder))
            raise InputError(
                f"the teacher store {self.folder} is unfinished: {missing} blocks are missing; repeat the command that "
                "makes it, or merge the folders of all machines"
            )
        raise InputError(f"{self.folder} is no teacher store: it has no {INDEX}")

    def _read_pictures(self, index: dict[str, Any]) -> np.ndarray:
        path = self.folder / PICTURES
        pictures = self._load(path, None)
        right = pictures.dtype == np.int64 and pictures.ndim == 2 and pictures.shape[1] == len(COLUMNS)
        if not right or zlib.crc32(np.ascontiguousarray(pictures)) != index["pictures_file"]["crc32"]:
            raise InputError(f"{path} is damaged: it is not what was written with the index")
        return pictures

    def _position(self, image_id: int) -> int | None:
        ids = self._pictures[:, 0]
        position = int(np.searchsorted(ids, image_id))
        return position if position < len(ids) and ids[position] == image_id else None

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (N, D) and boxes with scores (N, 5) of a block, mapped."""
        if number in self._maps:
            self._maps.move_to_end(number)
            return self._maps[number]
        count = self._blocks[number]["rows"]
        arrays = []
        for kind, dtype, width in (("rows", np.float16, self.embed_dim), ("boxes", np.float32, 5)):
            path = self._file(number, kind)
            array = self._load(path, "r" if count else None)
            if array.dtype != dtype or array.shape != (count, width):
                raise InputError(
                    f"{path} holds {array.shape} {array.dtype}, but its index says ({count}, {width}) {np.dtype(dtype)}"
                )
            arrays.append(array.view(np.ndarray))
        self._maps[number] = (arrays[0], arrays[1])
        if len(self._maps) > OPEN_BLOCKS:
            self._maps.popitem(last=False)
        return self._maps[number]

    def _file(self, number: int, kind: str) -> Path:
        return self.folder / BLOCKS / f"{number:06d}.{kind}.npy"

    @staticmethod
    def _load(path: Path, mode: Any) -> np.ndarray:
        try:
            array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, EOFError) as error:
            raise InputError(f"{path} is damaged ({error})") from error
        return array

    @staticmethod
    def _check_size(path: Path, facts: dict[str, int]) -> None:
        try:
            size = os.stat(path).st_size
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing; copy the whole folder of the store, or make it again") from error
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        if size != facts["bytes"]:
            what = "truncated" if size < facts["bytes"] else "too long"
            raise InputError(f"{path} is {what}: {size} bytes, but the index says {facts['bytes']}")


def open_proposals(source: str | Path | ProposalSource | TeacherStore) -> ProposalSource | TeacherStore:
    """Open what a config names: the folder of a store, or a `ProposalSource` file; an open one is given back."""
    if isinstance(source, ProposalSource | TeacherStore):
        return source
    return TeacherStore(source) if Path(source).is_dir() else ProposalSource.load(source)
