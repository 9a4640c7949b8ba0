"""The offline world in context: scenes that share a name, an artist, a drawing or a colour, drawn on the fly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ovdet.data.contexts import SEG_TYPES, Context
from ovdet.data.episodes import EpisodePictures
from ovdet.data.in_context import EpisodeCanvases
from ovdet.data.segments import SegmentedPicture, by_colour, by_instance, by_part, cut
from ovdet.data.stickers.dataset import STREAMS, scene_generator
from ovdet.data.stickers.scenes import Scene, SceneConfig, StickerWorld
from ovdet.data.stickers.sprites import SpriteKey
from ovdet.data.stickers.teaching import open_world
from ovdet.errors import InputError

_TRIES = 30
"""Scenes drawn until one shows the wanted name; nearly always the first does."""
_CHOICES = 20
"""Drawings of a name that are tried for two that differ."""
_OTHERS = 8
"""Scenes drawn until one shares a colour or a part with the target; then the target itself is taken."""


@dataclass(frozen=True)
class Ramp:
    """A share that changes as training goes on.

    Attributes:
        first: up to sample `begin`.
        last: from sample `end` on; in between it goes along a straight line.
        begin: number of a sample.
        end: number of a sample.
    """

    first: float
    last: float
    begin: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.first <= 1 and 0 <= self.last <= 1 and 0 <= self.begin <= self.end):
            raise InputError(f"a ramp wants shares in [0, 1] and 0 <= begin <= end, got {self}")

    def __call__(self, number: int) -> float:
        """The share at one sample."""
        if number < self.begin or self.begin == self.end:
            return self.first if number < self.begin else self.last
        done = min(1.0, (number - self.begin) / (self.end - self.begin))
        return self.first + done * (self.last - self.first)


class CastWorld(StickerWorld):
    """A world in which one name must appear, if asked for as one drawing or by one artist.

    Args:
        world: whose drawings, grounds and config are used.
        label: that must appear.
        choose: draws a sprite for any label; None leaves it to the world.
        labels: of all things that are tried, the label among them; None leaves the others to the world.
    """

    def __init__(
        self,
        world: StickerWorld,
        label: int,
        choose: Callable[[np.random.Generator, int], SpriteKey] | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.__dict__.update(world.__dict__)
        self._label, self._choose, self._cast = label, choose, labels

    def choose_drawing(self, rng: np.random.Generator, label: int) -> SpriteKey:
        """One drawing of a name."""
        return super().choose_drawing(rng, label) if self._choose is None else self._choose(rng, label)

    def draw(self, rng: np.random.Generator) -> Scene:
        """Draw one scene that shows the name.

        Raises:
            InputError: it cannot be shown; the scenes' config leaves too little room.
        """
        for _ in range(_TRIES):
            scene = super().draw(rng)
            if self._label in scene.labels:
                return scene
        name = self.vocabulary.names[self._label]
        raise InputError(f"no scene can be drawn that shows {name!r}: {self.config}")

    def _choose_labels(self, rng: np.random.Generator) -> list[int]:
        if self._cast is not None:
            return [self._cast[place] for place in rng.permutation(len(self._cast))]
        labels = super()._choose_labels(rng)
        if self._label not in labels:
            labels[int(rng.integers(len(labels)))] = self._label
        return labels


def two_drawings(rng: np.random.Generator, world: StickerWorld, label: int) -> list[SpriteKey]:
    """Two drawings of a name that differ, or the one that there is."""
    return list(dict.fromkeys(world.choose_drawing(rng, label) for _ in range(_CHOICES)))[:2]


def cast_of_two(world: StickerWorld, label: int, drawings: Sequence[SpriteKey], other: int) -> CastWorld:
    """A world whose scenes try to show each of the drawings of a name once, and a thing of another name."""
    turns = cycle(drawings)
    return CastWorld(
        world,
        label,
        lambda rng, asked: next(turns) if asked == label else world.choose_drawing(rng, asked),
        [*(label for _ in drawings), other],
    )


def segmented(scene: Scene, shown: np.ndarray) -> SegmentedPicture:
    """A scene's shown things, keyed by their labels; all else is nothing."""
    return cut(scene.image, scene.masks[shown], scene.labels[shown])


