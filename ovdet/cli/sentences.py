"""Sources and sentences on one command line, and sentences in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovdet.cli.terminal import Parser
from ovdet.errors import InputError

if TYPE_CHECKING:
    from ovdet.media import Source

HOW_THEY_ARE_TOLD_APART = """\
sources and sentences: the first argument is a source. Those behind it are sources too, as long as there is such a
file or folder, or they look like one (photo.jpg, "*.png", a camera's number); from the first that does not on, all
are sentences. With --sentence or --queries all arguments are sources.
"""


@dataclass
class Asked:
    """Who is asked what.

    Attributes:
        sources: as the user wrote them.
        everywhere: sentences for all sources.
        own: further sentences for some, by `Source.key`.
    """

    sources: list[str]
    everywhere: list[str]
    own: dict[str, list[str]] = field(default_factory=dict)

    def of(self, source: Source) -> tuple[str, ...]:
        """The sentences for a source, each once.

        Raises:
            InputError: there is none.
        """
        found = tuple(dict.fromkeys([*self.everywhere, *self.own.get(source.key, ())]))
        if not found:
            raise InputError(f"no sentence is asked of {source}; add one for all sources, or one of its own")
        return found

    @property
    def sentences(self) -> list[str]:
        """All there are, each once."""
        return list(dict.fromkeys([*self.everywhere, *(text for some in self.own.values() for text in some)]))


def add_sentences(parser: Parser) -> None:
    """Take sources and sentences, and sentences from options."""
    add = parser.add_argument
    add("arguments", nargs="*", metavar="SOURCE... SENTENCE...", help="what to look at, then what to look for")
    add("--sentence", action="append", default=[], metavar="TEXT", help="a sentence; may be given several times")
    add("--queries", type=Path, metavar="FILE.jsonl", help='lines of {"expression": ..., "source": (may be left out)}')


def sort_arguments(arguments: Sequence[str], sentences: Sequence[str], queries: Path | None) -> Asked:
    """Tell sources from sentences, see `HOW_THEY_ARE_TOLD_APART`.

    Args:
        arguments: in their order.
        sentences: of `--sentence`.
        queries: file of `--queries`.

    Raises:
        InputError: there is no source or no sentence, a sentence is empty, or the file cannot be used.
    """
    arguments = list(arguments)
    given = list(sentences)
    if given or queries is not None:
        asked = Asked(arguments, given)
        rows = list(read_queries(queries)) if queries is not None else []
        for source, text in rows:
            _add_query(asked, source, text)
        if rows and not asked.sentences:
            raise InputError(f"--queries: {queries} asks of nothing that is there; there is no {rows[0][0]}")
    else:
        count = next((place for place, text in enumerate(arguments) if place and not looks_like_source(text)), None)
        asked = Asked(arguments[:count], arguments[count:] if count else [])
        for text in asked.everywhere:
            if Path(text).suffix and looks_like_source(text):
                raise InputError(f"{text} stands behind a sentence; put all sources first, or use --sentence")
    if not asked.sources:
        raise InputError("there is no source; name a picture, video or folder")
    for place, text in enumerate(asked.sentences, start=1):
        if not text.strip():
            raise InputError(f"sentence {place} is empty; write what to look for")
    if not asked.sentences:
        raise InputError(
            "there is no sentence; put it behind the sources, or use --sentence if it is called like a file"
        )
    return asked


def looks_like_source(argument: str) -> bool:
    """Is there such a file or folder, or does the argument look like the name of one?"""
    from ovdet.media import PICTURE_SUFFIXES, VIDEO_SUFFIXES

    path = Path(argument)
    marked = not any(letter.isspace() for letter in argument) and any(mark in argument for mark in "*?[/\\")
    return bool(argument.strip()) and (
        marked or argument.isdecimal() or path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES or _exists(path)
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a name may be: a sentence
        return False


def read_queries(path: Path) -> Iterator[tuple[str | None, str]]:
    """Source, or None for all, and sentence of each line: `{"expression": "...", "source": "..."}`.

    Raises:
        InputError: the file cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"--queries: {path} is not a text file in UTF-8") from error
    except OSError as error:
        raise InputError(f"--queries: {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _read_line(line, f"--queries: {path} line {number}")


def _read_line(line: str, place: str) -> tuple[str | None, str]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f'{place} is not JSON; write {{"expression": "the dog"}}') from error
    if not isinstance(row, dict):
        raise InputError(f'{place} is not an object; write {{"expression": "the dog"}}')
    source = row.get("source")
    if source is not None and not isinstance(source, str):
        raise InputError(f'{place}: "source" must be a text or left out, got {source!r}')
    text = row.get("expression")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f'{place}: "expression" must be a sentence, got {text!r}')
    return source, text


def _add_query(asked: Asked, source: str | None, text: str) -> None:
    from ovdet.media import find_sources

    if source is None:
        asked.everywhere.append(text)
        return
    if source not in asked.sources:
        asked.sources.append(source)
    with suppress(InputError, OSError):  # what cannot be found is told when all sources are gathered
        for one in find_sources(source):
            asked.own.setdefault(one.key, []).append(text)
