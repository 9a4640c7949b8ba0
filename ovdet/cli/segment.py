"""`ovdet segment`: the options, and how what the user gave becomes examples."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ovdet.cli.example_options import Named, parse_mask, split_names
from ovdet.cli.options import Plan, add_run_options, add_sources, make_plan
from ovdet.cli.terminal import BAD_INPUT, EXIT_CODES, Parser, answers_only
from ovdet.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from ovdet.cli.following import ByWords, Wanted
    from ovdet.examples import Mask
    from ovdet.seggpt.examples import Example
    from ovdet.seggpt.predict import Prompt
    from ovdet.segmenter import Segmenter

MOST_NUMBERS = 254
"""Of classes or things in a mask file: 0 is nothing, and 255 stands for pixels that nobody judges."""

_EXAMPLE = """ovdet segment photo.jpg --example pear=example.jpg example_mask.png
       ovdet segment SOURCE... --example [NAME=]PICTURE MASK [--example ...] [options]
       ovdet segment clip.mp4 --first-mask [NAME=]MASK [options]
       ovdet segment SOURCE... --prompt FILE [options]"""
_EPILOG = f"""\
MASK: a picture file (black and white, a palette as of VOC and DAVIS, or colours), FILE.json:ID (an annotation of a
COCO file), or a box x,y,w,h in pixels, which a detector turns into a mask. NAME: of the class; NAME,NAME,... of palette
numbers 1, 2, ... or of colours in order. Several examples of one name are joined; several names are several classes.

{EXIT_CODES}

