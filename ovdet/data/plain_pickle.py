"""Reading the pickle files of old data sets without running anything that is in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from ovdet.errors import InputError


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dicts, texts and numbers; a pickle that names a function or class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to something outside of it, {pid!r}")


def read_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of lists, dicts, texts and numbers, also one that Python 2 wrote.

    Raises:
        InputError: the file is missing or damaged, or holds anything else; nothing in it is run.
    """
    try:
        with Path(path).open("rb") as stream:
            return _PlainUnpickler(stream, encoding="utf-8", errors="surrogateescape").load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} was refused and nothing in it was run: {error}; only plain data is read") from error
    except Exception as error:
        # A damaged pickle may fail in any way; none of it is code of its own.
        raise InputError(f"{path} is damaged or no pickle ({type(error).__name__}: {error})") from error
