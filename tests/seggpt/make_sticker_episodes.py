"""Draw the episodes of test_shipped.py again: OVDET_STICKERS=PACK python tests/seggpt/make_sticker_episodes.py

Forty episodes of the evaluation stream, seed 1 (the report's are seed 0): twenty base names, twenty novel ones, on
grounds without photographs. Pictures are WebP, masks PNG.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ovdet.data.stickers.episodes import StickerEpisodes, sticker_world

OUT = Path(__file__).with_name("sticker_episodes.zip")
COUNT = 20


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 70, "method": 6} if kind == "WEBP" else {}))
    return buffer.getvalue()


def main() -> None:
    """Write the archive."""
    os.environ.pop("OVDET_GROUNDS", None)
    world = sticker_world(stream="evaluation", side=160, objects=(1, 4), long_side=(40, 140))
    with zipfile.ZipFile(OUT, "w") as archive:
        for side in ("base", "novel"):
            episodes = StickerEpisodes(world, COUNT, seed=1, side=side)
            for index in range(COUNT):
                episode = episodes[index]
                (example, mask), *_ = episode.examples
                for name, picture, truth in (("example", example, mask), ("query", episode.query, episode.truth)):
                    folder = zipfile.ZipInfo(f"{side}/{index:02d}/{name}.webp", (2026, 1, 1, 0, 0, 0))
                    archive.writestr(folder, encoded(picture, "WEBP"))
                    folder = zipfile.ZipInfo(f"{side}/{index:02d}/{name}.png", (2026, 1, 1, 0, 0, 0))
                    archive.writestr(folder, encoded(truth, "PNG"))


if __name__ == "__main__":
    main()
