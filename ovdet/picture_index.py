"""Vectors of pictures on disk, one file: who made them, of which files, and whether these are still the same.

The file is an SQLite data base: a run that is killed leaves it whole, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from ovdet.errors import InputError
from ovdet.files import write_problem

FORMAT = "ovdet-pictures-1"
FLUSH_ROWS, FLUSH_SECONDS = 256, 5.0
"""What a kill may lose: pictures are written when there are so many, or after so long, at once."""

_TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE pictures (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX by_content ON pictures (sha256);
"""


class PictureIndex:
    """Opens or begins an index; to be used in a `with` block, at whose end it is closed.

    A picture is known by its absolute path, and taken to be unchanged while its size and time of change are. One that
    was moved or copied is known by its content.

    Args:
        path: of the file.
        model: name of the model, for messages.
        fingerprint: of the model's weights.
        width: of a vector.

    Raises:
        InputError: the file was made by another model, is no index, is damaged or cannot be written to.
    """

    def __init__(self, path: Path, model: str, fingerprint: str, width: int) -> None:
        self.path, self.width = path, width
        self._waiting: list[tuple[bytes, int, int, str, bytes]] = []
        self._flushed = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_problem(path, error) from error
        with self._problems():
            self._base = sqlite3.connect(path, timeout=30)
            try:
                self._begin_or_check(model, fingerprint)
            except BaseException:
                self._base.close()
                raise

    def vector(self, picture: Path) -> np.ndarray | None:
        """The vector (E,) of a file as it is now, or None if it is not known yet.

        Raises:
            OSError: there is no such file.
        """
        key, stat = _key(picture), picture.stat()
        with self._problems():
            row = self._base.execute("SELECT size, mtime_ns, vector FROM pictures WHERE path = ?", (key,)).fetchone()
            if row is not None and row[:2] == (stat.st_size, stat.st_mtime_ns):
                return self._vector(row[2])
            digest = _digest(picture)
            same = self._base.execute("SELECT vector FROM pictures WHERE sha256 = ?", (digest,)).fetchone()
            if same is None:
                return None
            self._write(key, stat, digest, same[0])
            return self._vector(same[0])

    def add(self, picture: Path, vector: np.ndarray) -> None:
        """Keep the vector (E,) of a file as it is now.

        Raises:
            OSError: there is no such file.
        """
        row = np.asarray(vector, dtype="<f4")
        if row.shape != (self.width,):
            raise ValueError(f"a vector of this index must be ({self.width},), got {row.shape}")
        with self._problems():
            self._write(_key(picture), picture.stat(), _digest(picture), row.tobytes())

    def __len__(self) -> int:
        with self._problems():
            count: int = self._base.execute("SELECT count(*) FROM pictures").fetchone()[0]
        return count

    def __enter__(self) -> PictureIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._problems(), closing(self._base):
            self._flush()

    def _begin_or_check(self, model: str, fingerprint: str) -> None:
        base = self._base
        tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            said = {"format": FORMAT, "model": model, "fingerprint": fingerprint, "width": str(self.width)}
            base.executescript(f"BEGIN IMMEDIATE;{_TABLES}")
            base.executemany("INSERT INTO about VALUES (?, ?)", said.items())
            base.commit()
            return
        said = dict(base.execute("SELECT key, value FROM about")) if "about" in tables else {}
        if said.get("format") != FORMAT:
            raise InputError(f"{self.path} is no index of pictures ({FORMAT}); name another file")
        if said.get("fingerprint") != fingerprint or said.get("width") != str(self.width):
            raise InputError(
                f"{self.path} was made by other weights ({said.get('model')}) than those of {model}, whose vectors do "
                "not compare; use that model, or name another file"
            )

    def _write(self, key: bytes, stat: os.stat_result, digest: str, vector: bytes) -> None:
        self._waiting.append((key, stat.st_size, stat.st_mtime_ns, digest, vector))
        if len(self._waiting) >= FLUSH_ROWS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        """Write what waits in one transaction, so that the file is locked for no longer than that."""
        with self._base:
            self._base.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?)", self._waiting)
        self._waiting.clear()
        self._flushed = time.monotonic()

    def _vector(self, content: bytes) -> np.ndarray:
        return np.frombuffer(content, dtype="<f4").astype(np.float32)

    @contextmanager
    def _problems(self) -> Iterator[None]:
        """Say what SQLite finds wrong in one sentence."""
        try:
            yield
        except sqlite3.OperationalError as error:
            reason = "another run writes to it" if "locked" in str(error) else str(error)
            raise InputError(f"cannot use the index {self.path}: {reason}") from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path} is damaged, or no index of pictures ({error}); name another file") from error


def _key(picture: Path) -> bytes:
    return os.fsencode(picture.resolve())


def _digest(picture: Path) -> str:
    with picture.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
