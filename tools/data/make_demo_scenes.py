"""Draw the demo's sticker scenes: python tools/data/make_demo_scenes.py --pack data/stickers/pack --grounds DIR.

The scenes are of the style that no model of ours was trained on, Twemoji, on grounds kept for evaluation. The grounds'
photographs come by tools/data/fetch_grounds.py, the pack by tools/data/pack_stickers.py. Which scenes were taken stands
in `SCENES`; `--candidates FILE.png` shows what they were chosen from.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ovdet.data.stickers.dataset import scene_generator
from ovdet.data.stickers.grounds import evaluation_grounds
from ovdet.data.stickers.scenes import Scene, SceneConfig, StickerWorld
from ovdet.data.stickers.sprites import SpritePack
from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.errors import InputError
from ovdet.files import write_whole

OUT = Path(__file__).parents[2] / "demo" / "stickers"
STYLE, STREAM, SEED = "twemoji", "validation", 2026
SIZE_HW = (288, 384)
SCENES = (9, 26, 32, 37, 38)
"""Indices of the scenes taken, of varied grounds and things that are easy to see."""
DISTRACTORS = ("bicycle", "umbrella", "guitar", "elephant", "pizza", "rocket", "snail", "key", "wine glass", "tent")
"""Names that are asked for although none of the scenes may show them."""


CONFIG = SceneConfig(
    size_hw=SIZE_HW, objects=(4, 7), long_side=(48, 150), min_visible=0.75, repeat_share=0.0, relative_share=0.0
)
"""Fewer and larger things than in training, hardly hidden, none twice."""


def make_world(pack: Path | None, grounds: Path, style: str = STYLE, config: SceneConfig = CONFIG) -> StickerWorld:
    """A world of one artist, on grounds that no training saw."""
    return StickerWorld(SpritePack(pack), load_vocabulary("75-25"), evaluation_grounds(grounds), (style,), config)


def draw(world: StickerWorld, index: int) -> Scene:
    """One scene of the demo's stream."""
    return world.draw(scene_generator(STREAM, SEED, index))


def png(image: np.ndarray) -> bytes:
    """A picture as a small PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def expected(scene: Scene, names: tuple[str, ...]) -> list[dict[str, object]]:
    """What is in a scene, from the back to the front."""
    boxes = scene.boxes_xyxy.round(1).tolist()
    return [{"name": names[label], "box_xyxy": box} for label, box in zip(scene.labels.tolist(), boxes, strict=True)]


def write_demo(world: StickerWorld, out: Path) -> None:
    """Write the scenes, what they show, and the names to ask for."""
    content = {}
    for number, index in enumerate(SCENES, start=1):
        scene = draw(world, index)
        content[f"scene{number}.png"] = expected(scene, world.vocabulary.names)
        write_whole(out / f"scene{number}.png", png(scene.image))
    shown = {str(row["name"]) for rows in content.values() for row in rows}
    asked = sorted(shown | (set(DISTRACTORS) & set(world.vocabulary.names)))
    head = f"# What the scenes show, and {len(asked) - len(shown)} names of things that they do not.\n"
    write_whole(out / "names.txt", (head + "\n".join(asked) + "\n").encode())
    lines = ",\n".join(
        f' "{name}": [\n' + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]"
        for name, rows in content.items()
    )
    write_whole(out / "expected.json", f"{{\n{lines}\n}}\n".encode())


def candidates(world: StickerWorld, count: int = 40, columns: int = 5) -> np.ndarray:
    """Scenes beside one another, the first `count` indices row by row."""
    scenes = [draw(world, index).image for index in range(count)]
    return np.vstack([np.hstack(scenes[row : row + columns]) for row in range(0, count, columns)])


def main(argv: list[str] | None = None) -> int:
    """Draw and write; 2 where something is missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, metavar="DIR", help="sprite pack (default: $OVDET_STICKERS)")
    parser.add_argument("--grounds", type=Path, required=True, metavar="DIR", help="photographs to lie on")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="default: demo/stickers")
    parser.add_argument("--candidates", type=Path, metavar="FILE.png", help="only show what can be chosen from")
    args = parser.parse_args(argv)
    try:
        world = make_world(args.pack, args.grounds)
        if args.candidates:
            write_whole(args.candidates, png(candidates(world)))
        else:
            write_demo(world, args.out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
