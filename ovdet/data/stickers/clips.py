"""Clips of stickers: things that move over a ground, with the label picture of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ovdet.data.davis import write_label_png
from ovdet.data.stickers.dataset import scene_generator
from ovdet.data.stickers.render import overlap, paste, solid
from ovdet.data.stickers.scenes import StickerWorld
from ovdet.data.stickers.sprites import SpriteKey
from ovdet.errors import InputError
from ovdet.files import replacing

WIDER = 1.3
"""Sides of the ground in sides of the frame: room for the camera to move."""
LEAST_SEEN = 0.6
"""Of each thing in the first frame."""
_PATIENCE = 200


@dataclass(frozen=True)
class Mover:
    """One thing and its way.

    Attributes:
        key: of its drawing.
        seed: of how it is rendered, so that it looks alike in all frames.
        long_side: in pixels, in the middle of its growing and shrinking.
        swing: of its size, as a share of it.
        start_xy: of its centre.
        step_xy: pixels a frame; turned back at the borders.
        degrees: at the start.
        turn: degrees a frame.
    """

    key: SpriteKey
    seed: int
    long_side: float
    swing: float
    start_xy: np.ndarray
    step_xy: np.ndarray
    degrees: float
    turn: float

    def at(self, world: StickerWorld, step: int, size_hw: tuple[int, int]) -> tuple[np.ndarray, int, int]:
        """Its patch in one frame, and where the patch's left and top lie."""
        long_side = self.long_side * (1 + self.swing * np.sin(step / 6))
        degrees = self.degrees + self.turn * step
        patch = world.render(np.random.default_rng(self.seed), self.key, float(long_side), float(degrees))
        limits = np.array(size_hw[::-1], float)
        way = (self.start_xy + self.step_xy * step) % (2 * limits)
        centre = np.where(way > limits, 2 * limits - way, way)  # to and fro between the borders
        left, top = (centre - np.array(patch.shape[1::-1]) / 2).round().astype(int)
        return patch, int(left), int(top)


def draw_clip(
    world: StickerWorld, rng: np.random.Generator, frames: int = 24, things: tuple[int, int] = (1, 3)
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw one clip; the same generator state gives the same clip.

    Args:
        world: of the drawings and grounds; its config gives the size of frames and of things.
        rng: source of all randomness.
        frames: to draw.
        things: fewest and most.

    Yields:
        (H, W, 3) uint8 RGB, and (H, W) uint8 labels: k for the visible pixels of thing k, 0 for the rest. All things
        are seen in the first frame.

    Raises:
        InputError: things of this size do not fit into the frame.
    """
    size_hw = world.config.size_hw
    wide_hw = (round(size_hw[0] * WIDER), round(size_hw[1] * WIDER))
    ground = world.grounds.draw(rng, wide_hw).image
    room = np.array(wide_hw) - size_hw
    camera = rng.uniform(0, 1, (2, 2)) * room  # (start, end), each top and left
    for _ in range(_PATIENCE):
        movers = [_draw_mover(world, rng) for _ in range(int(rng.integers(things[0], things[1] + 1)))]
        first = _paint(world, movers, ground, camera[0], 0)
        alone = [int(solid(mover.at(world, 0, size_hw)[0]).sum()) for mover in movers]
        seen = [int((first[1] == number).sum()) for number in range(1, len(movers) + 1)]
        if all(one > 0 and part >= LEAST_SEEN * one for one, part in zip(alone, seen, strict=True)):
            break
    else:
        raise InputError(f"no things of {world.config.long_side} pixels can be placed in frames of {size_hw}")
    yield first
    for step in range(1, frames):
        yield _paint(world, movers, ground, camera[0] + (camera[1] - camera[0]) * step / max(frames - 1, 1), step)


def write_clips(
    folder: str | Path,
    world: StickerWorld,
    count: int,
    *,
    frames: int = 24,
    things: tuple[int, int] = (1, 3),
    seed: int = 0,
    stream: str = "validation",
) -> None:
    """Write clips as MOSE lays them out: JPEGImages/CLIP/00000.jpg and Annotations/CLIP/00000.png.

    Args:
        folder: to write; what is there is drawn again.
        world: see `draw_clip`.
        count: of clips.
        frames: of each.
        things: fewest and most of each.
        seed: equal seeds give equal clips.
        stream: "train", "validation" or "evaluation".
    """
    for index in range(count):
        clip = draw_clip(world, scene_generator(stream, seed, index), frames, things)
        for step, (image, labels) in enumerate(clip):
            name = f"{index:04d}/{step:05d}"
            with replacing(Path(folder) / "JPEGImages" / f"{name}.jpg") as temporary:
                Image.fromarray(image).save(temporary, quality=95)
            write_label_png(Path(folder) / "Annotations" / f"{name}.png", labels)


def _draw_mover(world: StickerWorld, rng: np.random.Generator) -> Mover:
    height, width = world.config.size_hw
    low, high = np.log(world.config.long_side)
    angle, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 4.0)
    return Mover(
        world.choose_drawing(rng, int(world.labels[rng.integers(len(world.labels))])),
        int(rng.integers(2**31)),
        float(np.exp(rng.uniform(low, high))),
        float(rng.uniform(0, 0.2)),
        rng.uniform(0.2, 0.8, 2) * (width, height),
        pace * np.array([np.cos(angle), np.sin(angle)]),
        float(rng.normal(0, 14)),
        float(rng.normal(0, 1.5)),
    )


def _paint(
    world: StickerWorld, movers: list[Mover], ground: np.ndarray, corner: np.ndarray, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """One frame and its labels; later movers are in front."""
    size_hw = world.config.size_hw
    top, left = corner.round().astype(int)
    image = ground[top : top + size_hw[0], left : left + size_hw[1]].copy()
    labels = np.zeros(size_hw, np.uint8)
    for number, mover in enumerate(movers, start=1):
        patch, x, y = mover.at(world, step, size_hw)
        paste(image, patch, x, y)
        inside, part = overlap(size_hw, patch.shape[:2], x, y)
        labels[inside][solid(patch)[part]] = number
    return image, labels
