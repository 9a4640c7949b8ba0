"""Endless streams of records out of many files: JSON lines in folders, or tar shards; dealt to ranks and workers.

A record is a dict of fields and a picture that is read when it is asked for. What cannot be used is counted and named,
never passed over in silence.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmengine.dist import get_dist_info
from PIL import Image
from torch.utils.data import get_worker_info

from ovdet.errors import InputError

_LOG = logging.getLogger(__name__)
_IGNORED = ("_SUCCESS",)
_TOLD = 20
"""Broken samples that are named in the log; all are counted and all are written to a log file, if one is given."""


@dataclass(frozen=True)
class Record:
    """One line or one sample of a shard.

    Attributes:
        name: file and line, or shard and key.
        fields: what it says.
        picture_bytes: of the picture, if it came along.
    """

    name: str
    fields: Mapping[str, Any]
    picture_bytes: bytes | None = None


class Source(Protocol):
    """Where records come from."""

    def read(self, share: Share, rng: np.random.Generator | None) -> Iterator[Record | Broken]:
        """One pass over the share's records; with a generator in an order of its own."""


@dataclass(frozen=True)
class Broken:
    """What could not be read.

    Attributes:
        name: as of a record.
        reason: one sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Share:
    """Which part of the data one process reads: part `index` of `count`."""

    index: int = 0
    count: int = 1

    @classmethod
    def of_this_process(cls) -> Share:
        """By rank, then by worker of the rank's loader."""
        rank, world_size = get_dist_info()
        worker = get_worker_info()
        workers, place = (worker.num_workers, worker.id) if worker else (1, 0)
        return cls(rank * workers + place, world_size * workers)


class LineFiles:
    """JSON lines: one object a line, in files or in folders of files.

    Files are dealt to the shares; where there are fewer files than shares, lines are.

    Args:
        paths: files and folders; of a folder all files below it.

    Raises:
        InputError: a path is not there, or there is no file.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.files = list_files(paths)

    def read(self, share: Share, rng: np.random.Generator | None = None) -> Iterator[Record | Broken]:
        """One pass over the share's lines; see `Source`."""
        files, stride = deal(self.files, share)
        for place in rng.permutation(len(files)) if rng else range(len(files)):
            path = files[place]
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip() and (not stride or (number - 1) % share.count == share.index):
                        yield _parse(f"{path}:{number}", line)


def _parse(name: str, line: bytes) -> Record | Broken:
    try:
        fields = json.loads(line)
    except ValueError as error:
        return Broken(name, f"it is not valid JSON ({error})")
    if not isinstance(fields, dict):
        return Broken(name, f"it holds one {type(fields).__name__} and not an object")
    return Record(name, fields)


def list_files(paths: Sequence[str | Path], suffix: str = "") -> list[Path]:
    """All files of some paths, in order of their names.

    Raises:
        InputError: a path is not there, or there is no file.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        if not path.exists():
            raise InputError(f"there is no file or folder {path}")
        below = [one for one in sorted(path.rglob(f"*{suffix}")) if one.is_file()] if path.is_dir() else [path]
        found += [one for one in below if not one.name.startswith((".", *_IGNORED))]
    if not found:
        raise InputError(f"there is no {suffix or 'data'} file in {', '.join(map(str, paths))}")
    return found


def deal(files: Sequence[Path], share: Share) -> tuple[list[Path], bool]:
    """The files of a share, and whether all shares have all files and must divide what is in them."""
    if len(files) >= share.count:
        return list(files[share.index :: share.count]), False
    return list(files), True


@dataclass
class BrokenSamples:
    """Counts and names what could not be used; gives up when it is too much.

    Attributes:
        log: file that each is written to, one JSON object a line; all processes may write to one file.
        tolerance: share of broken ones, from which on the data is refused.
        at_least: samples that must have been seen before it is.
    """

    log: str | Path | None = None
    tolerance: float = 0.5
    at_least: int = 200
    count: int = 0
    good: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        """Count one.

        Raises:
            InputError: too many are broken.
        """
        self.count += 1
        if len(self.names) < _TOLD:
            self.names.append(name)
            more = "; later ones are only counted" if len(self.names) == _TOLD else ""
            _LOG.warning("left out %s: %s (%d so far%s)", name, reason, self.count, more)
        if self.log is not None:
            line = json.dumps({"sample": name, "reason": reason}, ensure_ascii=False) + "\n"
            with Path(self.log).open("a", encoding="utf-8") as stream:
                stream.write(line)
        seen = self.count + self.good
        if seen >= self.at_least and self.count > self.tolerance * seen:
            raise InputError(
                f"{self.count} of {seen} samples are broken, the last one {name}: {reason}; see the log for the others"
            )

    def sorted_out(
        self, records: Iterable[tuple[int, Record | Broken]], make: Callable[[Record, int], dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """Samples made of numbered records; the broken ones, before or while they are made, are counted and named."""
        for number, record in records:
            if isinstance(record, Broken):
                self.add(record.name, record.reason)
                continue
            try:
                sample = make(record, number)
            except InputError as error:
                self.add(record.name, str(error))
                continue
            self.good += 1
            yield sample


def open_picture(record: Record, root: str | Path = "") -> Image.Image:
    """The picture of a record, RGB: its bytes, its field "binary" (base64) or "image_rpath" (path below `root`).

    Raises:
        InputError: there is none, or it is damaged.
    """
    if record.picture_bytes is not None:
        return read_picture(io.BytesIO(record.picture_bytes), "its picture")
    if "binary" in record.fields:
        try:
            content = base64.b64decode(record.fields["binary"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise InputError(f'its field "binary" is not base64 ({error})') from error
        return read_picture(io.BytesIO(content), 'its field "binary"')
    path = record.fields.get("image_rpath", record.fields.get("image"))
    if not isinstance(path, str):
        raise InputError('it has no picture: neither "binary" nor "image_rpath"')
    return read_picture(os.path.join(root, path), f"the picture {os.path.join(root, path)}")


def read_picture(source: Any, called: str | None = None) -> Image.Image:
    """Read a picture as RGB, whole.

    Args:
        source: path or stream.
        called: what messages call it.

    Raises:
        InputError: it is missing, damaged, cut short or too large to be safe.
    """
    called = called or f"the picture {source}"
    try:
        with Image.open(source) as picture:
            return picture.convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"{called} is not there") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{called} is damaged or no picture ({error})") from error


def endless(source: Source, seed: int, shuffle: bool = True) -> Iterator[tuple[int, Record | Broken]]:
    """Pass after pass over this process's share, numbered; each pass in an order of its own.

    Raises:
        InputError: the share has no record.
    """
    share, number = Share.of_this_process(), 0
    for turn in range(2**62):
        before = number
        rng = np.random.default_rng((seed, share.index, turn)) if shuffle else None
        for record in source.read(share, rng):
            yield number, record
            number += 1
        if number == before:
            raise InputError(f"part {share.index + 1} of {share.count} of the data has no line; use fewer workers")
