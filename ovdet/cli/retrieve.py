"""`ovdet retrieve`: pictures ranked by sentences, or sentences by pictures; pictures' vectors are kept on disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ovdet.cli.ground import add_model_options
from ovdet.cli.match import add_table_options, gather_pictures, load, print_lines
from ovdet.cli.sentences import HOW_THEY_ARE_TOLD_APART, add_sentences, sort_arguments
from ovdet.cli.terminal import BAD_INPUT, Parser, answers_only, gentle_interrupt, say_error, write_json_line
from ovdet.errors import InputError

if TYPE_CHECKING:
    from ovdet.cli.terminal import Stop
    from ovdet.errors import OvdetError
    from ovdet.media import Source
    from ovdet.retrieval import Gallery, Hit

_EXAMPLE = """ovdet retrieve holiday/ "a dog on a beach"
       ovdet retrieve PICTURE... SENTENCE... [options]"""
_EPILOG = f"""\
{HOW_THEY_ARE_TOLD_APART}
Pictures are looked at once: their vectors are kept in an index, by default one a model in the cache. All are compared
by their vectors; the best of each ranking are then looked at again together with the sentence.

more examples:
  ovdet retrieve holiday/ "archive/**/*.jpg" "a dog on a beach" --top 20 --index holiday.index
  ovdet retrieve photo.jpg --queries captions.jsonl --rank sentences --json
"""


def make_parser() -> Parser:
    """The options of `ovdet retrieve`."""
    parser = Parser(
        prog="ovdet retrieve",
        example=_EXAMPLE,
        description="Rank pictures by each sentence, or sentences by each picture.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_sentences(parser)
    add("--rank", choices=["pictures", "sentences"], default="pictures", help="what is ranked (default: pictures)")
    add("--top", type=int, default=10, metavar="N", help="most that are printed of a ranking (default: 10)")
    add(
        "--rerank",
        type=int,
        default=32,
        metavar="N",
        help="best of a ranking that are looked at again; 0 compares vectors alone (default: 32)",
    )
    add("--index", type=Path, metavar="FILE", help="where vectors are kept (default: in the cache, one a model)")
    add_model_options(parser)
    add_table_options(parser)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run `ovdet retrieve`; gives the exit code.

    Raises:
        InputError: nothing can be done at all.
    """
    options = make_parser().parse_intermixed_args(arguments)
    with answers_only() as stdout:
        return _run(options, stdout)


def _run(options: argparse.Namespace, stdout: TextIO) -> int:
    from ovdet.retrieval import Retriever
    from ovdet.vlm.cache import cache_dir

    asked = sort_arguments(options.arguments, options.sentence, options.queries)
    if asked.own:
        raise InputError('--queries: a "source" has no meaning here, where all is ranked with all; leave it out')
    if options.top < 1 or options.rerank < 0:
        raise InputError(f"--top must be at least 1 and --rerank at least 0, got {options.top} and {options.rerank}")
    pictures, code = gather_pictures(asked.sources)
    if not pictures:
        return BAD_INPUT
    grounder = load(options)
    if options.rerank:
        grounder.desk.require("match")
    read = grounder.read(asked.sentences)
    index = options.index or cache_dir() / "pictures" / f"{grounder.desk.fingerprint[:16]}.sqlite"
    retriever = Retriever(grounder, index)
    with gentle_interrupt("stopping; what was looked at stays in the index; Ctrl-C again stops at once") as stop:
        bad: list[OvdetError] = []
        gallery = retriever.gallery(_until_stopped(pictures, stop), on_problem=bad.append)
        for error in bad:
            say_error(str(error), error)
        if not stop.is_set() and gallery.paths:
            rank = retriever.rank_pictures if options.rank == "pictures" else retriever.rank_sentences
            rankings = rank(gallery, read, rerank=options.rerank)
            _tell(gallery, asked.sentences, rankings, options, grounder.name, stdout)
    return stop.code or (BAD_INPUT if bad else code)


def _until_stopped(pictures: Sequence[Source], stop: Stop) -> Iterator[Path]:
    from tqdm import tqdm

    for picture in tqdm(pictures, unit="picture", disable=None, file=sys.stderr, leave=False):
        if stop.is_set():
            return
        yield picture.path


def _tell(
    gallery: Gallery,
    sentences: Sequence[str],
    rankings: Sequence[Sequence[Hit]],
    options: argparse.Namespace,
    model: str,
    stdout: TextIO,
) -> None:
    """Print a ranking for each sentence or picture."""
    paths = [str(path) for path in gallery.paths]
    asked, found, keys = sentences, paths, ("expression", "source")
    if options.rank == "sentences":
        asked, found, keys = paths, sentences, ("source", "expression")
    for name, hits in zip(asked, rankings, strict=True):
        best = hits[: options.top]
        if options.json:
            rows = [{keys[1]: found[hit.place], **_numbers(hit)} for hit in best]
            write_json_line({keys[0]: name, "model": model, options.rank: rows}, stdout)
            continue
        lines = [name, "rank  chance  similarity"]
        for rank, hit in enumerate(best, start=1):
            chance = "-" if hit.chance is None else f"{hit.chance:.3f}"
            lines.append(f"{rank:4}  {chance:>6}  {hit.similarity:10.3f}  {found[hit.place]}")
        print_lines(lines, stdout)


def _numbers(hit: Hit) -> dict[str, Any]:
    return {
        "chance": None if hit.chance is None else round(hit.chance, 6),
        "similarity": round(hit.similarity, 6),
    }
