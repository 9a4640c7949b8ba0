"""The offline world as data of sentences: captions, texts of regions and referring expressions, each with its box.

Samples have the form of `ovdet.data.batches`. They are drawn when they are asked for, a function of stream, seed and
index alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.batches import WHOLE_PICTURE
from ovdet.data.sampling import Draw
from ovdet.data.stickers.dataset import STREAMS, StickerScenes, scene_texts
from ovdet.data.stickers.expressions import RELATIONS, Expression, SceneGraph, caption
from ovdet.data.stickers.proposals import SceneProposals
from ovdet.data.stickers.scenes import Scene, StickerWorld
from ovdet.data.stickers.teaching import open_world
from ovdet.errors import InputError

GRAINS = ("caption", "region", "expression")
CAPTION_TURN = 4
"""Where captions have batches of their own, each fourth is one."""


class StickerTexts(Dataset):
    """Pictures of the world with some of their texts, for training.

    A sample tells of one scene: up to `max_texts` texts, where a caption takes one place as in X-VLM's region data and
    a region's text another; expressions have the rest, and regions what these leave. Both are drawn evenly from the
    kinds that the scene has ("name", "colour", "relation", ...).

    Args:
        world: that draws; configs use `sticker_texts`.
        length: number of scenes.
        seed: equal seeds give equal samples.
        stream: "train", "validation" or "evaluation".
        base_only: tell of base names alone; novel things are in the pictures all the same.
        grains: of "caption", "region" and "expression", or one of them. Captions alone is image-level training.
        max_texts: of one picture.
        turn: samples of a batch, if each fourth batch is to have captions alone, and the others none: so that short
            texts need not wait for long ones. Batches are known by the numbers of `SeededSampler`'s draws. These
            captions tell of novel things as well, as pictures from the web do, where `base_only` is about boxes.
        nouns: that fit everything, for expressions that name nothing; see `referring_expressions`.
    """

    def __init__(
        self,
        world: StickerWorld,
        length: int,
        seed: int = 0,
        *,
        stream: str = "train",
        base_only: bool = True,
        grains: Sequence[str] | str = GRAINS,
        max_texts: int = 5,
        turn: int | None = None,
        nouns: Sequence[str] = (),
    ) -> None:
        grains = (grains,) if isinstance(grains, str) else tuple(grains)
        unknown = [grain for grain in grains if grain not in GRAINS]
        if unknown or not grains or max_texts < 1:
            raise InputError(f"grains must be of {GRAINS} and max_texts at least 1, got {grains}, {max_texts}")
        self.scenes = StickerScenes(world, length, seed, stream=stream, base_only=base_only)
        self.grains, self.max_texts, self.turn, self.nouns = grains, max_texts, turn, tuple(nouns)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        grains = self._grains_of(index)
        index = int(index)
        scene = self.scenes.scene(index)
        shown = self.scenes.shown(scene)
        texts = scene_texts(scene, self.scenes.world, shown, self.nouns)
        if self.turn:
            texts["caption"] = caption(SceneGraph(scene, self.scenes.world.vocabulary))
        rng = np.random.default_rng((STREAMS[self.scenes.stream], self.scenes.seed, index, 1))
        rows: list[tuple[str, tuple[float, ...], bool]] = []
        if "caption" in grains:
            rows.append((texts["caption"], WHOLE_PICTURE, True))
        for grain, room in (("expression", 1 if "region" in grains else 0), ("region", 0)):
            local = [one for one in texts[f"{grain}s"] if grain in grains and one.text not in {row[0] for row in rows}]
            for one in draw_evenly(rng, local, self.max_texts - room - len(rows)):
                rows.append((one.text, _normalised(one.box_xyxy, scene), False))
        if not rows:  # a scene without a base thing
            rows.append((texts["caption"], WHOLE_PICTURE, True))
        return {
            "image": _picture(scene),
            "texts": [text for text, _, _ in rows],
            "boxes_cxcywh_norm": torch.tensor([box for _, box, _ in rows], dtype=torch.float32),
            "is_image": torch.tensor([flag for _, _, flag in rows]),
            "image_id": index,
            "draw": index,
        }

    def _grains_of(self, index: int) -> tuple[str, ...]:
        """What is told of one draw."""
        if not self.turn or len(self.grains) == 1:
            return self.grains
        number = index.number if isinstance(index, Draw) else index
        captions = number // self.turn % CAPTION_TURN == 0
        return tuple(grain for grain in self.grains if (grain == "caption") == captions)


class StickerExpressions(Dataset):
    """Referring expressions of the world, all names allowed, for evaluation.

    A sample has up to `max_texts` expressions of a scene. The tags of each are its kind, its side and both:
    ("relation", "novel", "relation_novel"). Its side is "novel" if it refers to a novel thing, "base" if all the names
    in it are base names, and "mixed" if it refers to a base thing by way of a novel one. No two of the streams, and
    no training scene, are alike.

    Args:
        world: that draws; configs use `sticker_expressions`.
        length: number of scenes.
        seed: equal seeds give equal samples.
        stream: "validation" or "evaluation".
        max_texts: of one scene, drawn evenly from the kinds that it has; a scene may have none, and then has its
            caption, which no evaluator counts.
        proposals: file of tools/data/sticker_proposals.py, whose boxes are the candidates; None gives none.
        nouns: that fit everything, for expressions of the kind "thing"; see `referring_expressions`.
    """

    def __init__(
        self,
        world: StickerWorld,
        length: int,
        seed: int = 0,
        *,
        stream: str = "evaluation",
        max_texts: int = 8,
        proposals: str | Path | None = None,
        nouns: Sequence[str] = (),
    ) -> None:
        if stream == "train":
            raise InputError("expressions are evaluated on scenes of the stream 'validation' or 'evaluation'")
        self.scenes = StickerScenes(world, length, seed, stream=stream)
        self.max_texts, self.nouns = max_texts, tuple(nouns)
        self.proposals = None if proposals is None else SceneProposals(Path(proposals))
        if self.proposals is not None and len(self.proposals) < length:
            raise InputError(f"{proposals} has boxes of {len(self.proposals)} scenes, and {length} are asked for")
        self.metainfo = {"dataset": f"sticker expressions, {stream}, {', '.join(world.styles)}", "pictures": length}

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = int(index)
        scene = self.scenes.scene(index)
        texts = scene_texts(scene, self.scenes.world, self.scenes.shown(scene), self.nouns)
        rng = np.random.default_rng((STREAMS[self.scenes.stream], self.scenes.seed, index, 1))
        chosen = draw_evenly(rng, texts["expressions"], self.max_texts)
        boxes = [one.box_xyxy for one in chosen]
        sample = {
            "image": _picture(scene),
            "texts": [one.text for one in chosen],
            "boxes_cxcywh_norm": torch.tensor([_normalised(box, scene) for box in boxes]).reshape(-1, 4),
            "is_image": torch.zeros(len(chosen), dtype=torch.bool),
            "image_id": index,
            "draw": index,
            "boxes_xyxy": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "size_hw": scene.image.shape[:2],
            "tags": [self._tags(one, scene) for one in chosen],
            "things_xyxy": torch.from_numpy(scene.boxes_xyxy),
        }
        if self.proposals is not None:
            sample["candidates_xyxy"], sample["candidate_scores"] = self.proposals.of(index, scene.image)
        return sample

    def _tags(self, one: Expression, scene: Scene) -> tuple[str, ...]:
        side = expression_side(one, scene, self.scenes.world)
        return one.kind, side, f"{one.kind}_{side}"


def sticker_texts(
    split: str = "75-25",
    length: int = 1_000_000,
    seed: int = 0,
    *,
    stream: str = "train",
    styles: Sequence[str] | str | None = None,
    pack: str | Path | None = None,
    side: int = 256,
    **more: Any,
) -> StickerTexts:
    """`StickerTexts` of the world that `open_world` opens: what a config names."""
    return StickerTexts(open_world(split, stream, styles, pack, side), length, seed, stream=stream, **more)


def sticker_expressions(
    split: str = "75-25",
    length: int = 1000,
    seed: int = 0,
    *,
    stream: str = "evaluation",
    styles: Sequence[str] | str | None = None,
    pack: str | Path | None = None,
    side: int = 256,
    max_texts: int = 8,
    proposals: str | Path | None = None,
    nouns: Sequence[str] = (),
) -> StickerExpressions:
    """`StickerExpressions` of the world that `open_world` opens: what a config names."""
    world = open_world(split, stream, styles, pack, side)
    return StickerExpressions(world, length, seed, stream=stream, max_texts=max_texts, proposals=proposals, nouns=nouns)


def expression_side(one: Expression, scene: Scene, world: StickerWorld) -> str:
    """Which side an expression counts for: "novel", "base" or "mixed", see `StickerExpressions`."""
    vocabulary = world.vocabulary
    if not vocabulary.base_mask[scene.labels[one.things[0]]]:
        return "novel"
    for relation in RELATIONS if one.kind in ("relation", "thing") else ():
        _, found, anchor = one.text.partition(f" {relation} the ")
        if found:
            return "mixed" if anchor in vocabulary.novel else "base"
    return "base"


def draw_evenly(rng: np.random.Generator, texts: Sequence[Expression], count: int) -> list[Expression]:
    """Up to `count` texts, no two of them alike; each time a kind is drawn first, as relations outnumber names by far.

    A text that is true of several things ("a red car") stands for one of them, drawn at random.
    """
    by_kind: dict[str, list[Expression]] = {}
    for one in {texts[place].text: texts[place] for place in rng.permutation(len(texts))}.values():
        by_kind.setdefault(one.kind, []).append(one)
    chosen: list[Expression] = []
    while by_kind and len(chosen) < count:
        kinds = sorted(by_kind)
        kind = kinds[int(rng.integers(len(kinds)))]
        chosen.append(by_kind[kind].pop(int(rng.integers(len(by_kind[kind])))))
        if not by_kind[kind]:
            del by_kind[kind]
    return chosen


def _picture(scene: Scene) -> torch.Tensor:
    return torch.from_numpy(scene.image.transpose(2, 0, 1).copy())  # (3, H, W)


def _normalised(box_xyxy: Sequence[float], scene: Scene) -> tuple[float, float, float, float]:
    height, width = scene.image.shape[:2]
    x1, y1, x2, y2 = box_xyxy
    return (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
