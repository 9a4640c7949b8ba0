"""A pool of scenes that are drawn once and shown many times: canvases at the price of reading memory.

Drawing takes longer than a small network takes to learn from a canvas, and what a frozen trunk makes of a picture need
not be computed twice: samples tell which pictures they show.
"""

from __future__ import annotations

import pkgutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.canvas import half_mask
from ovdet.data.colouring import draw_colours, whole_view
from ovdet.data.stickers.dataset import scene_generator
from ovdet.data.stickers.episodes import (
    CastWorld,
    Ramp,
    cast_of_two,
    segmented,
    sticker_world,
    two_drawings,
)
from ovdet.data.stickers.scenes import Scene, StickerWorld
from ovdet.data.stickers.sprites import SpriteKey
from ovdet.errors import InputError

_TWINS, _ABSENT, _SEVERAL, _INSTANCE, _PLAIN = range(5)


class PooledCanvases(Dataset):
    """One-shot canvases of two scenes of a pool that show one base name; the target's half is hidden.

    For each base name `of_name` scenes are drawn that show it: the first half of them by one drawing, the others by
    anybody's. With `twin_share`, the first two are twins: the same drawings of all things, elsewhere, as in a clip.
    With `several_share`, two more show the same three names, drawn by anybody; with `instance_share`, two more show the
    same two drawings of the name. Other base names that scenes happen to show are asked for too; novel things are
    never painted.

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
        several_share: of samples that paint two or three names, each in a colour of its own.
        instance_share: of samples that paint one of two drawings of a name and say so ("kind" is 1).
        crowded: draws every other one of the scenes by anybody, such as with more and smaller things; None: `world`.
        white_share: how often paint is as at inference, white for one thing and of `palette` for several; else colours
            are random.
        length: number of samples.
        seed: of scenes and samples.
        palette: gives (K, 3) uint8 colours of K names that are painted together; None: they are always random.

    Raises:
        InputError: fewer scenes than 4 a name, a picture that is no whole number of patches, shares of more than 1 in
            sum, or a world in which no two scenes show several names, or two drawings.
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
        several_share: float = 0.0,
        instance_share: float = 0.0,
        palette: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        if of_name < 4 or size % patch:
            raise InputError(f"of_name must be at least 4 and size a multiple of {patch}, got {of_name} and {size}")
        shares = (twin_share, absent_share, several_share, instance_share)
        if min(shares) < 0 or sum(shares) > 1:
            raise InputError(f"shares of twins, absent, several and instances must sum to at most 1, got {shares}")
        self.size, self.patch, self.length, self.seed, self.white_share = size, patch, length, seed, white_share
        self.palette = palette
        self.same_drawing = same_drawing if isinstance(same_drawing, Ramp) else Ramp(same_drawing, same_drawing)
        self._steps = np.cumsum(shares)
        self._base = np.asarray(world.vocabulary.base_mask)
        self._families = world.vocabulary.families
        self.labels = [label for label in world.labels.tolist() if self._base[label]]
        pairs = (several_share > 0) + (instance_share > 0)
        count = (of_name + 2 * pairs) * len(self.labels)
        self.images = np.empty((count, 3, size, size), np.uint8)
        self.keys = np.empty((count, size, size), np.int16)
        self.names = np.full((count, size // patch, size // patch), -1, np.int16)
        self.same: dict[int, list[int]] = defaultdict(list)
        self.anybody: dict[int, list[int]] = defaultdict(list)
        self.sharing: list[tuple[int, list[int]]] = []
        """First of two pictures that show the same names, and these."""
        self.drawn: list[tuple[int, np.ndarray]] = []
        """First of two pictures that show two drawings of a name, and whose each pixel is, (2, S, S), -1 nobody's."""
        for place, label in enumerate(self.labels):
            self._draw_name(world, crowded or world, place, label, of_name, bool(twin_share))
        number = of_name * len(self.labels)
        for place, label in enumerate(self.labels):
            if several_share:
                self._draw_sharing(world, place, label, number)
            if instance_share:
                self._draw_two(world, place, label, number + 2 * pairs - 2)
            number += 2 * pairs
        if (several_share and not self.sharing) or (instance_share and not self.drawn):
            raise InputError("no two scenes show the same names, or two drawings of one; give the world larger scenes")

    def _draw_name(
        self, world: StickerWorld, crowded: StickerWorld, place: int, label: int, count: int, twins: bool
    ) -> None:
        """The scenes of one name."""
        drawings = {label: world.choose_drawing(scene_generator("train", self.seed, place), label)}
        first = None
        for number in range(place * count, (place + 1) * count):
            if number % count >= count // 2:
                self._draw(CastWorld(crowded if number % 2 else world, label), number)
                continue
            known, cast = drawings, None
            if twins and first is not None and number % count == 1:
                known = drawings | dict(zip(first.labels.tolist(), first.sprites, strict=True))
                cast = first.labels.tolist()
            self.same[label].append(number)
            scene = self._draw(
                CastWorld(world, label, _known(world, known), cast), number, not_of=label if first else -1
            )
            first = first or scene

    def _draw_sharing(self, world: StickerWorld, place: int, label: int, number: int) -> None:
        """Two scenes of three names, drawn by anybody."""
        others = np.random.default_rng((self.seed, place, 2)).permutation(self.labels)[:3].tolist()
        cast = list(dict.fromkeys([label, *others]))[:3]
        for each in (number, number + 1):
            self._draw(CastWorld(world, label, None, cast), each)
        common = np.intersect1d(self.keys[number], self.keys[number + 1])
        common = common[common >= 0].tolist()
        if len(common) > 1:
            self.sharing.append((number, common))

    def _draw_two(self, world: StickerWorld, place: int, label: int, number: int) -> None:
        """Two scenes that show the same two drawings of a name, where there are two."""
        rng = scene_generator("train", self.seed + 2, place)
        two = two_drawings(rng, world, label)
        other = self.labels[int(rng.integers(len(self.labels)))]
        whose = np.full((2, self.size, self.size), -1, np.int8)
        for turn in range(2):
            scene = self._draw(cast_of_two(world, label, two, other), number + turn)
            for index, drawing in enumerate(two):
                own = np.asarray([sprite == drawing for sprite in scene.sprites])
                whose[turn][whole_view(segmented(scene, own), self.size).key_map >= 0] = index
        if all((whose[turn] == index).any() for turn in range(2) for index in range(2)):
            self.drawn.append((number, whose))

    def _draw(self, world: CastWorld, number: int, not_of: int = -1) -> Scene:
        """Fill one place of the pool, and list it for all base names that it shows, but for one."""
        scene = world.draw(scene_generator("train", self.seed + 1, number))
        view = whole_view(segmented(scene, self._base[scene.labels]), self.size)
        self.images[number], self.keys[number] = view.image.transpose(2, 0, 1), view.key_map
        for other in np.unique(scene.labels[self._base[scene.labels]]).tolist():
            covered = (view.key_map == other).reshape(self.names.shape[1], self.patch, -1, self.patch).mean(axis=(1, 3))
            self.names[number][covered >= 0.5] = self.labels.index(other)
            if (view.key_map == other).any() and other != not_of:
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
        pictures, asked, kind = rng.permutation(group)[:2], [label], 0  # prompt and target
        owner = self.keys
        turn = int(np.searchsorted(self._steps, rng.random(), side="right")) if self._steps[-1] else _PLAIN
        if turn == _TWINS:
            pictures = rng.permutation(self.same[label][:2])
        elif turn == _ABSENT:
            pictures[1] = self._without(rng, label)
        elif turn == _SEVERAL:
            first, common = self.sharing[int(rng.integers(len(self.sharing)))]
            pictures = rng.permutation([first, first + 1])
            asked = rng.permutation(common)[: int(rng.integers(2, 4))].tolist()
        elif turn == _INSTANCE:
            first, whose = self.drawn[int(rng.integers(len(self.drawn)))]
            pictures, asked, kind = rng.permutation([first, first + 1]), [int(rng.integers(2))], 1
            owner = dict(zip((first, first + 1), whose, strict=True))
        usual = rng.random() < self.white_share and (self.palette is not None or len(asked) == 1)
        colours = self._usual_colours(len(asked)) if usual else draw_colours(rng, len(asked))
        owners = np.concatenate([owner[picture] for picture in pictures.tolist()])  # (2S, S)
        painting = np.zeros((3, *owners.shape), np.uint8)
        for key, colour in zip(asked, colours, strict=True):
            painting[:, owners == key] = colour[:, None]
        side = self.size // self.patch
        return {
            "image": torch.from_numpy(np.concatenate(list(self.images[pictures]), axis=1)),
            "painting": torch.from_numpy(painting),
            "valid": torch.ones(owners.shape, dtype=torch.bool),
            "masked": torch.from_numpy(half_mask((2 * side, side))),
            "kind": kind,
            "pictures": torch.from_numpy(pictures.astype(np.int64)),
            "names": torch.from_numpy(self.names[pictures].astype(np.int64)),
        }

    def _usual_colours(self, count: int) -> np.ndarray:
        return np.full((1, 3), 255, np.uint8) if count == 1 or self.palette is None else self.palette(count)

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