class StickerContexts:
    """Contexts of the offline world; a `ContextSource`.

    Semantic contexts show one name in several scenes. At first by the very same drawing, or all drawn by one artist,
    which is easier; later by anybody. Parts are the larger colours of one drawing. Novel things of `base_only` are
    in the pictures, but are never coloured.

    Args:
        world: that draws.
        kinds: weights of the kinds of `SEG_TYPES`.
        same_drawing: share of semantic contexts that show one drawing of the name, by sample.
        same_artist: share of the rest in which one artist draws all scenes, by sample.
        same_picture: share of semantic and colour contexts that are views of one scene.
        base_only: never colour novel things.

    Raises:
        InputError: a kind is unknown, no weight is above 0, or no name may be shown.
    """

    def __init__(
        self,
        world: StickerWorld,
        kinds: Mapping[str, float] | None = None,
        same_drawing: Ramp | float = 0.0,
        same_artist: Ramp | float = 0.0,
        same_picture: float = 0.1,
        *,
        base_only: bool = False,
    ) -> None:
        kinds = {"semantic": 1.0} if kinds is None else dict(kinds)
        unknown = sorted(set(kinds) - set(SEG_TYPES))
        if unknown or not sum(kinds.values()) > 0 or min(kinds.values()) < 0:
            raise InputError(f"kinds must weigh some of {', '.join(SEG_TYPES)}, got {kinds}")
        self.world, self.same_picture, self.base_only = world, same_picture, base_only
        self.same_drawing, self.same_artist = _ramp(same_drawing), _ramp(same_artist)
        self.kinds = tuple(kinds)
        self._shares = np.asarray(list(kinds.values())) / sum(kinds.values())
        self._base = np.asarray(world.vocabulary.base_mask)
        self.labels = np.asarray([label for label in world.labels.tolist() if self._base[label] or not base_only])
        if not len(self.labels):
            raise InputError("no name of the world may be shown")
        keys = world.pack.sprites_of
        self._by_artist = {
            label: {style: rows for style, rows in keys(world.vocabulary.names[label]).items() if style in world.styles}
            for label in world.labels.tolist()
        }

    def draw(self, rng: np.random.Generator, number: int, count: int) -> Context:
        """A context; see `ContextSource`."""
        kind = self.kinds[int(rng.choice(len(self.kinds), p=self._shares))]
        label = int(self.labels[rng.integers(len(self.labels))])
        alone = kind == "instance" or (kind != "part" and rng.random() < self.same_picture)
        choose = None if alone else self._casting(rng, number, label, kind == "part")
        cast = CastWorld(self.world, label, choose)
        regroup = {"instance": by_instance, "colour": by_colour, "part": by_part}.get(kind)
        target = self._scene(rng, cast, regroup)
        if alone:
            return Context((target,) * count, kind)
        if kind == "semantic":
            return Context((target, *(self._scene(rng, cast, regroup) for _ in range(count - 1))), kind)
        return Context((target, *self._sharing(rng, cast, regroup, target, count - 1)), kind)

    def _casting(
        self, rng: np.random.Generator, number: int, label: int, part: bool
    ) -> Callable[[np.random.Generator, int], SpriteKey] | None:
        """How sprites are chosen for all pictures of one context; None: anybody's."""
        of_label = self._by_artist[label]
        artist = tuple(of_label)[int(rng.integers(len(of_label)))]
        drawing = of_label[artist][int(rng.integers(len(of_label[artist])))]
        luck = rng.random(2)
        if part or luck[0] < self.same_drawing(number):
            return lambda own, other: drawing if other == label else self._any(own, other)
        if luck[1] < self.same_artist(number):
            return lambda own, other: self._any(own, other, artist)
        return None

    def _any(self, rng: np.random.Generator, label: int, artist: str | None = None) -> SpriteKey:
        """A drawing of a name, by the artist if she drew it, else by anybody."""
        by_artist = self._by_artist[label]
        if artist not in by_artist:
            return self.world.choose_drawing(rng, label)
        return by_artist[artist][int(rng.integers(len(by_artist[artist])))]

    def _scene(self, rng: np.random.Generator, cast: CastWorld, regroup: Any) -> SegmentedPicture:
        scene = cast.draw(rng)
        shown = self._base[scene.labels] if self.base_only else np.ones(len(scene.labels), bool)
        picture = segmented(scene, shown)
        return picture if regroup is None else regroup(picture)

    def _sharing(
        self, rng: np.random.Generator, cast: CastWorld, regroup: Any, target: SegmentedPicture, count: int
    ) -> tuple[SegmentedPicture, ...]:
        """Scenes that share a key with the target; the target itself where none turns up."""
        shown, found = set(target.shown().tolist()), []
        for _ in range(_OTHERS * count):
            if len(found) == count:
                break
            picture = self._scene(rng, cast, regroup)
            common = shown & set(picture.shown().tolist())
            if common:
                shown = common
                found.append(picture)
        return tuple(found) + (target,) * (count - len(found))


