"""Draw the demo's examples and clip: python tools/data/make_demo_examples.py --pack data/stickers/pack --grounds DIR.

For one thing of each demo scene a picture by another artist (Noto) with its mask: what `ovdet segment --example` takes.
And a short clip in the scenes' style, Twemoji, with the mask of its first frame for `--first-mask`. The same at every
run but for the bytes of the encoders; --contact FILE.png shows all of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from make_demo_scenes import OUT, SEED, STREAM, make_world, png
from PIL import Image

from ovdet.data.davis import write_label_png
from ovdet.data.stickers.clips import draw_clip
from ovdet.data.stickers.dataset import scene_generator
from ovdet.data.stickers.episodes import CastWorld
from ovdet.data.stickers.scenes import SceneConfig
from ovdet.engine.launch import run
from ovdet.files import replacing, write_whole
from ovdet.media import write_video

THINGS = ("fox", "shark", "ladybug", "peach", "camel")
"""One of each demo scene, in their order."""

EXAMPLE_STYLE, CLIP_STYLE = "noto", "twemoji"
CLIP = 5
"""Number of the clip, of eight that were looked at: two things that stay in sight, one passing in front."""

FRAMES, FPS = 32, 8.0


def draw_examples(pack: Path | None, grounds: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, picture (256, 256, 3) uint8 and mask (256, 256) bool of each example."""
    config = SceneConfig(size_hw=(256, 256), objects=(2, 3), long_side=(90, 150), min_visible=0.9, repeat_share=0.0)
    world = make_world(pack, grounds, EXAMPLE_STYLE, config)
    for number, name in enumerate(THINGS):
        label = world.vocabulary.names.index(name)
        scene = CastWorld(world, label).draw(scene_generator(STREAM, SEED + 1, number))
        yield name, scene.image, scene.masks[scene.labels == label].any(axis=0)


def draw_demo_clip(pack: Path | None, grounds: Path, number: int = CLIP) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames (192, 256, 3) uint8 with their labels (192, 256) uint8."""
    config = SceneConfig(size_hw=(192, 256), objects=(2, 2), long_side=(60, 110))
    world = make_world(pack, grounds, CLIP_STYLE, config)
    return list(draw_clip(world, scene_generator(STREAM, SEED + 2, number), FRAMES, (2, 2)))


def write_demo(pack: Path | None, grounds: Path, out: Path) -> None:
    """Write examples and clip."""
    for name, image, mask in draw_examples(pack, grounds):
        with replacing(out / f"{name}.jpg") as temporary:
            Image.fromarray(image).save(temporary, "JPEG", quality=92)
        write_whole(out / f"{name}_mask.png", png(mask.astype(np.uint8) * 255))
    clip = draw_demo_clip(pack, grounds)
    with write_video(out / "clip.mp4", FPS) as video:
        for image, _ in clip:
            video.write(image)
    write_label_png(out / "clip_first.png", clip[0][1])


def contact(pack: Path | None, grounds: Path) -> np.ndarray:
    """Examples, then every fourth frame of eight clips, a row each."""
    rows = [np.hstack([image for _, image, _ in draw_examples(pack, grounds)])]
    for number in range(8):
        rows.append(np.hstack([image for image, _ in draw_demo_clip(pack, grounds, number)[::4]]))
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def main(argv: list[str] | None = None) -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, metavar="DIR", help="sprite pack (default: $OVDET_STICKERS)")
    parser.add_argument("--grounds", type=Path, required=True, metavar="DIR", help="photographs to lie on")
    parser.add_argument(
        "--out", type=Path, default=OUT / "examples", metavar="DIR", help="default: demo/stickers/examples"
    )
    parser.add_argument("--contact", type=Path, metavar="FILE.png", help="only show what it draws")
    args = parser.parse_args(argv)
    if args.contact:
        write_whole(args.contact, png(contact(args.pack, args.grounds)))
    else:
        write_demo(args.pack, args.grounds, args.out)


if __name__ == "__main__":
    sys.exit(run(main))