def _known(world: StickerWorld, drawings: Mapping[int, SpriteKey]) -> Callable[[np.random.Generator, int], SpriteKey]:
    """Choose the drawings that are known, and anybody's of other names."""
    return lambda rng, label: drawings[label] if label in drawings else world.choose_drawing(rng, label)


def pooled_canvases(
    world: Mapping[str, Any],
    same_drawing: Any = 0.0,
    crowded: Mapping[str, Any] | None = None,
    palette: Callable[[int], np.ndarray] | str | None = None,
    **arguments: Any,
) -> PooledCanvases:
    """`PooledCanvases` as a config says it.

    Args:
        world: arguments of `sticker_world`.
        same_drawing: a share, or a ramp as (first, last, begin, end).
        crowded: what differs from `world` where the scenes are crowded.
        palette: of `PooledCanvases`, or its dotted name.
        arguments: of `PooledCanvases`.
    """
    palette = pkgutil.resolve_name(palette) if isinstance(palette, str) else palette
    if not isinstance(same_drawing, int | float):
        same_drawing = Ramp(*map(float, same_drawing[:2]), *map(int, same_drawing[2:]))
    other = None if crowded is None else sticker_world(**{**world, **crowded})
    return PooledCanvases(
        sticker_world(**world), same_drawing=same_drawing, crowded=other, palette=palette, **arguments
    )
