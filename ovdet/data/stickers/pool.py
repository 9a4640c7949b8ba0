"""A pool of scenes that are drawn once and shown many times: canvases at the price of reading memory.

Drawing takes longer than a small network takes to learn from a canvas, and what a frozen trunk makes of a picture need
not be computed twice: samples tell which pictures they show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.canvas import half_mask
from ovdet.data.colouring import draw_colours, whole_view
from ovdet.data.stickers.dataset import scene_generator
from ovdet.data.stickers.episodes import CastWorld, Ramp, segmented, sticker_world
from ovdet.data.stickers.scenes import Scene, StickerWorld
from ovdet.errors import InputError


class PooledCanvases(Dataset):
    """One-shot canvases of two scenes of a pool that show one base name; the target's half is hidden.

    For each base name `of_name` scenes are drawn that show it: the first half of them by one drawing, the others by
    anybody's. With `twin_share`, the first two are twins: the same drawings of all things, elsewhere, as in a clip.
    Other base names that scenes happen to show are asked for too; novel things are never painted.

    A sample is a dict like those of `InContextSamples`, with "pictures" (2,) int, the scenes' places in the pool, and
    "names" (2, h, w) int, the place in `labels` of the base name that covers half of a patch or more, else -1.
    It is a function of seed and index alone; with `SeededSampler`, of seed and draw.

    Args:
        world: that draws.
        size: side S of a picture.
        patch: side of a patch.
        of_name: scenes of each base name, at least 4.
        same_drawing: share of samples whose two scenes show the very drawing, by sample.
        twin_share: of samples of two twins: what is black in the prompt must not be taken for the thing.
        absent_share: of samples whose target does not show the thing, and stays black.
        crowded: draws every other one of the scenes by anybody, such as with more and smaller things; None: `world`.
        white_share: how often the thing is white, as a mask is at inference; else it is of a random colour.
        length: number of samples.
        seed: of scenes and samples.

    Raises:
        InputError: fewer scenes than 4 a name, or a picture that is no whole number of patches.
    """

    def __init__(
        self,
        world: StickerWorld,
        size: int,
        patch: int,
        of_name: int = 8,
        same_drawing: Ramp | float = 0.0,
        white_share: float = 1.0,
        twin_share: float = 0.0,
        absent_share: float = 0.0,
        length: int = 1_000_000,
        seed: int = 0,
        crowded: StickerWorld | None = None,
    ) -> None:
        if of_name < 4 or size % patch:
            raise InputError(f"of_name must be at least 4 and size a multiple of {patch}, got {of_name} and {size}")
        self.size, self.patch, self.length, self.seed, self.white_share = size, patch, length, seed, white_share
        self.twin_share, self.absent_share = twin_share, absent_share
        self.same_drawing = same_drawing if isinstance(same_drawing, Ramp) else Ramp(same_drawing, same_drawing)
        self._base = np.asarray(world.vocabulary.base_mask)
        self._families = world.vocabulary.families
        self.labels = [label for label in world.labels.tolist() if self._base[label]]
        count = of_name * len(self.labels)
        self.images = np.empty((count, 3, size, size), np.uint8)
        self.keys = np.empty((count, size, size), np.int16)
        self.names = np.full((count, size // patch, size // patch), -1, np.int16)
        self.same: dict[int, list[int]] = defaultdict(list)
        self.anybody: dict[int, list[int]] = defaultdict(list)
        for place, label in enumerate(self.labels):
            first = None
            for number in range(place * of_name, (place + 1) * of_name):
                same = number % of_name < of_name // 2
                twin = first if twin_share and number % of_name == 1 else None
                draws = crowded if crowded is not None and not same and number % 2 else world
                scene = self._draw(draws, label, number, place, same, twin)
                first = first or scene

    def _draw(self, world: StickerWorld, label: int, number: int, place: int, same: bool, twin: Scene | None) -> Scene:
        """Fill one place of the pool, with the drawings of its twin if there is one."""
        drawings = {label: world.choose_drawing(scene_generator("train", self.seed, place), label)} if same else {}
        if twin is not None:
            drawings |= dict(zip(twin.labels.tolist(), twin.sprites, strict=True))
        cast = CastWorld(
            world,
            label,
            lambda rng, other: drawings[other] if other in drawings else world.choose_drawing(rng, other),
            None if twin is None else twin.labels.tolist(),
        )
        scene = cast.draw(scene_generator("train", self.seed + 1, number))
        view = whole_view(segmented(scene, self._base[scene.labels]), self.size)
        self.images[number], self.keys[number] = view.image.transpose(2, 0, 1), view.key_map
        if same:
            self.same[label].append(number)
        for other in np.unique(scene.labels[self._base[scene.labels]]).tolist():
            covered = (view.key_map == other).reshape(self.names.shape[1], self.patch, -1, self.patch).mean(axis=(1, 3))
            self.names[number][covered >= 0.5] = self.labels.index(other)
            if (view.key_map == other).any() and not (same and other == label and number != self.same[label][0]):
                self.anybody[other].append(number)
        return scene

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} of {self.length}")
        number = int(getattr(index, "number", index))
        rng = np.random.default_rng((self.seed, number))
        label = self.labels[int(rng.integers(len(self.labels)))]
        group = self.same[label] if rng.random() < self.same_drawing(number) else self.anybody[label]
        pictures = rng.permutation(group)[:2]  # prompt and target
        luck = rng.random() if self.twin_share or self.absent_share else 1.0
        if luck < self.twin_share:
            pictures = rng.permutation(self.same[label][:2])
        elif luck < self.twin_share + self.absent_share:
            pictures[1] = self._without(rng, label)
        colour = np.full(3, 255, np.uint8) if rng.random() < self.white_share else draw_colours(rng, 1)[0]
        inside = np.concatenate(list(self.keys[pictures] == label))  # (2S, S)
        side = self.size // self.patch
        return {
            "image": torch.from_numpy(np.concatenate(list(self.images[pictures]), axis=1)),
            "painting": torch.from_numpy(inside[None] * colour[:, None, None]),
            "valid": torch.ones(inside.shape, dtype=torch.bool),
            "masked": torch.from_numpy(half_mask((2 * side, side))),
            "kind": 0,
            "pictures": torch.from_numpy(pictures.astype(np.int64)),
            "names": torch.from_numpy(self.names[pictures].astype(np.int64)),
        }

    def _without(self, rng: np.random.Generator, label: int) -> int:
        """A picture that shows neither the name nor a near-duplicate.

        Raises:
            InputError: nearly all show one.
        """
        for _ in range(1000):
            number = int(rng.integers(len(self.images)))
            shown = np.unique(self.keys[number])
            if self._families[label] not in {self._families[key] for key in shown.tolist() if key >= 0}:
                return number
        raise InputError("absent_share wants pictures without a name, and the pool has none; give it more names")


def pooled_canvases(
    world: Mapping[str, Any],
    same_drawing: Any = 0.0,
    crowded: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> PooledCanvases:
    """`PooledCanvases` as a config says it.

    Args:
        world: arguments of `sticker_world`.
        same_drawing: a share, or a ramp as (first, last, begin, end).
        crowded: what differs from `world` where the scenes are crowded.
        arguments: of `PooledCanvases`.
    """
    if not isinstance(same_drawing, int | float):
        same_drawing = Ramp(*map(float, same_drawing[:2]), *map(int, same_drawing[2:]))
    other = None if crowded is None else sticker_world(**{**world, **crowded})
    return PooledCanvases(sticker_world(**world), same_drawing=same_drawing, crowded=other, **arguments)
