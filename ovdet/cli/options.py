"""What the verbs that look at pictures share: options, and the order of things before the first picture."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ovdet.cli.terminal import BAD_INPUT, Parser, say_error
from ovdet.errors import InputError

if TYPE_CHECKING:
    from ovdet.media import Source


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        sources: to look at; those that cannot be found are told already.
        formats: of result files.
        code: exit code so far: 2 if a source could not be found.
    """

    sources: list[Source]
    formats: list[str]
    code: int


def add_sources(parser: Parser) -> None:
    """Take sources, one or more, anywhere among the options."""
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="picture, video, folder, quoted glob, or camera index such as 0"
    )


def add_run_options(parser: Parser) -> None:
    """Where to compute, and what to write and show."""
    add = parser.add_argument
    add("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    add("--batch-size", type=int, default=1, metavar="N", help="pictures looked at together (default: 1)")
    add("--out", type=Path, default=Path("outputs"), metavar="DIR", help="where files go (default: outputs)")
    add("--no-save", action="store_true", help="draw no pictures and no video")
    add("--save-crops", action="store_true", help="save what is in each box to DIR/crops")
    add("--format", metavar="LIST", help="also write results: coco, yolo (or yolo-score), csv, apart by commas")
    add("--json", action="store_true", help="one JSON object a picture or frame on stdout, a line each")
    add("--show", action="store_true", help="show what is drawn in a window; q ends")
    add("--debug", action="store_true", help="show tracebacks")


def make_plan(options: argparse.Namespace, *, writes_more: bool = False) -> Plan:
    """Check the options of `add_run_options` and find the sources; to be called before a model is loaded.

    Args:
        options: parsed.
        writes_more: whether the verb writes other files than these options ask for.

    Raises:
        InputError: an option cannot be met.
    """
    from ovdet.files import writable_folder
    from ovdet.formats import parse_formats

    formats = parse_formats(options.format) if options.format is not None else []
    if options.batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {options.batch_size}")
    if options.show and not has_display():
        raise InputError("--show: there is no display here; leave it out")
    if formats or options.save_crops or writes_more or not options.no_save:
        writable_folder(options.out)
    sources, problems = gather_sources(options.sources)
    for problem in problems:
        say_error(problem)
    return Plan(sources, formats, BAD_INPUT if problems else 0)


def gather_sources(arguments: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Everything that the arguments stand for, each file once, and a sentence for each argument that fails."""
    from ovdet.media import find_sources

    sources: dict[str, Source] = {}
    problems = []
    for argument in arguments:
        try:
            for source in find_sources(argument):
                sources.setdefault(source.key, source)
        except InputError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{argument} cannot be read: {error.strerror}")
    return list(sources.values()), problems


def has_display() -> bool:
    """Whether a window can be opened; asked beforehand, as Qt ends the whole process where it cannot."""
    return sys.platform in {"win32", "darwin"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
