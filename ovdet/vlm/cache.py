"""What is kept between runs: where it lies, whether the network may be asked, and vectors by key."""

from __future__ import annotations

import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")
_log = logging.getLogger(__name__)

_TRUE = {"1", "on", "true", "yes"}
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, checksum INTEGER, vector BLOB) WITHOUT ROWID"
_told: set[Path] = set()  # files that a warning was given of: one a process is enough
_KEYS_A_QUERY = 500  # SQLite took at most 999 variables a statement until 3.32


def cache_dir() -> Path:
    """The folder of everything kept between runs: $OVDET_HOME, or ~/.cache/ovdet; not created by this call."""
    home = os.environ.get("OVDET_HOME", "").strip()
    return Path(home).expanduser() if home else Path.home() / ".cache" / "ovdet"


def offline() -> bool:
    """Whether the user forbids the network: $OVDET_OFFLINE or $HF_HUB_OFFLINE is 1, on, true or yes."""
    return any(os.environ.get(name, "").strip().lower() in _TRUE for name in ("OVDET_OFFLINE", "HF_HUB_OFFLINE"))


class VectorStore:
    """Float32 vectors by key in one SQLite file.

    Several processes may read and write it at once, and any of them may be killed: SQLite's journal keeps every
    batch whole or absent. The store is a convenience and never in the way: a damaged file is thrown away and
    written anew, a damaged row is as good as absent, and where the file cannot be used at all (no permission,
    full disk) the store is empty from then on, with one warning a process.

    Args:
        path: of the file; its folder is made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._usable = True

    def get(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors that are there, by key; each (D,) float32."""

        def read(connection: sqlite3.Connection) -> dict[str, np.ndarray]:
            found = {}
            for start in range(0, len(keys), _KEYS_A_QUERY):
                part = keys[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(part))
                for key, checksum, blob in connection.execute(f"SELECT * FROM vectors WHERE key IN ({marks})", part):
                    if isinstance(blob, bytes) and zlib.crc32(blob) == checksum:
                        found[key] = np.frombuffer(blob, dtype="<f4")
            return found

        return self._attempt(read) or {}

    def put(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep vectors, each (D,); all of them or, if the process is killed meanwhile, none."""
        blobs = [(key, np.ascontiguousarray(vector, dtype="<f4").tobytes()) for key, vector in vectors.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                rows = [(key, zlib.crc32(blob), blob) for key, blob in blobs]
                connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

        self._attempt(write)

    def _attempt(self, action: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Do `action` on an open file, once more on a new file if this one is damaged; None where that fails."""
        if not self._usable:
            return None
        try:
            try:
                return self._with_connection(action)
            except sqlite3.OperationalError:  # locked, read-only, full: the file itself may be sound
                raise
            except sqlite3.DatabaseError:
                self.path.unlink(missing_ok=True)
                return self._with_connection(action)
        except (OSError, sqlite3.Error) as error:
            self._usable = False
            if self.path not in _told:
                _told.add(self.path)
                _log.warning("cannot use the cache file %s (%s); going on without it", self.path, error)
            return None

    def _with_connection(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=30)) as connection:
            connection.execute(_TABLE)
            return action(connection)