class StickerClasses:
    """Scenes for a few names, drawn when asked for; a `PictureSource`, whose keys are the places of the names.

    Picture i shows name i modulo K, and the others where they turn up.

    Args:
        world: that draws.
        names: K of them.
        length: number of pictures.
        seed: equal seeds give equal pictures.
        stream: "train", "validation" or "evaluation".

    Raises:
        InputError: the world draws no such name, or one comes twice.
    """

    def __init__(
        self, world: StickerWorld, names: Sequence[str], length: int, seed: int = 0, stream: str = "train"
    ) -> None:
        known = {world.vocabulary.names[label]: label for label in world.labels.tolist()}
        for place, name in enumerate(names):
            if name not in known or name in names[:place]:
                raise InputError(f"names: the world draws nothing called {name!r}, or it comes twice")
        if not names or length < 1:
            raise InputError(f"at least one name and one picture are needed, got {len(names)} and {length}")
        scene_generator(stream, seed, 0)
        self.world, self.class_names, self.length = world, tuple(names), length
        self.seed, self.stream = seed, stream
        self._labels = [known[name] for name in names]

    def __len__(self) -> int:
        return self.length

    def keys_of(self, index: int) -> tuple[int, ...]:
        """The name that a picture shows for sure."""
        return (index % len(self._labels),)

    def __getitem__(self, index: int) -> SegmentedPicture:
        if not 0 <= index < self.length:
            raise IndexError(f"picture {index} of {self.length}")
        cast = CastWorld(self.world, self._labels[index % len(self._labels)])
        scene = cast.draw(scene_generator(self.stream, self.seed, index))
        shown = np.isin(scene.labels, self._labels)
        keys = [self._labels.index(label) for label in scene.labels[shown].tolist()]
        return cut(scene.image, scene.masks[shown], keys)


class StickerEpisodes(Dataset):
    """Episodes for evaluation: one name to find in a scene, shown by examples in other scenes.

    The names take turns evenly: any `len(labels)` episodes in a row ask for each name once. An item is an
    `EpisodePictures`; all pixels are judged. Scenes are a function of stream, seed and index, and the examples of a
    longer list begin with those of a shorter one, so that 1, 4 and 8 examples are compared on the same queries.
    `without` gives beside each a picture that lacks what it asks for.

    Args:
        world: that draws; of a held-out style for the test of style.
        length: number of episodes.
        shots: examples of each.
        seed: equal seeds give equal episodes.
        stream: "train", "validation" or "evaluation".
        side: "base", "novel" or "all": which names are asked for.
    """

    def __init__(
        self,
        world: StickerWorld,
        length: int,
        shots: int = 1,
        seed: int = 0,
        *,
        stream: str = "evaluation",
        side: str = "all",
    ) -> None:
        scene_generator(stream, seed, 0)
        if side not in ("base", "novel", "all"):
            raise InputError(f"side must be base, novel or all, got {side!r}")
        if length < 1 or shots < 1:
            raise InputError(f"length and shots must be at least 1, got {length} and {shots}")
        self.world, self.length, self.shots, self.seed, self.stream = world, length, shots, seed, stream
        base = np.asarray(world.vocabulary.base_mask)[world.labels]
        self.labels = world.labels[{"base": base, "novel": ~base, "all": base | ~base}[side]]
        if not len(self.labels):
            raise InputError(f"the world draws no {side} name")

    def __len__(self) -> int:
        return self.length

    def label(self, index: int) -> int:
        """The name asked for in one episode."""
        turn, place = divmod(index, len(self.labels))
        order = np.random.default_rng((STREAMS[self.stream], self.seed, turn, 1)).permutation(len(self.labels))
        return int(self.labels[order[place]])

    def __getitem__(self, index: int) -> EpisodePictures:
        if not 0 <= index < self.length:
            raise IndexError(f"episode {index} of {self.length}")
        label = self.label(index)
        cast = CastWorld(self.world, label)
        rng = scene_generator(self.stream, self.seed, index)
        scenes = [cast.draw(rng) for _ in range(1 + self.shots)]
        masks = [scene.masks[scene.labels == label].any(axis=0) for scene in scenes]
        examples = tuple((scene.image, mask) for scene, mask in zip(scenes[1:], masks[1:], strict=True))
        return EpisodePictures(label, scenes[0].image, masks[0], np.ones(masks[0].shape, bool), examples)

    def without(self, index: int) -> np.ndarray:
        """A picture (H, W, 3) uint8 that shows neither what an episode asks for nor a near-duplicate of it."""
        families = self.world.vocabulary.families
        rng = np.random.default_rng((STREAMS[self.stream], self.seed, index, 2))
        for _ in range(_TRIES):
            scene = self.world.draw(rng)
            if families[self.label(index)] not in {families[label] for label in scene.labels.tolist()}:
                return scene.image
        raise InputError(f"no scene can be drawn without {self.world.vocabulary.names[self.label(index)]!r}")


