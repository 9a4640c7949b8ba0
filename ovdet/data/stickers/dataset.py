"""Scenes and single stickers as torch data sets, drawn when they are asked for: a function of seed and index alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.ops import roi_align

from ovdet.data.stickers.colours import CLEARLY, WORDS, colour_shares
from ovdet.data.stickers.expressions import SceneGraph, caption, referring_expressions, region_texts, with_article
from ovdet.data.stickers.render import paste, solid
from ovdet.data.stickers.scenes import Scene, StickerWorld
from ovdet.errors import InputError

STREAMS = {"train": 1, "validation": 2, "evaluation": 3}
"""Each stream of random numbers is its own: no seed makes one repeat another."""


def scene_generator(stream: str, seed: int, index: int) -> np.random.Generator:
    """The source of all randomness of one sample.

    Raises:
        InputError: there is no such stream, or seed or index is negative.
    """
    if stream not in STREAMS:
        raise InputError(f"there is no stream {stream!r} of scenes; choose one of {', '.join(STREAMS)}")
    if seed < 0 or index < 0:
        raise InputError(f"seed and index must not be negative, got {seed} and {index}")
    return np.random.default_rng((STREAMS[stream], seed, index))


class StickerScenes(Dataset):
    """Endless scenes, cut off at `length`.

    A sample is a dict: "image" (3, H, W) uint8, "boxes_xyxy" (N, 4) float32 in pixel edges, "labels" (N,) int64,
    "masks" (N, H, W) bool, "colours" (N, 11) float32, "styles" (N names), "caption",
    "regions" and "expressions" (lists of `Expression`, whose `things` index these N). With `base_only` novel things
    are drawn all the same, but neither their boxes nor their names are given away: "boxes_xyxy" and the rest hold the
    base things only.

    Args:
        world: that draws.
        length: number of scenes.
        seed: equal seeds give equal scenes.
        stream: "train", "validation" or "evaluation".
        base_only: leave novel things without annotation.
        texts: make captions, texts of regions and expressions; without them a sample is cheaper.
    """

    def __init__(
        self,
        world: StickerWorld,
        length: int,
        seed: int = 0,
        *,
        stream: str = "train",
        base_only: bool = False,
        texts: bool = True,
    ) -> None:
        scene_generator(stream, seed, 0)
        if length < 1:
            raise InputError(f"length must be at least 1, got {length}")
        self.world, self.length, self.seed, self.stream = world, length, seed, stream
        self.base_only, self.texts = base_only, texts

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """The scene as it was drawn, with everything in it."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        return self.world.draw(scene_generator(self.stream, self.seed, index))

    def shown(self, scene: Scene) -> np.ndarray:
        """(N,) bool: which things may be given away."""
        base = np.asarray(self.world.vocabulary.base_mask)[scene.labels]
        return base if self.base_only else np.ones_like(base)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene = self.scene(index)
        shown = self.shown(scene)
        sample: dict[str, Any] = {
            "image": torch.from_numpy(scene.image.transpose(2, 0, 1).copy()),  # (3, H, W)
            "boxes_xyxy": torch.from_numpy(scene.boxes_xyxy[shown]),
            "labels": torch.from_numpy(scene.labels[shown]),
            "masks": torch.from_numpy(scene.masks[shown]),
            "colours": torch.from_numpy(scene.colours[shown]),
            "styles": tuple(key.style for key, flag in zip(scene.sprites, shown, strict=True) if flag),
        }
        if self.texts:
            sample |= scene_texts(scene, self.world, shown)
        return sample


