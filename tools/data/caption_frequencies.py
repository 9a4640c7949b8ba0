"""Count words of captions, for rewards: python tools/data/caption_frequencies.py dataset_coco.json --out FILE.json.

In how many training pictures of Karpathy's splits each run of one to four words is said. configs/xvlm/caption_scst.py
reads the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ovdet.data.karpathy import read_karpathy
from ovdet.data.texts import clean_caption
from ovdet.engine.launch import run
from ovdet.errors import InputError
from ovdet.metrics.cider import write_frequencies


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="dataset_coco.json or dataset_flickr30k.json")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.json", help="file to write")
    parser.add_argument(
        "--splits", nargs="+", default=["train", "restval"], metavar="SPLIT", help="default: train restval"
    )
    parser.add_argument("--max-words", type=int, default=40, help="of a caption (default: 40)")
    args = parser.parse_args(argv)
    chosen = [one for one in read_karpathy(args.file, verify=False) if one.split in args.splits]
    if not chosen:
        raise InputError(f"{args.file} has no picture of {', '.join(args.splits)}")
    said = ([clean_caption(text, args.max_words) for text in one.captions] for one in tqdm(chosen, disable=None))
    print(f"{args.out}: words of {write_frequencies(args.out, said)} pictures")


if __name__ == "__main__":
    sys.exit(run(main))
