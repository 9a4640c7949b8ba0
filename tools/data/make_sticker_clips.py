"""Write clips of moving stickers with labels: python tools/data/make_sticker_clips.py --out data/stickers/clips.

In the layout of MOSE (`folders` of tools/evaluate/video.py), so that what follows things can be judged without any
download:

    python tools/evaluate/video.py folders data/stickers/clips answers --model stickers --out clips.json
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ovdet.data.stickers.clips import write_clips
from ovdet.data.stickers.dataset import STREAMS
from ovdet.data.stickers.teaching import open_world
from ovdet.engine.launch import run


def main(argv: list[str] | None = None) -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--clips", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--frames", type=int, default=24, metavar="N", help="of each clip (default: 24)")
    parser.add_argument("--things", type=int, nargs=2, default=(1, 3), metavar="N", help="fewest and most")
    parser.add_argument("--long-side", type=float, nargs=2, default=(40, 110), metavar="PX", help="of things")
    parser.add_argument("--side", type=int, default=192, help="of the frames, in pixels (default: 192)")
    parser.add_argument("--styles", help="artist, such as twemoji (default: those of training)")
    parser.add_argument("--stream", choices=list(STREAMS), default="validation", help="clips of one are in no other")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="equal seeds give equal clips (default: 0)")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="sprite pack (default: $OVDET_STICKERS)")
    args = parser.parse_args(argv)
    world = open_world("75-25", args.stream, args.styles, args.pack, args.side)
    world.config = replace(world.config, long_side=tuple(args.long_side))
    things = (args.things[0], args.things[1])
    write_clips(args.out, world, args.clips, frames=args.frames, things=things, seed=args.seed, stream=args.stream)


if __name__ == "__main__":
    sys.exit(run(main))
