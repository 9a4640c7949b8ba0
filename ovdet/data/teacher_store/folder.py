"""The writing side of a teacher store: blocks that are whole or not there, joined under one index.

Any number of machines may write blocks of one store, into one folder or into folders that are merged afterwards. What
counts is a block's record, which is written after its files: a block without one, or of other sizes than it says, is
made again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovdet.data.proposals import Proposals
from ovdet.data.teacher_store.facts import (
    BLOCKS,
    COLUMNS,
    INDEX,
    PICTURES,
    PLAN,
    StoreFacts,
    read_stated,
    stated,
)  # fmt: skip
from ovdet.errors import InputError
from ovdet.files import replacing, write_whole


class PictureKey(NamedTuple):
    """One picture of the data set: its id and its size in pixels, as the annotation file states them."""

    image_id: int
    height: int
    width: int


class StoreBuilder:
    """Writes the blocks of one store, in any order, and the index when all are there.

    Args:
        folder: made where it is missing; one that holds an unfinished store of the same plan is continued.
        facts: what the rows will be.
        pictures: all pictures of the data set, whichever machine does them.
        block: pictures that are written at once, and so lost at most when a run is killed.

    Raises:
        InputError: the folder holds a store of another plan, cannot be written, or a picture has no number as id.
    """

    def __init__(self, folder: str | Path, facts: StoreFacts, pictures: Sequence[PictureKey], block: int = 100) -> None:
        if block < 1 or not pictures:
            raise InputError(f"a store needs pictures and blocks of at least one, got {len(pictures)} and {block}")
        for key in pictures:
            if not isinstance(key.image_id, int):
                raise InputError(f"picture ids must be whole numbers to be kept in a store, got {key.image_id!r}")
        self.folder, self.facts, self.block = Path(folder), facts, block
        self.pictures = sorted(pictures)
        self._plan = {
            "facts": facts.as_json(),
            "pictures": len(self.pictures),
            "pictures_digest": hashlib.sha256(repr([tuple(key) for key in self.pictures]).encode()).hexdigest(),
            "block": block,
        }
        self._check_plan()

    @property
    def count(self) -> int:
        """Blocks in all."""
        return math.ceil(len(self.pictures) / self.block)

    def pictures_of(self, number: int) -> list[PictureKey]:
        """The pictures of one block."""
        return self.pictures[number * self.block : (number + 1) * self.block]

    def pending(self, shard: tuple[int, int] = (1, 1)) -> list[int]:
        """Blocks that machine i of n (from 1) has still to make."""
        machine, machines = shard
        return [number for number in range(machine - 1, self.count, machines) if not self.is_finished(number)]

    def is_finished(self, number: int) -> bool:
        """Whether a block is there, whole."""
        return _finished(self.folder, number) is not None

    def write(self, number: int, found: Sequence[Proposals]) -> None:
        """Write a block: the proposals of its pictures, in the order of `pictures_of`, with embeddings (P, D).

        Raises:
            InputError: an embedding is of another width or not finite, or the files cannot be written.
        """
        keys = self.pictures_of(number)
        for key, one in zip(keys, found, strict=True):
            self._check_rows(key, one)
        rows = [np.zeros((0, self.facts.teacher.embed_dim)), *(one.embeddings for one in found)]
        boxes = [np.zeros((0, 5)), *(np.column_stack([one.boxes_xyxy, one.scores]) for one in found)]
        (self.folder / INDEX).unlink(missing_ok=True)  # where a block of a finished store was damaged
        if not (self.folder / PLAN).exists():
            write_whole(self.folder / PLAN, stated(**self._plan))
        record = {
            "pictures": [[*key, len(one.scores)] for key, one in zip(keys, found, strict=True)],
            "rows": sum(len(one.scores) for one in found),
            "files": {
                "rows": _write_array(_block_file(self.folder, number, "rows"), _joined(rows, "<f2")),
                "boxes": _write_array(_block_file(self.folder, number, "boxes"), _joined(boxes, "<f4")),
            },
        }
        write_whole(_record_file(self.folder, number), json.dumps(record).encode())

    def _check_rows(self, key: PictureKey, one: Proposals) -> None:
        width, rows = self.facts.teacher.embed_dim, one.embeddings
        if rows is None or rows.shape[1:] != (width,):
            raise InputError(
                f"the teacher must give rows of width {width} for picture {key.image_id}, "
                f"got {None if rows is None else rows.shape}"
            )
        if len(rows) and not np.abs(rows).max() <= np.finfo(np.float16).max:
            raise InputError(
                f"the teacher's rows of picture {key.image_id} are not finite or too large for halves; leave out --amp"
            )

    def _check_plan(self) -> None:
        """Compare with the plan that an earlier run left."""
        if (self.folder / PLAN).exists():
            difference = _difference(read_stated(self.folder / PLAN), self._plan)
            if difference:
                raise InputError(
                    f"{self.folder} holds a store of {difference}; repeat those arguments, or choose another folder"
                )
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise InputError(f"{self.folder} holds other things; choose an empty or a new folder")


def missing_blocks(folder: Path) -> list[int]:
    """Numbers of the blocks that a store still lacks."""
    return [number for number in range(_count(folder)) if _finished(folder, number) is None]


def finish(folder: Path) -> Path:
    """Write the index of a store whose blocks are all there.

    Returns:
        Path of the index.

    Raises:
        InputError: blocks are missing, or two of them hold the same picture.
    """
    plan = read_stated(folder / PLAN)
    records = [_finished(folder, number) for number in range(_count(folder))]
    missing = [number for number, record in enumerate(records) if record is None]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of {len(records)} blocks (the first is {missing[0]:06d}); repeat the "
            "command that makes them, or merge the folders of the other machines"
        )
    table, blocks = [], []
    for number, record in enumerate(records):
        first = 0
        for image_id, height, width, count in record["pictures"]:
            table.append((image_id, number, first, count, height, width))
            first += count
        blocks.append({"rows": record["rows"], "files": record["files"]})
    pictures = np.asarray(table, dtype="<i8").reshape(-1, len(COLUMNS))
    pictures = pictures[np.argsort(pictures[:, 0], kind="stable")]
    if len(pictures) != plan["pictures"] or (np.diff(pictures[:, 0]) == 0).any():
        raise InputError(
            f"the blocks of {folder} do not hold the {plan['pictures']} pictures of its plan; make it again"
        )
    for leftover in (folder / BLOCKS).glob(".ovdet-*"):  # of runs that were killed while they wrote
        leftover.unlink(missing_ok=True)
    content = {
        "facts": plan["facts"],
        "dtype": "float16",
        "pictures": len(pictures),
        "rows": sum(block["rows"] for block in blocks),
        "pictures_file": _write_array(folder / PICTURES, pictures),
        "blocks": blocks,
    }
    write_whole(folder / INDEX, stated(**content))
    return folder / INDEX


def merge(folder: Path, parts: Iterable[Path]) -> Path:
    """Join what several machines made of one store into one folder, and finish it; the parts stay as they are.

    Raises:
        InputError: a part is of another plan, or blocks are missing from all of them.
    """
    for part in parts:
        plan = read_stated(part / PLAN)
        if not (folder / PLAN).exists():
            write_whole(folder / PLAN, (part / PLAN).read_bytes())
        difference = _difference(read_stated(folder / PLAN), plan)
        if difference:
            raise InputError(f"{part} does not belong to {folder}, which is of {difference}")
        for number in range(_count(part)):
            if _finished(folder, number) is None and _finished(part, number) is not None:
                for kind in ("rows", "boxes"):
                    _copy(_block_file(part, number, kind), _block_file(folder, number, kind))
                _copy(_record_file(part, number), _record_file(folder, number))
    return finish(folder)


def _count(folder: Path) -> int:
    plan = read_stated(folder / PLAN)
    return math.ceil(plan["pictures"] / plan["block"])


def _difference(before: dict[str, Any], now: dict[str, Any], path: str = "") -> str:
    """The first field in which two plans differ, and both values; "" if they are the same."""
    for key, value in now.items():
        old, name = before.get(key), f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and isinstance(old, dict):
            inner = _difference(old, value, name)
            if inner:
                return inner
        elif old != value:
            return f"another {name} ({old} instead of {value})"
    return ""


def _block_file(folder: Path, number: int, kind: str) -> Path:
    return folder / BLOCKS / f"{number:06d}.{kind}.npy"


def _record_file(folder: Path, number: int) -> Path:
    return folder / BLOCKS / f"{number:06d}.json"


def _finished(folder: Path, number: int) -> dict[str, Any] | None:
    """The record of a block that is there and whole, else None."""
    try:
        record = json.loads(_record_file(folder, number).read_bytes())
        sizes = {kind: _block_file(folder, number, kind).stat().st_size for kind in ("rows", "boxes")}
        whole = all(record["files"][kind]["bytes"] == size for kind, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def _joined(parts: Sequence[np.ndarray], dtype: str) -> np.ndarray:
    return np.concatenate([np.asarray(part, dtype=dtype) for part in parts])


def _write_array(path: Path, array: np.ndarray) -> dict[str, int]:
    """Write an .npy, on the disk for good before its name appears; its size and checksum."""
    array = np.ascontiguousarray(array)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)
        stream.flush()
        os.fsync(stream.fileno())
        size = stream.tell()
    return {"bytes": size, "crc32": zlib.crc32(array)}


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