more examples:
  ovdet segment orchard/ --example pear=a.jpg a.png --example pear=b.jpg b.png --mode similar --json
  ovdet segment photo.jpg --example cat=cats.jpg annotations.json:17 --example dog=dogs.jpg 40,60,200,120
  ovdet segment demo/stickers/*.png --example-by detect "honeybee"
  ovdet segment demo/stickers/*.png --candidates detect \
      --example fox=demo/stickers/examples/fox.jpg demo/stickers/examples/fox_mask.png
  ovdet segment clip.mp4 --first-mask cat,dog=00000.png --memory 8 --resume
  ovdet segment street/*.jpg --model seggpt.pth --prompt ade20k_prompt.safetensors --json
"""


def make_parser() -> Parser:
    """The options of `ovdet segment`."""
    parser = Parser(
        prog="ovdet segment",
        example=_EXAMPLE,
        description="Segment in pictures and video what one or several examples show.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_sources(parser)
    pair = {"nargs": 2, "action": "append", "default": []}
    add("--example", **pair, metavar=("[NAME=]PICTURE", "MASK"), help="a picture and what is meant in it; repeatable")
    add(
        "--example-by",
        **pair,
        metavar=("detect|ground", "WORDS"),
        help="find the example by a name or a sentence: in the first picture, and in each video where it first appears",
    )
    add("--first-mask", metavar="[NAME=]MASK", help="what to follow through a video: a mask of its first frame")
    add("--prompt", type=Path, metavar="FILE", help="a prompt tuned for the model, instead of examples")
    modes = ("semantic", "instance", "similar")
    add(
        "--mode",
        choices=modes,
        help="all of a class, one mask (default); the very things of the example (default with --first-mask); or all "
        "things of the class, a mask each (default with --prompt: what it was tuned for)",
    )
    add("--ensemble", choices=("feature", "spatial"), default="feature", help="how several examples are joined")
    add(
        "--together",
        action="store_true",
        help="all classes in one pass: faster, less exact; stickers was not trained for it",
    )
    add(
        "--candidates",
        choices=("detect",),
        help="mark only what a detector finds to look like the example, and the model marks too (pictures only): surer",
    )
    add(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="also look in the mirror: surer, for more than twice the time (default: stickers does with pictures)",
    )
    add("--threshold", type=float, metavar="T", help="of the soft mask, or of a candidate's score, 0 to 1")
    add("--largest", action="store_true", help="only the largest connected part of a mask")
    add("--fill-holes", action="store_true", help="fill what a mask encloses")
    add("--min-pixels", type=int, default=1, metavar="N", help="leave out smaller connected parts (default: 1)")
    add("--overlap", action="store_true", help="let masks of several classes overlap")
    add("--max-dets", type=int, default=100, metavar="N", help="most masks a picture (default: 100)")
    add("--resize-masks", action="store_true", help="bring masks to their pictures' size instead of refusing them")
    add("--memory", type=int, default=4, metavar="N", help="past frames of a video that are examples too (default: 4)")
    add("--resume", action="store_true", help="go on with videos that an earlier run left unfinished")
    add("--soft", action="store_true", help="also write soft masks, DIR/soft/*.png, 0 to 255")
    add("--no-mask-files", action="store_true", help="write no DIR/masks/*.png")
    add("--model", metavar="NAME|FILE", help="stickers (default; for drawings, not photographs), or a checkpoint")
    add("--detector", metavar="NAME|FILE", help="finds words and turns boxes into masks (default: suits the model)")
    add("--grounder", metavar="NAME|FILE", help="finds sentences (default: stickers)")
    add_run_options(parser)
    return parser


def main(arguments: Sequence[str], segmenter: Segmenter | None = None) -> int:
    """Run `ovdet segment`.

    Args:
        arguments: after the verb.
        segmenter: answers instead of what `--model` names.

    Returns:
        The exit code.

    Raises:
        InputError: nothing can be done at all.
    """
    options = make_parser().parse_intermixed_args(arguments)
    with answers_only() as stdout:
        return _run(options, segmenter, stdout)


def _run(options: argparse.Namespace, segmenter: Segmenter | None, stdout: TextIO) -> int:
    from ovdet.cli.following import SegmentJob
    from ovdet.cli.job import run_job
    from ovdet.seggpt.postprocess import MaskRules
    from ovdet.segmenter import DEFAULT_SEGMENTER, Segmenter

    _check(options)
    rules = MaskRules(
        threshold=options.threshold,
        exclusive=not options.overlap,
        largest=options.largest,
        fill_holes=options.fill_holes,
        min_pixels=options.min_pixels,
    )
    given = [_parse(pair) for pair in options.example]
    plan = make_plan(options, writes_more=options.soft or not options.no_mask_files)
    if not plan.sources:
        return BAD_INPUT
    if segmenter is None:
        segmenter = Segmenter(
            options.model or DEFAULT_SEGMENTER,
            options.device,
            detector=options.detector,
            batch_size=options.batch_size,
            mirror=options.mirror,
        )
    if options.candidates and any(source.kind != "picture" for source in plan.sources):
        raise InputError("--candidates is for pictures; leave it out for videos and cameras, or name only pictures")
    follows = options.first_mask or options.example_by or options.memory
    if options.together and follows and any(source.kind != "picture" for source in plan.sources):
        raise InputError(
            "--together: what is followed through a video is painted one by one; leave it out, or look at each frame "
            "by itself (--example and --memory 0)"
        )
    if options.prompt:
        prompt: Prompt | None = segmenter.learn_tuned(options.prompt, mode=options.mode)
        wanted = _of_prompt(prompt, options)
    else:
        wanted, for_pictures = gather(segmenter, given, plan, options)
        prompt = None
    if not options.prompt and for_pictures:
        prompt = segmenter.learn(
            for_pictures,
            mode=options.mode,
            ensemble=options.ensemble,
            together=options.together,
            candidates=options.candidates,
        )
    job = SegmentJob(segmenter, wanted, prompt, rules, plan.sources, options, stdout=stdout if options.json else None)
    return run_job(job, plan)


def _check(options: argparse.Namespace) -> None:
    """Refuse what makes no sense, before anything is read or written; and fill in what depends on other options."""
    shown = [flag for flag in ("example", "example_by", "first_mask") if getattr(options, flag)]
    if not (shown or options.prompt):
        raise InputError("there is no example; give --example, --example-by or --first-mask, or a tuned --prompt")
    if options.prompt:
        aside = [*shown, *(flag for flag in ("candidates", "together", "resume") if getattr(options, flag))]
        if aside:
            raise InputError(f"--prompt stands alone: leave out --{aside[0].replace('_', '-')}")
        options.memory = 0
    for kind, words in options.example_by:
        if kind not in ("detect", "ground"):
            raise InputError(f"--example-by {kind}: choose detect (a name) or ground (a sentence)")
        if not words.strip():
            raise InputError(f"--example-by {kind}: there are no words")
        if [other for _, other in options.example_by].count(words) > 1:
            raise InputError(f"--example-by: {words!r} is given twice")
    if options.mode is None and not options.prompt:
        options.mode = "instance" if options.first_mask else "semantic"
    if options.max_dets < 1:
        raise InputError(f"max_dets must be at least 1, got {options.max_dets}")
    if options.mode == "similar" and options.max_dets > MOST_NUMBERS and not options.no_mask_files:
        raise InputError(f"a mask file numbers {MOST_NUMBERS} things at most; lower --max-dets or add --no-mask-files")
    if options.memory < 0:
        raise InputError(f"memory must be at least 0 frames, got {options.memory}")


def _parse(pair: Sequence[str]) -> tuple[str, Named, Mask]:
    """What the user wrote, for errors; the picture with its names; and the mask."""
    named = split_names(pair[0], "--example")
    if not Path(named.text).is_file():
        raise InputError(f"--example: there is no picture {named.text}")
    return f"--example {' '.join(pair)}", named, parse_mask(pair[1], f"--example {pair[0]}")


def gather(
    segmenter: Segmenter, given: Sequence[tuple[str, Named, Mask]], plan: Plan, options: argparse.Namespace
) -> tuple[Wanted, list[Example]]:
    """Make the examples.

    Returns:
        What is wanted, and the examples for pictures.

    Raises:
        InputError: one cannot be made; it is named.
    """
    from ovdet.cli.following import Wanted

    examples = []
    for said, named, mask in given:
        with told_as(said):
            examples.append(segmenter.example(named.text, mask, named.names, resize=options.resize_masks))
    words = _finders(segmenter, options)
    for_pictures = [*examples, *_in_first_picture(words, plan)]
    firsts = _first_frames(segmenter, plan, options) if options.first_mask else {}
    names = tuple(dict.fromkeys([name for one in (*for_pictures, *firsts.values()) for name in one.names] + [*words]))
    _check_count(names, options)
    has_video = any(source.kind != "picture" for source in plan.sources)
    stamp = _stamp(segmenter, [*examples, *firsts.values()], options) if has_video else {}
    return Wanted(names, tuple(examples), firsts, words, stamp), for_pictures


def _of_prompt(prompt: Prompt, options: argparse.Namespace) -> Wanted:
    """What a tuned prompt asks for, of every picture and every frame by itself."""
    from ovdet.cli.following import Wanted

    options.mode = prompt.mode
    _check_count(prompt.names, options)
    return Wanted(prompt.names, (), {}, {}, {})


def _check_count(names: Sequence[str], options: argparse.Namespace) -> None:
    if len(names) > MOST_NUMBERS and not options.no_mask_files:
        raise InputError(f"a mask file numbers {MOST_NUMBERS} classes at most, there are {len(names)}; --no-mask-files")


def _finders(segmenter: Segmenter, options: argparse.Namespace) -> dict[str, ByWords]:
    """What looks for the words of each --example-by; its models are loaded when they are first needed."""
    from ovdet.examples import example_of_sentence, example_of_words
    from ovdet.grounder import DEFAULT_GROUNDER, Grounder

    grounder = cache(lambda: Grounder(options.grounder or DEFAULT_GROUNDER, options.device))
    only_best = options.mode == "instance"

    def detected(words: str, image: np.ndarray) -> Example | None:
        return example_of_words(image, words, segmenter.detector, only_best=only_best)

    def grounded(words: str, image: np.ndarray) -> Example | None:
        return example_of_sentence(image, words, grounder(), segmenter.detector)

    return {words: partial(detected if kind == "detect" else grounded, words) for kind, words in options.example_by}


def _in_first_picture(words: Mapping[str, ByWords], plan: Plan) -> Iterator[Example]:
    """What the words mean in the first picture that can be read; the others are told when their turn comes."""
    from ovdet.media import read_picture

    for source in plan.sources if words else []:
        if source.kind != "picture":
            continue
        try:
            image = read_picture(source.path)
        except InputError:
            continue
        for text, look in words.items():
            found = look(image)
            if found is None:
                raise InputError(f"--example-by: nothing like {text!r} was found in {source}, the first picture")
            yield found
        return


def _first_frames(segmenter: Segmenter, plan: Plan, options: argparse.Namespace) -> dict[Path, Example]:
    """What --first-mask says of each video's first frame; a video that cannot be read is told when its turn comes."""
    from ovdet.media import read_video

    named = split_names(options.first_mask, "--first-mask")
    mask = parse_mask(named.text, "--first-mask")
    if all(source.kind == "picture" for source in plan.sources):
        raise InputError("--first-mask: there is no video among the sources")
    firsts = {}
    for source in plan.sources:
        if source.kind == "camera":
            raise InputError("--first-mask: a camera has no first frame yet; use --example-by or --example")
        if source.kind == "video":
            try:
                image = next(read_video(source.path))
            except InputError:
                continue
            with told_as(f"--first-mask {options.first_mask} of {source}"):
                firsts[source.path] = segmenter.example(image, mask, named.names, resize=options.resize_masks)
    return firsts


def _stamp(segmenter: Segmenter, examples: Sequence[Example], options: argparse.Namespace) -> dict[str, Any]:
    """What the answers to a video's frames depend on."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr((example.names, example.image.shape)).encode())
        digest.update(example.image.tobytes() + example.labels.tobytes())
    for name, value in sorted(segmenter.desk.model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    rules = ("threshold", "largest", "fill_holes", "min_pixels", "overlap", "max_dets")
    fields = ("mode", "ensemble", "mirror", "memory", "example_by", "detector", "grounder")
    said = {field: getattr(options, field) for field in (*rules, *fields)}
    return {"format": 1, "examples_and_weights": digest.hexdigest(), **said}


@contextmanager
def told_as(what: str) -> Iterator[None]:
    """Say of an error what it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