def sticker_world(
    split: str = "75-25",
    stream: str = "train",
    styles: Sequence[str] | str | None = None,
    pack: str | Path | None = None,
    side: int = 256,
    objects: Sequence[int] = (3, 9),
    long_side: Sequence[float] | None = None,
    restyle_share: float = 0.0,
) -> StickerWorld:
    """The world of one stream as `open_world` opens it, with fewer or larger things where asked for.

    Args:
        split: of the names.
        stream: training draws on training grounds, all others on evaluation grounds.
        styles: artists, or one of them; None is the training ones.
        pack: folder of the sprites; None reads the environment.
        side: of scenes, in pixels.
        objects: fewest and most things that are tried.
        long_side: of things, in pixels; None is 24 to 140 in scenes of 256, and in proportion.
        restyle_share: how often a thing is redrawn in another manner; for training alone.
    """
    world = open_world(split, stream, styles, pack, side)
    long_side = (max(8.0, 24.0 * side / 256), max(8.0, 140.0 * side / 256)) if long_side is None else long_side
    config = SceneConfig(
        size_hw=(side, side),
        objects=(int(objects[0]), int(objects[1])),
        long_side=(float(long_side[0]), float(long_side[1])),
        min_pixels=max(16, round(60 * (side / 256) ** 2)),
        restyle_share=restyle_share,
    )
    return StickerWorld(world.pack, world.vocabulary, world.grounds, world.styles, config)


def sticker_contexts(
    world: Mapping[str, Any],
    kinds: Mapping[str, float] | None = None,
    same_drawing: Sequence[float] | float = 0.0,
    same_artist: Sequence[float] | float = 0.0,
    same_picture: float = 0.1,
    base_only: bool = False,
) -> StickerContexts:
    """`StickerContexts` as a config says it: the world by its arguments, a ramp as (first, last, begin, end)."""
    ramps = [
        Ramp(*map(float, one[:2]), *map(int, one[2:])) if isinstance(one, Sequence) else one
        for one in (same_drawing, same_artist)
    ]
    return StickerContexts(sticker_world(**world), kinds, *ramps, same_picture, base_only=base_only)


def sticker_classes(
    world: Mapping[str, Any], names: Sequence[str], length: int, seed: int = 0, stream: str = "train"
) -> StickerClasses:
    """`StickerClasses` as a config says it: the world by its arguments but the stream."""
    return StickerClasses(sticker_world(**world, stream=stream), names, length, seed, stream)


def sticker_canvases(
    world: Mapping[str, Any], length: int, size: int, patch: int, side: str = "all", seed: int = 0
) -> EpisodeCanvases:
    """One-shot episodes of a world, as a config says it; the world's stream is that of the scenes."""
    stream = str(world.get("stream", "train"))
    episodes = StickerEpisodes(sticker_world(**world), length, 1, seed, stream=stream, side=side)
    return EpisodeCanvases(episodes, size, patch)


def _ramp(share: Ramp | float) -> Ramp:
    return share if isinstance(share, Ramp) else Ramp(float(share), float(share))
