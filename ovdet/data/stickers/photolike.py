"""Scenes that teach shape and not style: stickers retextured, relit and softened until they look less like stickers.

For learners of boxes and masks without names that are to work on photographs. A drawing's crisp rim, flat colours and
lack of a lens are what such a learner would hold on to; each is taken away often enough that it cannot.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.stickers.dataset import scene_generator
from ovdet.data.stickers.grounds import TRAIN_PAINTERS, Ground, GroundSource, read_photographs
from ovdet.data.stickers.scenes import SceneConfig, StickerWorld
from ovdet.data.stickers.sprites import SpritePack
from ovdet.data.stickers.teaching import GROUNDS_VARIABLE
from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.errors import InputError

CROWD, FEW = (1, 7), (1, 2)
"""Things in a scene of many, and in one of a few large ones."""
LARGE_SHARE = 0.45
"""How often a scene is of a few large things, as photographs are."""


class PatchworkGrounds(GroundSource):
    """Grounds that often change along a soft line: sky and land, wall and floor. A region is not yet a thing."""

    patch_share = 0.6

    def draw(self, rng: np.random.Generator, size_hw: tuple[int, int]) -> Ground:
        """One ground, or up to three blended along smooth lines."""
        ground = super().draw(rng, size_hw)
        image = ground.image
        for _ in range(int(rng.integers(1, 3)) if rng.random() < self.patch_share else 0):
            other = super().draw(rng, size_hw).image
            share = _smooth_step(smooth_noise(rng, size_hw), 0.5, float(rng.uniform(0.01, 0.2)))[..., None]
            image = (image + share * (other.astype(np.float32) - image)).astype(np.uint8)
        return Ground(image, ground.phrase, ground.horizon)


class PhotolikeScenes(Dataset):
    """Endless scenes without names, cut off at `length`; a sample is a function of seed and index.

    A sample is a dict: "image" (3, side, side) uint8, "owner" (side, side) int16, the thing that each pixel belongs
    to or -1, and "boxes_xyxy" (N, 4) float32, tight around what is visible, in pixel edges.

    Args:
        worlds: each as likely as its share.
        shares: of the worlds, adding up to 1.
        length: number of scenes.
        seed: equal seeds give equal scenes.
        stream: "train", "validation" or "evaluation".
    """

    def __init__(
        self,
        worlds: Sequence[StickerWorld],
        shares: Sequence[float],
        length: int,
        seed: int = 0,
        *,
        stream: str = "train",
    ) -> None:
        scene_generator(stream, seed, 0)
        if length < 1 or len(worlds) != len(shares) or abs(sum(shares) - 1) > 1e-6:
            raise InputError(f"length must be at least 1 and one share given to each world, got {length} and {shares}")
        self.worlds, self.shares, self.length = tuple(worlds), tuple(shares), length
        self.seed, self.stream = seed, stream

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = scene_generator(self.stream, self.seed, int(index))
        world = self.worlds[int(rng.choice(len(self.worlds), p=self.shares))]
        scene = world.draw(rng)
        image = soften_rims(rng, retexture(rng, scene.image, scene.masks, world.grounds), scene.masks)
        image = through_a_lens(rng, image, scene.masks.any(axis=0))
        owner = np.where(scene.masks.any(axis=0), scene.masks.argmax(axis=0), -1).astype(np.int16)
        boxes_xyxy = scene.boxes_xyxy
        if rng.random() < 0.5:
            image, owner = image[:, ::-1], owner[:, ::-1]
            boxes_xyxy = boxes_xyxy.copy()
            boxes_xyxy[:, [0, 2]] = image.shape[1] - boxes_xyxy[:, [2, 0]]
        return {
            "image": torch.from_numpy(image.transpose(2, 0, 1).copy()),
            "owner": torch.from_numpy(owner.copy()),
            "boxes_xyxy": torch.from_numpy(boxes_xyxy),
        }


def photolike_scenes(
    length: int,
    seed: int = 0,
    side: int = 256,
    pack: str | Path | None = None,
    photographs: str | Path | None = None,
    stream: str = "train",
) -> PhotolikeScenes:
    """Scenes for training: all artists that may be trained on, all names, many things or a few large ones.

    Args:
        length: number of scenes.
        seed: equal seeds give equal scenes.
        side: of the square pictures, in pixels.
        pack: folder of the sprite pack; None for $OVDET_STICKERS.
        photographs: folder of photographs that serve as grounds and textures; None for $OVDET_GROUNDS, and where that
            is not set for procedural ones alone.
        stream: "train", "validation" or "evaluation".

    Raises:
        InputError: there is no such pack or folder.
    """
    sprites, vocabulary = SpritePack(pack), load_vocabulary()
    photographs = photographs or os.environ.get(GROUNDS_VARIABLE, "").strip() or None
    pictures = read_photographs(photographs, evaluation=stream != "train") if photographs else ()
    grounds = PatchworkGrounds(TRAIN_PAINTERS, pictures, 0.6)
    sizes = {"size_hw": (side, side), "min_visible": 0.35}
    crowd = SceneConfig(objects=CROWD, long_side=(0.1 * side, 0.65 * side), **sizes)  # type: ignore[arg-type]
    few = SceneConfig(objects=FEW, long_side=(0.5 * side, 1.2 * side), standing_share=0.0, **sizes)  # type: ignore[arg-type]
    worlds = [StickerWorld(sprites, vocabulary, grounds, config=config) for config in (crowd, few)]
    return PhotolikeScenes(worlds, (1 - LARGE_SHARE, LARGE_SHARE), length, seed, stream=stream)


def smooth_noise(rng: np.random.Generator, size_hw: tuple[int, int], cells: int = 3) -> np.ndarray:
    """(H, W) float32 slow waves, in [0, 1]."""
    coarse = rng.random((cells, cells), dtype=np.float32)
    return np.clip(cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def retexture(
    rng: np.random.Generator, image: np.ndarray, masks: np.ndarray, grounds: GroundSource, share: float = 0.7
) -> np.ndarray:
    """Give most things the grain of something else, and light from one side.

    Args:
        rng: source of all randomness.
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool.
        grounds: where textures are taken from.
        share: of the things that are changed.

    Returns:
        (H, W, 3) uint8.
    """
    changed = image.astype(np.float32)
    for mask in masks:
        luck = rng.random()
        if luck > share:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            continue
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        inside, part = mask[window], changed[window]
        texture = grounds.draw(rng, inside.shape).image.astype(np.float32)
        if luck < 0.35 * share:  # made of it
            painted = part + float(rng.uniform(0.5, 1.0)) * (texture - part)
        else:  # its own colours, with the other's light and dark
            light = texture.mean(axis=2, keepdims=True)
            painted = part * (light / max(float(light.mean()), 8.0)) ** float(rng.uniform(0.3, 1.0))
        painted *= _light(rng, inside)[..., None]
        part[inside] = painted[inside]
    return changed.clip(0, 255).astype(np.uint8)


def soften_rims(rng: np.random.Generator, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Blur the picture along the rims of things, more or less; (H, W, 3) uint8 in and out."""
    if rng.random() < 0.3:
        return image
    kernel = np.ones((3, 3), np.uint8)
    rims = np.zeros(image.shape[:2], np.uint8)
    for mask in masks:
        rims |= cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_GRADIENT, kernel)
    width = float(rng.uniform(0.6, 2.5))
    near = np.clip(cv2.GaussianBlur(rims.astype(np.float32), (0, 0), width) * 2.5 * width, 0, 1)[..., None]
    blurred = cv2.GaussianBlur(image, (0, 0), width).astype(np.float32)
    return (image + near * (blurred - image)).astype(np.uint8)


