"""The value of `--classes`: names apart by commas, or a file with one name a line."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

from ovdet.errors import InputError

_log = logging.getLogger(__name__)


def parse_classes(value: str) -> list[str]:
    """The class names in the user's order and spelling, white space around them removed.

    Args:
        value: names apart by commas or line breaks; or the path of a file (UTF-8) with one name a line, in which
            blank lines and lines that start with "#" are skipped and commas are part of a name.

    Raises:
        InputError: no name, a blank name, two names that mean the same, or a file that cannot be read.
    """
    if "," not in value and "\n" not in value:
        if Path(value).is_file():
            return _checked(_read_names(Path(value)), f"{value}: line")
        if Path(value).suffix.lower() in {".txt", ".names", ".csv"} or "/" in value:
            raise InputError(f"--classes: there is no file {value}")
    names = [name.strip() for name in value.replace("\n", ",").split(",")]
    if not any(names):
        raise InputError('--classes is empty; give names such as --classes "cat, coffee cup"')
    return _checked(list(enumerate(names, start=1)), "--classes: name")


def _read_names(path: Path) -> list[tuple[int, str]]:
    """Line numbers and names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"--classes: {path} is not a text file in UTF-8") from error
    except OSError as error:
        raise InputError(f"--classes: {path} cannot be read: {error.strerror}") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    names = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not names:
        raise InputError(f"--classes: {path} holds no name; write one name a line")
    if len(names) == 1 and "," in names[0][1]:
        _log.warning(
            "%s line %d is taken as one name although it holds commas; write one name a line", path, names[0][0]
        )
    return names


def _checked(places_names: list[tuple[int, str]], origin: str) -> list[str]:
    """The names, if they can be told apart; `origin` leads the place in an error."""
    from ovdet.vlm.prompts import clean_name

    first: dict[str, tuple[int, str]] = {}
    for place, name in places_names:
        if not name.isprintable() and any(unicodedata.category(letter) == "Cs" for letter in name):
            raise InputError(f"{origin} {place} ({name!r}) is not valid text in UTF-8")
        cleaned = clean_name(name)
        if not cleaned:
            raise InputError(f"{origin} {place} is blank ({name!r}); remove it")
        if cleaned in first:
            other, spelled = first[cleaned]
            raise InputError(f"{origin} {place} ({name!r}) is the same as {other} ({spelled!r}); remove one")
        first[cleaned] = (place, name)
    return [name for _, name in places_names]
