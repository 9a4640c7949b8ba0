"""Small readers that the data sets of texts share: JSON files whose rows have what is relied on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovdet.errors import InputError


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error})") from error


def read_rows(path: str | Path, fields: Mapping[str, type | tuple[type, ...]], key: str | None = None) -> list[Any]:
    """The rows of a JSON file, all of which have some fields.

    Args:
        path: of the file.
        fields: name -> type.
        key: of the list in the file; None: the file is the list.

    Raises:
        InputError: the file is missing or of another form, or a row lacks a field; the first is told.
    """
    content = read_json(path)
    rows = content.get(key) if key is not None and isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise InputError(f'{path} has no list "{key}"' if key else f"{path} holds no list")
    check_rows(path, rows, fields)
    return rows


def read_lines(path: str | Path, fields: Mapping[str, type | tuple[type, ...]]) -> list[Any]:
    """The same of a file with one JSON object a line.

    Raises:
        InputError: as `read_rows`.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{path}:{number} is not valid JSON ({error})") from error
    check_rows(path, rows, fields)
    return rows


def check_rows(path: str | Path, rows: Sequence[Any], fields: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse rows without a field, or with one of another type.

    Raises:
        InputError: the first such row is told.
    """
    for index, row in enumerate(rows):
        for name, kind in fields.items():
            if not isinstance(row, dict) or name not in row:
                raise InputError(f'{path}: row {index} has no "{name}"')
            if not isinstance(row[name], kind):
                raise InputError(f'{path}: row {index} has {row[name]!r} as "{name}"')


def digest_of(content: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_count(what: str, found: Mapping[str, int], official: Mapping[str, int]) -> None:
    """Compare numbers of rows by name with the official ones.

    Raises:
        InputError: one differs; the first is told.
    """
    for name, count in official.items():
        if found.get(name, 0) != count:
            raise InputError(
                f"{what}: there are {found.get(name, 0)} {name}, officially {count}; fetch the files again, or read "
                "them with verify=False"
            )