def through_a_lens(rng: np.random.Generator, image: np.ndarray, things: np.ndarray) -> np.ndarray:
    """Depth of field, uneven light, contrast, colour cast, grain and compression, each now and then.

    Args:
        rng: source of all randomness.
        image: (H, W, 3) uint8 RGB.
        things: (H, W) bool, what is no ground.

    Returns:
        (H, W, 3) uint8.
    """
    seen = image.astype(np.float32)
    if rng.random() < 0.25:  # the ground out of focus
        width = float(rng.uniform(0.8, 3.0))
        far = cv2.GaussianBlur((~things).astype(np.float32), (0, 0), width)[..., None]
        seen += far * (cv2.GaussianBlur(seen, (0, 0), width) - seen)
    if rng.random() < 0.5:
        seen *= (0.5 + smooth_noise(rng, image.shape[:2]) * float(rng.uniform(0.4, 1.2)))[..., None]
    seen = 255 * (seen.clip(0, 255) / 255) ** float(np.exp(rng.normal(0, 0.25)))
    middle = float(seen.mean())
    seen = middle + (seen - middle) * float(rng.uniform(0.5, 1.15)) + rng.normal(0, 8, 3).astype(np.float32)
    if rng.random() < 0.1:
        seen = np.repeat(seen.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.2:
        seen = cv2.GaussianBlur(seen, (0, 0), float(rng.uniform(0.4, 1.4)))
    if rng.random() < 0.4:
        seen += rng.normal(0, rng.uniform(2, 10), seen.shape).astype(np.float32)
    small = seen.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 92))]
        small = cv2.imdecode(cv2.imencode(".jpg", small, quality)[1], cv2.IMREAD_COLOR)
    return small


def _smooth_step(values: np.ndarray, middle: float, width: float) -> np.ndarray:
    """0 below, 1 above, a slope of `width` between."""
    return np.clip((values - middle) / width + 0.5, 0, 1)


def _light(rng: np.random.Generator, inside: np.ndarray) -> np.ndarray:
    """(h, w) float32 about 1: brighter to one side, and darker to the rim."""
    height, width = inside.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle = float(rng.uniform(0, 2 * np.pi))
    along = np.sin(angle) * (rows / height - 0.5) + np.cos(angle) * (columns / width - 0.5)
    light = 1 + float(rng.uniform(0, 0.9)) * along
    if rng.random() < 0.5:
        depth = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        round_ = np.sqrt(depth / max(float(depth.max()), 1.0))
        light = light * (1 + float(rng.uniform(0, 0.6)) * (round_ - 0.6))
    return light.astype(np.float32)