def scene_texts(
    scene: Scene, world: StickerWorld, shown: Sequence[bool] | np.ndarray, nouns: Sequence[str] = ()
) -> dict[str, Any]:
    """Caption, texts of regions and expressions (`nouns`: see there), whose `things` index the shown things alone."""
    graph = SceneGraph(scene, world.vocabulary)
    flags = [bool(flag) for flag in shown]
    position = dict(zip(np.flatnonzero(flags).tolist(), range(sum(flags)), strict=True))

    def renumber(texts: list[Any]) -> list[Any]:
        kind = type(texts[0]) if texts else None
        return [kind(t.text, t.kind, tuple(position[i] for i in t.things), t.box_xyxy) for t in texts] if kind else []

    return {
        "caption": caption(graph, flags),
        "regions": renumber(region_texts(graph, flags)),
        "expressions": renumber(referring_expressions(graph, flags, nouns)),
    }


class StickerCrops(Dataset):
    """Endless pictures of one sticker each, with its name, for teachers that learn from crops and text.

    Names take turns evenly: any `len(world.labels)` samples in a row show each name once. A sample is a dict: "image"
    (3, side, side) uint8, "label" int, "colour" (a word or ""), "text" and "style".

    Args:
        world: whose drawings, grounds and styles are used.
        length: number of pictures.
        seed: equal seeds give equal pictures.
        stream: "train", "validation" or "evaluation".
        side: of the pictures, in pixels.
        labels: names to show; None for all that are drawn. Give the base names alone where novel ones must not be
            seen.
    """

    def __init__(
        self,
        world: StickerWorld,
        length: int,
        seed: int = 0,
        *,
        stream: str = "train",
        side: int = 64,
        labels: Sequence[int] | None = None,
    ) -> None:
        scene_generator(stream, seed, 0)
        if length < 1 or side < 16:
            raise InputError(f"length must be at least 1 and side at least 16 pixels, got {length} and {side}")
        self.world, self.length, self.seed, self.stream, self.side = world, length, seed, stream, side
        self.labels = np.asarray(world.labels if labels is None else labels, dtype=np.int64)
        undrawn = set(self.labels.tolist()) - set(world.labels.tolist())
        if undrawn or not len(self.labels):
            raise InputError(f"labels must be drawn by the world's styles; {sorted(undrawn)[:3] or 'none'} given")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"crop {index} of {self.length}")
        turn, place = divmod(index, len(self.labels))
        order = np.random.default_rng((STREAMS[self.stream], self.seed, turn, 0)).permutation(len(self.labels))
        rng = scene_generator(self.stream, self.seed, index)
        label = int(self.labels[order[place]])
        key = self.world.choose_drawing(rng, label)
        image, inside = self._draw(rng, key)
        shares = colour_shares(image[inside])
        colour = WORDS[int(shares.argmax())] if shares.max() >= CLEARLY else ""
        name = self.world.vocabulary.names[label]
        text = with_article(f"{colour} {name}" if colour and rng.random() < 0.5 else name)
        picture = torch.from_numpy(image.transpose(2, 0, 1).copy())
        return {"image": picture, "label": label, "colour": colour, "text": text, "style": key.style}

    def _draw(self, rng: np.random.Generator, key: Any) -> tuple[np.ndarray, np.ndarray]:
        """(side, side, 3) picture and (side, side) bool of the sticker: as a proposal's crop out of a scene looks."""
        side = self.side
        image = self.world.grounds.draw(rng, (side, side)).image.copy()
        long_side = side * float(rng.uniform(0.7, 1.05))
        patch = self.world.render(rng, key, long_side, float(rng.normal(0, 14)))
        left, top = ((side - np.array(patch.shape[1::-1])) / 2 + rng.uniform(-0.08, 0.08, 2) * side).astype(int)
        paste(image, patch, int(left), int(top))
        owner = np.zeros((side, side, 4), np.uint8)
        owner[max(top, 0) : top + patch.shape[0], max(left, 0) : left + patch.shape[1]] = patch[
            max(-top, 0) : side - top, max(-left, 0) : side - left
        ]
        inside = solid(owner)
        if rng.random() < 0.3:
            self._intrude(rng, image, inside)
        original = rng.uniform(22, 1.2 * side)
        if original < side:  # as if the thing had been small in its scene
            small = cv2.resize(image, (int(original), int(original)), interpolation=cv2.INTER_AREA)
            image = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
        return image, inside

    def _intrude(self, rng: np.random.Generator, image: np.ndarray, inside: np.ndarray) -> None:
        """Let another thing come in from a side, over what is shown."""
        label = int(self.labels[rng.integers(len(self.labels))])
        long_side = self.side * float(rng.uniform(0.3, 0.8))
        key = self.world.choose_drawing(rng, label)
        patch = self.world.render(rng, key, long_side, float(rng.normal(0, 14)))
        angle = rng.uniform(0, 2 * np.pi)
        centre = self.side / 2 + self.side * 0.55 * np.array([np.cos(angle), np.sin(angle)])
        left, top = (centre - np.array(patch.shape[1::-1]) / 2).astype(int)
        before = image.copy()
        paste(image, patch, int(left), int(top))
        inside &= (image == before).all(axis=2)


