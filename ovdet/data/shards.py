"""Tar shards in WebDataset's layout: files of one sample follow each other and share the name up to the first dot.

Read and written by the standard library, as a stream; `webdataset` reads and writes the same files. A sample has its
picture as "jpg", "png" or "webp" and its fields as "json"; "txt" is a caption alone.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovdet.data.records import Broken, Record, Share, deal, list_files
from ovdet.errors import InputError
from ovdet.files import replacing

PICTURES = ("jpg", "jpeg", "png", "webp")


class TarShards:
    """Records out of tar files.

    Shards are dealt to the shares; where there are fewer shards than shares, samples are.

    Args:
        paths: tar files, or folders of them.

    Raises:
        InputError: a path is not there, or there is no tar file.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.files = list_files(paths, suffix=".tar")

    def read(self, share: Share, rng: np.random.Generator | None = None) -> Iterator[Record | Broken]:
        """One pass over the share's samples; see `ovdet.data.records.Source`."""
        files, stride = deal(self.files, share)
        for place in rng.permutation(len(files)) if rng else range(len(files)):
            for number, (key, parts) in enumerate(read_tar(files[place])):
                if not stride or number % share.count == share.index:
                    yield _record(f"{files[place]}:{key}", parts)


def read_tar(path: str | Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of a shard in order: key, and contents by extension.

    Raises:
        InputError: the file is missing, cut short or no tar file.
    """
    current, parts = "", {}
    try:
        with tarfile.open(path, mode="r|*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if key != current and parts:
                    yield current, parts
                    parts = {}
                stream = archive.extractfile(member)
                current, parts[extension.lower()] = key, stream.read() if stream else b""
    except FileNotFoundError as error:
        raise InputError(f"there is no shard {path}") from error
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(f"the shard {path} is damaged or no tar file ({error}); make or fetch it again") from error
    if parts:
        yield current, parts


def _record(name: str, parts: dict[str, bytes]) -> Record | Broken:
    picture = next((parts[kind] for kind in PICTURES if kind in parts), None)
    try:
        fields = json.loads(parts["json"]) if "json" in parts else {"caption": parts["txt"].decode()}
    except KeyError:
        return Broken(name, f"it has neither json nor txt, but {', '.join(sorted(parts))}")
    except ValueError as error:
        return Broken(name, f"its text is not readable ({error})")
    if not isinstance(fields, dict):
        return Broken(name, f"its json holds one {type(fields).__name__} and not an object")
    return Record(name, fields, picture)


def write_shards(
    samples: Iterable[tuple[bytes, str, dict[str, Any]]], folder: str | Path, *, per_shard: int = 1000, start: int = 0
) -> list[Path]:
    """Write samples as shards `00000.tar`, `00001.tar` ...; each is whole or not there.

    Args:
        samples: picture as a file's bytes, its extension ("jpg"), fields for the json.
        folder: made where it is missing.
        per_shard: samples of a shard.
        start: number of the first shard.

    Returns:
        Paths of the shards.

    Raises:
        InputError: they cannot be written, or the folder has such a shard already.
    """
    paths: list[Path] = []
    waiting: list[tuple[bytes, str, dict[str, Any]]] = []

    def write() -> None:
        path = Path(folder) / f"{start + len(paths):05d}.tar"
        if path.exists():
            raise InputError(f"{path} exists already; choose another folder or remove it")
        with replacing(path) as temporary, tarfile.open(temporary, "w") as archive:
            for number, (picture, extension, fields) in enumerate(waiting):
                key = f"{start + len(paths):05d}{number:06d}"
                _add(archive, f"{key}.{extension}", picture)
                _add(archive, f"{key}.json", json.dumps(fields, ensure_ascii=False).encode())
        paths.append(path)
        waiting.clear()

    for sample in samples:
        waiting.append(sample)
        if len(waiting) == per_shard:
            write()
    if waiting:
        write()
    return paths


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file without time or owner, so that equal samples make equal shards."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
