"""Make a data set of coloured shapes: python tools/data/make_shapes.py --out data/shapes/train --images 200."""

import argparse
import sys

from ovdet.data.shapes import write_shapes
from ovdet.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Write the folder; 2 where the arguments make no sense."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write images/ and annotations.json into")
    parser.add_argument("--images", type=int, default=200, metavar="N", help="number of pictures (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="equal seeds give equal pictures (default: 0)")
    parser.add_argument("--side", type=int, default=128, help="about so many pixels a side (default: 128)")
    args = parser.parse_args(argv)
    try:
        path = write_shapes(args.out, args.images, args.seed, args.side)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.images} pictures, annotated in {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
