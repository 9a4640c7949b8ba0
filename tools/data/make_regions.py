"""Make lines of regions or captions out of annotation files, for X-VLM's pre-training (docs/grounding_data.md).

python tools/data/make_regions.py coco annotations/instances_train2014.json --prefix train2014/ --out coco_objs
python tools/data/make_regions.py vg-objects objects.json image_data.json --attributes attributes.json --out vg_objs
python tools/data/make_regions.py vg-regions region_descriptions.json image_data.json --out vg_regions
python tools/data/make_regions.py refcoco DIR --name refcoco+ --out refcoco_rm_leak
python tools/data/make_regions.py captions annotations/captions_train2014.json --prefix train2014/ --out coco
python tools/data/make_regions.py karpathy dataset_coco.json --out coco     (train and restval)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ovdet.data.coco import read_annotations
from ovdet.data.json_rows import read_json, read_rows
from ovdet.data.karpathy import read_karpathy
from ovdet.data.records import Record, open_picture
from ovdet.data.refcoco import pictures_to_leave_out, read_refcoco
from ovdet.data.region_sources import (
    captioned,
    coco_captions,
    coco_objects,
    genome_objects,
    genome_regions,
    referrals,
)
from ovdet.data.shards import write_shards
from ovdet.engine.launch import run
from ovdet.errors import InputError
from ovdet.files import replacing


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("coco", "vg-objects", "vg-regions", "refcoco", "captions", "karpathy"))
    parser.add_argument("files", nargs="+", help="annotation files; for refcoco the folder of the data sets")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder, for files of lines or tar shards")
    parser.add_argument("--prefix", default="", help="put before file names of pictures")
    parser.add_argument("--attributes", metavar="FILE", help="Visual Genome's attributes.json")
    parser.add_argument("--name", default="refcoco+", help="of the data set of kind refcoco (default: refcoco+)")
    parser.add_argument("--without-tests-of", metavar="DIR", help="leave out the pictures of RefCOCO's tests in DIR")
    parser.add_argument("--parts", type=int, default=64, help="files of lines (default: 64)")
    parser.add_argument("--shards", metavar="DIR", help="write tar shards with the pictures of DIR, not lines")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool: 0, or 2 after a mistake of the caller."""
    args = build_parser().parse_args(argv)
    return run(lambda: make(args))


def make(args: argparse.Namespace) -> None:
    """Write what is asked for, and say what was left out."""
    needed = {"vg-objects": 2, "vg-regions": 2}.get(args.kind, 1)
    if len(args.files) != needed:
        raise InputError(f"{args.kind} takes {needed} file{'s' * (needed > 1)}, got {len(args.files)}")
    left_out: Counter[str] = Counter()
    rows = read(args, left_out)
    if args.shards:
        written = len(write_shards(packed(rows, args.shards, left_out), args.out))
    else:
        written = write_lines(rows, Path(args.out), args.parts)
    print(f"{args.out}: {written} {'shards' if args.shards else 'pictures'}")
    for reason, count in sorted(left_out.items()):
        print(f"left out: {count} of {reason!r}")


def read(args: argparse.Namespace, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows of what is asked for."""
    without = pictures_to_leave_out(args.without_tests_of) if args.without_tests_of else set()
    if args.kind == "coco":
        return coco_objects(read_annotations(args.files[0]), args.prefix, without=without, left_out=left_out)
    if args.kind == "captions":
        pictures = read_rows(args.files[0], {"id": int, "file_name": str}, key="images")
        captions = read_rows(args.files[0], {"image_id": int, "caption": str}, key="annotations")
        return coco_captions(pictures, captions, args.prefix, without=without, left_out=left_out)
    if args.kind == "karpathy":
        training = [one for one in read_karpathy(args.files[0]) if one.split in ("train", "restval")]
        return captioned(training, args.prefix, without=without, left_out=left_out)
    if args.kind == "vg-objects":
        attributes = read_json(args.attributes) if args.attributes else ()
        objects, images = map(read_json, args.files)
        return genome_objects(objects, images, attributes, without=without, left_out=left_out)
    if args.kind == "vg-regions":
        regions, images = map(read_json, args.files)
        return genome_regions(regions, images, without=without, left_out=left_out)
    division = "umd" if args.name == "refcocog" else "unc"
    said = [one for one in read_refcoco(args.files[0], args.name, division) if one.split == "train"]
    return referrals(said, args.prefix, without=without, left_out=left_out)


def write_lines(rows: Iterable[dict[str, Any]], folder: Path, parts: int) -> int:
    """Deal rows to files, each whole or not there; gives their number."""
    if parts < 1:
        raise InputError(f"--parts must be at least 1, got {parts}")
    lines: list[list[str]] = [[] for _ in range(parts)]
    count = 0
    for count, row in enumerate(rows, 1):
        lines[count % parts].append(json.dumps(row, ensure_ascii=False) + "\n")
    for number, some in enumerate(lines):
        if some:
            with replacing(folder / f"{number:04d}.jsonl") as temporary:
                temporary.write_text("".join(some), encoding="utf-8")
    return count


def packed(
    rows: Iterable[dict[str, Any]], root: str, left_out: Counter[str]
) -> Iterator[tuple[bytes, str, dict[str, Any]]]:
    """Rows with their pictures, for shards; a damaged picture is left out."""
    for row in rows:
        path = Path(root) / row["image_rpath"]
        try:
            open_picture(Record(row["image_rpath"], {"image_rpath": str(path)}))
        except InputError:
            left_out["damaged or missing picture"] += 1
            continue
        yield path.read_bytes(), path.suffix.lstrip(".").lower() or "jpg", row


if __name__ == "__main__":
    sys.exit(main())
