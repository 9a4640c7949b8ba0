"""Crops and texts for a teacher of the sticker world, as training wants them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ovdet.data.sampling import Draw
from ovdet.data.stickers.colours import WORDS
from ovdet.data.stickers.curation import HELD_OUT_STYLES, TRAIN_STYLES
from ovdet.data.stickers.dataset import STREAMS, SceneCrops, StickerCrops
from ovdet.data.stickers.expressions import with_article
from ovdet.data.stickers.grounds import evaluation_grounds, training_grounds
from ovdet.data.stickers.scenes import SceneConfig, StickerWorld
from ovdet.data.stickers.sprites import SpritePack
from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.errors import InputError

GROUNDS_VARIABLE = "OVDET_GROUNDS"
"""Names a folder of photographs to lie on, half of the time; without it all grounds are procedural."""

FRAMES = ("{a}", "{name}", "a drawing of {a}", "a sticker of {a}", "a photo of {a}.", "a small {name}", "a big {name}")


def open_world(
    split: str,
    stream: str = "train",
    styles: Sequence[str] | str | None = None,
    pack: str | Path | None = None,
    side: int = 256,
    restyle_share: float = 0.0,
) -> StickerWorld:
    """The world of one stream.

    Args:
        split: of the names.
        stream: training draws on training grounds, all others on evaluation grounds.
        styles: artists, or one of them; None is the training ones.
        pack: folder of the sprites; None reads the environment, see `SpritePack`.
        side: of scenes, in pixels.
        restyle_share: how often a thing is redrawn in another manner; for training alone.

    Raises:
        InputError: a held-out style is asked for in training; also what `SpritePack` and `StickerWorld` refuse.
    """
    styles = TRAIN_STYLES if styles is None else (styles,) if isinstance(styles, str) else tuple(styles)
    if stream == "train" and set(styles) & set(HELD_OUT_STYLES):
        raise InputError(f"held-out styles are never trained on, got {', '.join(styles)}")
    photographs = os.environ.get(GROUNDS_VARIABLE, "").strip() or None
    grounds = (training_grounds if stream == "train" else evaluation_grounds)(photographs)
    return StickerWorld(
        SpritePack(pack),
        load_vocabulary(split),
        grounds,
        styles,
        SceneConfig(size_hw=(side, side), restyle_share=restyle_share),
    )


class TeacherCrops(Dataset):
    """Crops whose texts are numbers: "image" (3, 64, 64) uint8, "label" and "text", an index into `texts`.

    Args:
        split: of the names.
        length: number of crops.
        seed: equal seeds give equal crops.
        stream: "train", "validation" or "evaluation".
        styles: as in `open_world`.
        base_only: show base names alone; labels then count the base names.
        pack: folder of the sprites.
        side: of the crops, in pixels.
        restyle_share: how often a thing is redrawn in another manner; for training alone.
        scene_share: how many of the crops are cut out of whole scenes, see `SceneCrops`; the others show one thing, and
            perhaps a second that hides some of it.
    """

    def __init__(
        self,
        split: str,
        length: int,
        seed: int = 0,
        *,
        stream: str = "train",
        styles: Sequence[str] | str | None = None,
        base_only: bool = False,
        pack: str | Path | None = None,
        side: int = 64,
        restyle_share: float = 0.0,
        scene_share: float = 0.0,
    ) -> None:
        if not 0 <= scene_share <= 1:
            raise InputError(f"scene_share must lie in [0, 1], got {scene_share}")
        world = open_world(split, stream, styles, pack, restyle_share=restyle_share)
        vocabulary = world.vocabulary
        shown = [k for k, base in enumerate(vocabulary.base_mask) if base or not base_only]
        drawn = np.intersect1d(shown, world.labels)
        self.crops = StickerCrops(world, length, seed, stream=stream, side=side, labels=drawn)
        self.scenes = SceneCrops(world, seed, stream=stream, side=side, labels=drawn)
        self.scene_share = scene_share
        self.names = tuple(vocabulary.names[k] for k in shown)
        self._position = {label: place for place, label in enumerate(shown)}
        self.texts: list[str] = []
        self.of_names: list[list[int]] = []
        for label in shown:
            concept = vocabulary.concepts[label]
            own = [text for name in (concept.name, *concept.aliases) for text in _sayings(name)]
            self.of_names.append(list(range(len(self.texts), len(self.texts) + len(own))))
            self.texts += own
        self._coloured = len(self.texts)
        self.texts += [with_article(f"{colour} {name}") for name in self.names for colour in WORDS]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._from_scene(index) or self.crops[int(index)]
        place = self._position[sample["label"]]
        if sample["colour"]:
            text = self._coloured + place * len(WORDS) + WORDS.index(sample["colour"])
        else:
            text = self.of_names[place][0]
        return {"image": sample["image"], "label": place, "text": text}

    def _from_scene(self, index: int) -> dict[str, Any] | None:
        """A crop out of a scene, if it is the turn of one; in training scenes are counted by the draw."""
        number = index.number if isinstance(index, Draw) else int(index)
        block = number // SceneCrops.PER_SCENE
        if (
            np.random.default_rng((STREAMS[self.scenes.stream], self.scenes.seed, block, 1)).random()
            >= self.scene_share
        ):
            return None
        return self.scenes[number]


def _sayings(name: str) -> list[str]:
    return [frame.format(a=with_article(name), name=name) for frame in FRAMES]
