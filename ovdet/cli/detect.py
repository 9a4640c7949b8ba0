"""`ovdet detect`: the options, and the order of things before the first picture is looked at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from ovdet.cli.example_options import parse_class_images
from ovdet.cli.options import add_run_options, add_sources, make_plan
from ovdet.cli.terminal import BAD_INPUT, EXIT_CODES, Parser, answers_only
from ovdet.cli.vocabulary import parse_classes
from ovdet.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from ovdet.detector import Predictor
    from ovdet.results import Detections

_EXAMPLE = """ovdet detect photo.jpg --classes "cat, coffee cup, hot air balloon"
       ovdet detect SOURCE... --classes NAMES|FILE [options]"""
_MODEL_HELP = """\
a name from `ovdet models` or a checkpoint (default: imagenet-words); stickers is for drawings, stickers and clip art, \
not for photographs"""
_EPILOG = f"""\
{EXIT_CODES}

more examples:
  ovdet detect holiday/ "archive/**/*.jpg" --classes names.txt --format coco,csv --no-save
  ovdet detect clip.mp4 --classes "motorcycle" --json > found.jsonl
  ovdet detect demo/stickers/*.png --model stickers --classes demo/stickers/names.txt
  ovdet detect 0 --classes "mug, keyboard" --show
"""


def make_parser() -> Parser:
    """The options of `ovdet detect`."""
    parser = Parser(
        prog="ovdet detect",
        example=_EXAMPLE,
        description="Draw boxes and masks of the named things on pictures and video.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_sources(parser)
    add("--classes", metavar="NAMES|FILE", help="names apart by commas, or a file with one name a line")
    add(
        "--class-image",
        action="append",
        default=[],
        metavar="NAME=PICTURE[:x,y,w,h]",
        help="a picture, or a box in it, that shows what NAME is; repeatable, also beside --classes",
    )
    add("--model", metavar="NAME|FILE", help=_MODEL_HELP)
    add("--score", type=float, metavar="S", help="lowest score that is kept, 0 to 1 (default: the model's own)")
    add("--max-dets", type=int, default=100, metavar="N", help="most detections a picture (default: 100)")
    add("--no-masks", action="store_true", help="boxes only")
    add_run_options(parser)
    return parser


def main(arguments: Sequence[str], predictor: Predictor | None = None) -> int:
    """Run `ovdet detect`.

    Args:
        arguments: after the verb.
        predictor: answers instead of what `--model` names.

    Returns:
        The exit code.

    Raises:
        InputError: nothing can be done at all.
    """
    options = read_arguments(arguments)
    with answers_only() as stdout:
        return _run(options, predictor, stdout)


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse what follows the verb; a wrong option ends the program, as argparse does.

    Raises:
        InputError: nothing is to be looked for.
    """
    options = make_parser().parse_intermixed_args(arguments)
    if options.classes is None and not options.class_image:
        raise InputError("there is nothing to look for; give --classes or --class-image")
    return options


def _run(options: argparse.Namespace, predictor: Predictor | None, stdout: TextIO) -> int:
    from ovdet.cli.job import Job, run_job
    from ovdet.detector import DEFAULT_MODEL, Detector, check_options

    class_images = parse_class_images(options.class_image)
    names = parse_classes(options.classes) if options.classes is not None else []
    check_options(options.score, options.max_dets, options.batch_size)
    plan = make_plan(options)
    if not plan.sources:
        return BAD_INPUT
    detector = Detector(predictor or options.model or DEFAULT_MODEL, device=options.device)
    names, class_embeddings = detector.vocabulary(names, class_images)
    rules = {"score_threshold": options.score, "max_dets": options.max_dets, "masks": not options.no_masks}

    def answer(images: Sequence[np.ndarray]) -> list[Detections]:
        return detector.predictor.predict(images, names, class_embeddings, **rules)

    return run_job(Job(answer, names, plan.sources, options, stdout=stdout if options.json else None), plan)
