"""Make the README's opening picture: the demo's photographs with what the default model really found in them.

    python tools/data/make_opening_picture.py --out docs/images/opening.jpg

Every picture is asked for the same names, so what is drawn wrongly in one is shown too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ovdet import Detector
from ovdet.media import read_picture

DEMO = Path(__file__).parents[2] / "demo"
NAMES = ("cat", "tiger", "bee", "coffee cup", "spoon", "rocket")
ROWS = (("cat", "coffee", "honey-bee"), ("tiger", "rocket"))


def montage(rows: Sequence[Sequence[np.ndarray]], width: int, gap: int = 6) -> Image.Image:
    """Lay pictures out in rows that all fill the width; each row's pictures share a height.

    Args:
        rows: (H, W, 3) uint8 RGB pictures of any size, at least one a row.
        width: of the result in pixels.
        gap: white pixels between pictures.

    Returns:
        The montage, RGB.
    """
    strips = []
    for row in rows:
        ratios = [image.shape[1] / image.shape[0] for image in row]
        free = width - gap * (len(row) - 1)
        height = round(free / sum(ratios))
        widths = [round(ratio * height) for ratio in ratios]
        widths[-1] = free - sum(widths[:-1])
        strip = Image.new("RGB", (width, height), "white")
        left = 0
        for image, tile_width in zip(row, widths, strict=True):
            strip.paste(Image.fromarray(image).resize((tile_width, height), Image.Resampling.LANCZOS), (left, 0))
            left += tile_width + gap
        strips.append(strip)
    total = Image.new("RGB", (width, sum(strip.height for strip in strips) + gap * (len(strips) - 1)), "white")
    top = 0
    for strip in strips:
        total.paste(strip, (0, top))
        top += strip.height + gap
    return total


def main() -> None:
    """Ask, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/opening.jpg"))
    parser.add_argument("--model", default="imagenet-words")
    parser.add_argument("--width", type=int, default=1000)
    options = parser.parse_args()
    detector = Detector(options.model)
    rows = []
    for row in ROWS:
        drawn = []
        for name in row:
            image = read_picture(DEMO / f"{name}.jpg")
            result = detector(image, NAMES)
            print(f"{name}: {result}")
            drawn.append(result.draw(image))
        rows.append(drawn)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    montage(rows, options.width).save(options.out, quality=85, optimize=True)


if __name__ == "__main__":
    main()
