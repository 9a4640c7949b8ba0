"""`ovdet detect`: the options, and the order of things before the first picture is looked at."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ovdet.cli.terminal import BAD_INPUT, Parser, gentle_interrupt, say_error
from ovdet.cli.vocabulary import parse_classes
from ovdet.errors import InputError

if TYPE_CHECKING:
    from ovdet.detector import Predictor
    from ovdet.media import Source

_EXAMPLE = """ovdet detect photo.jpg --classes "cat, coffee cup, hot air balloon"
       ovdet detect SOURCE... --classes NAMES|FILE [options]"""
_MODEL_HELP = """\
a name from `ovdet models` or a checkpoint (default: imagenet-words); stickers is for drawings, stickers and clip art, \
not for photographs"""
_EPILOG = """\
exit codes: 0 well; 2 some input was bad (one sentence each on stderr, the rest is done all the same);
130 after Ctrl-C (what was done until then is kept); 1 a fault of ovdet itself.

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
    add("sources", nargs="+", metavar="SOURCE", help="picture, video, folder, quoted glob, or camera index such as 0")
    add("--classes", required=True, metavar="NAMES|FILE", help="names apart by commas, or a file with one name a line")
    add("--model", metavar="NAME|FILE", help=_MODEL_HELP)
    add("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    add("--score", type=float, metavar="S", help="lowest score that is kept, 0 to 1 (default: the model's own)")
    add("--max-dets", type=int, default=100, metavar="N", help="most detections a picture (default: 100)")
    add("--batch-size", type=int, default=1, metavar="N", help="pictures looked at together (default: 1)")
    add("--no-masks", action="store_true", help="boxes only")
    add("--out", type=Path, default=Path("outputs"), metavar="DIR", help="where files go (default: outputs)")
    add("--no-save", action="store_true", help="draw no pictures and no video")
    add("--save-crops", action="store_true", help="save what is in each box to DIR/crops")
    add("--format", metavar="LIST", help="also write results: coco, yolo (or yolo-score), csv, apart by commas")
    add("--json", action="store_true", help="one JSON object a picture or frame on stdout, a line each")
    add("--show", action="store_true", help="show what is drawn in a window; q ends")
    add("--debug", action="store_true", help="show tracebacks")
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
    options = make_parser().parse_intermixed_args(arguments)
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):  # what libraries print must not get between the lines of JSON
        return _run(options, predictor, stdout)


def _run(options: argparse.Namespace, predictor: Predictor | None, stdout: TextIO) -> int:
    from ovdet.cli.job import Job
    from ovdet.detector import DEFAULT_MODEL, Detector, check_options
    from ovdet.files import writable_folder
    from ovdet.formats import parse_formats

    names = parse_classes(options.classes)
    check_options(options.score, options.max_dets, options.batch_size)
    formats = parse_formats(options.format) if options.format is not None else []
    if options.show and not has_display():
        raise InputError("--show: there is no display here; leave it out")
    if formats or options.save_crops or not options.no_save:
        writable_folder(options.out)
    sources, problems = gather_sources(options.sources)
    for problem in problems:
        say_error(problem)
    if not sources:
        return BAD_INPUT
    detector = Detector(predictor or options.model or DEFAULT_MODEL, device=options.device)
    with gentle_interrupt("stopping in good order; Ctrl-C again stops at once") as stop:
        job = Job(detector.predictor, names, sources, options, stdout=stdout if options.json else None, stop=stop)
        code = job.run(formats)
    return stop.code or max(code, BAD_INPUT if problems else 0)


def gather_sources(arguments: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Everything that the arguments stand for, each file once, and a sentence for each argument that fails."""
    from ovdet.media import find_sources

    sources: dict[str, Source] = {}
    problems = []
    for argument in arguments:
        try:
            for source in find_sources(argument):
                key = str(source) if source.kind == "camera" else str(source.path.resolve())
                sources.setdefault(key, source)
        except InputError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{argument} cannot be read: {error.strerror}")
    return list(sources.values()), problems


def has_display() -> bool:
    """Whether a window can be opened; asked beforehand, as Qt ends the whole process where it cannot."""
    return sys.platform in {"win32", "darwin"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
