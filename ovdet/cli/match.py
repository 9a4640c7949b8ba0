"""`ovdet match`: how likely it is that sentences are true of pictures."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ovdet.cli.ground import add_model_options
from ovdet.cli.options import gather_sources
from ovdet.cli.sentences import HOW_THEY_ARE_TOLD_APART, add_sentences, sort_arguments
from ovdet.cli.terminal import BAD_INPUT, Parser, answers_only, gentle_interrupt, say_error, write_json_line
from ovdet.errors import OvdetError

if TYPE_CHECKING:
    from ovdet.grounder import Grounder
    from ovdet.media import Source

_log = logging.getLogger(__name__)
_EXAMPLE = """ovdet match photo.png "a dog on a sofa" "a red car"
       ovdet match PICTURE... SENTENCE... [options]"""


def make_parser() -> Parser:
    """The options of `ovdet match`."""
    parser = Parser(
        prog="ovdet match",
        example=_EXAMPLE,
        description="Print the chance that each sentence is true of each picture as a whole.",
        epilog=HOW_THEY_ARE_TOLD_APART,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_sentences(parser)
    add_model_options(parser)
    add_table_options(parser)
    return parser


def add_table_options(parser: Parser) -> None:
    """Where to compute, and how to print."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    parser.add_argument("--json", action="store_true", help="JSON objects instead of a table, a line each")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def main(arguments: Sequence[str]) -> int:
    """Run `ovdet match`; gives the exit code.

    Raises:
        InputError: nothing can be done at all.
    """
    options = make_parser().parse_intermixed_args(arguments)
    with answers_only() as stdout:
        return _run(options, stdout)


def _run(options: argparse.Namespace, stdout: TextIO) -> int:
    asked = sort_arguments(options.arguments, options.sentence, options.queries)
    pictures, code = gather_pictures(asked.sources)
    if not pictures:
        return BAD_INPUT
    every = dict.fromkeys(asked.of(picture) for picture in pictures)
    grounder = load(options)
    grounder.desk.require("match")
    read = {sentences: grounder.read(sentences) for sentences in every}
    with gentle_interrupt("stopping after this picture; Ctrl-C again stops at once") as stop:
        for picture in pictures:
            if stop.is_set():
                break
            try:
                chances = grounder.match(picture.path, read[asked.of(picture)]).tolist()
            except OvdetError as error:
                say_error(str(error), error)
                code = BAD_INPUT
                continue
            rows = list(zip(asked.of(picture), chances, strict=True))
            if options.json:
                told = [{"expression": text, "chance": round(chance, 6)} for text, chance in rows]
                record = {"source": str(picture), "model": grounder.name, "matches": told}
                write_json_line(record, stdout)
            else:
                print_lines((f"{chance:6.3f}  {picture}  {text}" for text, chance in rows), stdout)
    return stop.code or code


def gather_pictures(arguments: Sequence[str]) -> tuple[list[Source], int]:
    """The pictures among the sources, and the exit code so far.

    What cannot be found, or is named but no picture, is told as an error; videos in folders are only counted.
    """
    sources, problems = gather_sources(arguments)
    named = {str(Path(argument).resolve()) for argument in arguments}
    others = [source for source in sources if source.kind != "picture"]
    wrong = [source for source in others if source.kind == "camera" or source.key in named]
    problems += [f"{source} is no picture; this verb looks at pictures alone" for source in wrong]
    for problem in problems:
        say_error(problem)
    if len(others) > len(wrong):
        _log.info("videos are left out: %d", len(others) - len(wrong))
    return [source for source in sources if source.kind == "picture"], BAD_INPUT if problems else 0


def load(options: argparse.Namespace) -> Grounder:
    """The model that the options name."""
    from ovdet.grounder import DEFAULT_GROUNDER, Grounder

    return Grounder(options.model or DEFAULT_GROUNDER, options.device, vocabulary=options.vocabulary)


def print_lines(lines: Iterable[str], stdout: TextIO) -> None:
    """Print lines of a table, with what is no text escaped."""
    for line in lines:
        stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
    stdout.flush()
