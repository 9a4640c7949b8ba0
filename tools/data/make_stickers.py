"""Write scenes of stickers as a COCO-format data set.

python tools/data/make_stickers.py --pack DIR --out data/stickers/train --images 2000 --split base --seed 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ovdet.data.stickers.curation import HELD_OUT_STYLES, TRAIN_STYLES
from ovdet.data.stickers.dataset import STREAMS, StickerScenes
from ovdet.data.stickers.grounds import evaluation_grounds, training_grounds
from ovdet.data.stickers.scenes import SceneConfig, StickerWorld
from ovdet.data.stickers.sprites import PACK_VARIABLE, SpritePack
from ovdet.data.stickers.vocabulary import SPLITS, load_vocabulary
from ovdet.data.stickers.writer import write_coco
from ovdet.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Write the folder; 2 where the arguments make no sense."""
    args = _arguments().parse_args(argv)
    try:
        if args.images < 1:
            raise InputError(f"--images must be at least 1, got {args.images}")
        if args.stream == "train" and set(args.styles) & set(HELD_OUT_STYLES):
            raise InputError("held-out styles are never trained on: give --stream evaluation with them")
        pack = SpritePack(args.pack)
        grounds = training_grounds if args.stream == "train" else evaluation_grounds
        world = StickerWorld(
            pack,
            load_vocabulary(args.names),
            grounds(args.photographs),
            args.styles,
            SceneConfig(size_hw=(args.side, args.side)),
        )
        scenes = StickerScenes(world, args.images, args.seed, stream=args.stream, base_only=args.split == "base")
        path = write_coco(args.out, scenes, progress=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{args.images} scenes, annotated in {path}", file=sys.stderr)
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; an unfinished one is continued")
    parser.add_argument("--images", type=int, required=True, metavar="N", help="number of scenes")
    parser.add_argument(
        "--split",
        choices=("base", "all"),
        default="all",
        help="base: novel things are drawn but not annotated; all: everything is annotated (default)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="equal seeds give equal scenes (default: 0)")
    parser.add_argument("--pack", type=Path, metavar="DIR", help=f"sprite pack (default: ${PACK_VARIABLE})")
    parser.add_argument("--names", choices=SPLITS, default=SPLITS[0], help="which names, and how they are split")
    parser.add_argument(
        "--stream", choices=list(STREAMS), default="train", help="scenes, and grounds, of one stream occur in no other"
    )
    parser.add_argument("--styles", nargs="+", default=list(TRAIN_STYLES), help="artists (default: the training ones)")
    parser.add_argument(
        "--photographs", type=Path, metavar="DIR", help="photographs to use as grounds, half of the time"
    )
    parser.add_argument("--side", type=int, default=256, help="of the pictures, in pixels (default: 256)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
