"""`ovdet ground`: the options, and the order of things before the first picture is looked at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from ovdet.cli.options import add_run_options, make_plan
from ovdet.cli.sentences import HOW_THEY_ARE_TOLD_APART, add_sentences, sort_arguments
from ovdet.cli.terminal import BAD_INPUT, EXIT_CODES, Parser, answers_only
from ovdet.errors import InputError

if TYPE_CHECKING:
    from ovdet.grounder import Grounder

_EXAMPLE = """ovdet ground photo.png "the dog left of the pizza"
       ovdet ground SOURCE... SENTENCE... [options]"""
MODEL_HELP = """\
stickers (default; for drawings, stickers and clip art, not for photographs) or a checkpoint"""
_EPILOG = f"""\
{HOW_THEY_ARE_TOLD_APART}
{EXIT_CODES}

more examples:
  ovdet ground holiday/ clip.mp4 "the largest cup" "a dog on a sofa" --json > found.jsonl
  ovdet ground photo.png "all dogs left of the pizza" --candidates detect
  ovdet ground demo/stickers/*.png --queries questions.jsonl --out found
"""


def make_parser() -> Parser:
    """The options of `ovdet ground`."""
    parser = Parser(
        prog="ovdet ground",
        example=_EXAMPLE,
        description="Draw boxes around what sentences mean in pictures and video.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_sentences(parser)
    add_model_options(parser)
    add("--threshold", type=float, metavar="T", help="confidence below which a thing is absent (default: the model's)")
    add(
        "--candidates",
        choices=["detect"],
        help="detect: match each box that a detector proposes, so that several may be meant by one sentence",
    )
    add("--detector", metavar="NAME|FILE", help="that proposes the boxes (default: stickers)")
    add_run_options(parser)
    return parser


def add_model_options(parser: Parser) -> None:
    """Which model reads the sentences."""
    parser.add_argument("--model", metavar="NAME|FILE", help=MODEL_HELP)
    parser.add_argument("--vocabulary", metavar="FILE", help="vocab.txt, for a converted checkpoint that holds none")


def main(arguments: Sequence[str], grounder: Grounder | None = None) -> int:
    """Run `ovdet ground`.

    Args:
        arguments: after the verb.
        grounder: answers instead of what `--model` names.

    Returns:
        The exit code.

    Raises:
        InputError: nothing can be done at all.
    """
    options = make_parser().parse_intermixed_args(arguments)
    with answers_only() as stdout:
        return _run(options, grounder, stdout)


def _run(options: argparse.Namespace, grounder: Grounder | None, stdout: TextIO) -> int:
    from ovdet.cli.grounding import GroundJob
    from ovdet.cli.job import run_job
    from ovdet.grounder import DEFAULT_GROUNDER, Grounder, check_threshold

    asked = sort_arguments(options.arguments, options.sentence, options.queries)
    check_threshold(options.threshold)
    if options.detector is not None and options.candidates is None:
        raise InputError("--detector proposes boxes for --candidates detect; add that, or leave --detector out")
    options.sources = asked.sources
    plan = make_plan(options)
    if not plan.sources:
        return BAD_INPUT
    for source in plan.sources:
        asked.of(source)
    desk = grounder or Grounder(
        options.model or DEFAULT_GROUNDER, options.device, detector=options.detector, vocabulary=options.vocabulary
    )
    return run_job(GroundJob(desk, asked, plan.sources, options, stdout if options.json else None), plan)