class SceneCrops:
    """Things cut out of scenes as a detector's boxes cut them: crowded, half hidden, cut off, a little askew.

    Squares about the longer side of a thing's visible box, black where they leave the picture. Only what a crop shows
    is given away, never where it was. Samples are those of `StickerCrops` without text; `PER_SCENE` in a row are of
    one scene, for drawing scenes is what takes the time.

    Args:
        world: that draws the scenes.
        seed: equal seeds give equal crops.
        stream: "train", "validation" or "evaluation".
        side: of the crops, in pixels.
        labels: names to show; None for all.
        margin: bounds of how much wider a square is than the thing.
        shake: standard deviation of each edge of a box, as a share of the box.
    """

    PER_SCENE = 4

    def __init__(
        self,
        world: StickerWorld,
        seed: int = 0,
        *,
        stream: str = "train",
        side: int = 64,
        labels: Sequence[int] | None = None,
        margin: tuple[float, float] = (1.02, 1.26),
        shake: float = 0.05,
    ) -> None:
        scene_generator(stream, seed, 0)
        self.world, self.seed, self.stream, self.side = world, seed, stream, side
        self.labels = np.asarray(world.labels if labels is None else labels, dtype=np.int64)
        self.margin, self.shake = margin, shake
        self._last: tuple[int, list[dict[str, Any]]] = (-1, [])

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        """One crop; None where the scene shows none of the names."""
        number, place = divmod(index, self.PER_SCENE)
        if self._last[0] != number:
            self._last = number, self._cut(number)
        samples = self._last[1]
        return samples[place % len(samples)] if samples else None

    def _cut(self, number: int) -> list[dict[str, Any]]:
        """The crops of one scene, in random order."""
        rng = scene_generator(self.stream, self.seed, number)
        scene = self.world.draw(rng)
        things = rng.permutation(np.flatnonzero(np.isin(scene.labels, self.labels)))[: self.PER_SCENE]
        boxes_xyxy = scene.boxes_xyxy[things]
        sides = np.tile(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 2)
        boxes_xyxy = boxes_xyxy + rng.normal(0, self.shake, boxes_xyxy.shape) * sides
        centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        longest = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1, keepdims=True)
        half = longest / 2 * rng.uniform(*self.margin, (len(things), 1))
        squares = torch.from_numpy(np.hstack([centres - half, centres + half])).float()
        image = torch.from_numpy(scene.image.transpose(2, 0, 1)).float()[None]  # (1, 3, H, W)
        crops = roi_align(image, [squares], (self.side, self.side), sampling_ratio=-1, aligned=True)
        samples = []
        for thing, crop in zip(things.tolist(), crops.round().clamp(0, 255).to(torch.uint8), strict=True):
            shares = scene.colours[thing]
            samples.append(
                {
                    "image": crop,
                    "label": int(scene.labels[thing]),
                    "colour": WORDS[int(shares.argmax())] if shares.max() >= CLEARLY else "",
                    "style": scene.sprites[thing].style,
                }
            )
        return samples
