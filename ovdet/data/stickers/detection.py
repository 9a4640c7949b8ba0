"""Scenes as a detector trains and is tested on them: drawn on the fly, packed as mmdet packs pictures from disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from ovdet.data.sampling import Draw
from ovdet.data.splits import Split
from ovdet.data.stickers.dataset import StickerScenes
from ovdet.data.stickers.teaching import open_world
from ovdet.errors import InputError

ENDLESS = 2**40
"""Scenes that there are in the stream of a seed; more than anybody will draw."""


class StickerDetectionScenes(Dataset):
    """Endless scenes for training, or the first `length` of a stream for tests.

    Asked for a `Draw`, as `SeededSampler` does, it gives the scene of the draw's number: no scene comes twice, and a
    run that is resumed goes on with new ones. Asked for a plain index, it gives that scene. Samples are dicts as of
    mmdet's PackDetInputs: "inputs" (3, H, W) uint8 BGR and "data_samples" with gt_instances (bboxes, labels, masks).

    `metainfo` holds what `OpenVocabularyDataset` puts there, but for "ann_file": the evaluator reads the truth off the
    samples. "source" is for the protocol of a result.

    Args:
        split: of the names.
        length: scenes of a test; in training, how many make a pass (of no consequence).
        seed: equal seeds give equal scenes.
        stream: "train", "validation" or "evaluation".
        styles: artists, or one of them, such as "twemoji"; None is the training ones.
        base_only: novel things are drawn, but not annotated.
        pack: folder of the sprites; None reads the environment.
        side: of the pictures, in pixels.
        restyle_share: how often a thing is redrawn in another manner; for training alone.
    """

    def __init__(
        self,
        split: str = "75-25",
        length: int = 1000,
        seed: int = 0,
        *,
        stream: str = "train",
        styles: Sequence[str] | str | None = None,
        base_only: bool = False,
        pack: str | Path | None = None,
        side: int = 256,
        restyle_share: float = 0.0,
    ) -> None:
        if length < 1:
            raise InputError(f"length must be at least 1, got {length}")
        world = open_world(split, stream, styles, pack, side, restyle_share)
        self.length = length
        self.scenes = StickerScenes(world, ENDLESS, seed, stream=stream, base_only=base_only, texts=False)
        self.metainfo = self._describe()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not isinstance(index, Draw) and not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        number = index.number if isinstance(index, Draw) else int(index)
        scene = self.scenes.scene(number)
        shown = self.scenes.shown(scene)
        height, width = scene.image.shape[:2]
        sample = DetDataSample(
            metainfo=dict(
                img_id=number + 1,
                img_path=f"{self.scenes.stream}/{self.scenes.seed}/{number}",
                ori_shape=(height, width),
                img_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(scene.boxes_xyxy[shown]),
            labels=torch.from_numpy(scene.labels[shown]),
            masks=BitmapMasks(scene.masks[shown].astype(np.uint8), height, width),
        )
        bgr = np.ascontiguousarray(scene.image[:, :, ::-1].transpose(2, 0, 1))
        return {"inputs": torch.from_numpy(bgr), "data_samples": sample}

    def _describe(self) -> dict[str, Any]:
        world = self.scenes.world
        vocabulary = world.vocabulary
        split = Split(
            name=f"stickers-{vocabulary.split}",
            category_ids=tuple(range(1, len(vocabulary.names) + 1)),
            names=vocabulary.names,
            groups=tuple("base" if flag else "novel" for flag in vocabulary.base_mask),
        )
        return {
            "classes": split.names,
            "base_mask": split.base_mask,
            "groups": split.groups,
            "category_ids": split.category_ids,
            "frequencies": None,
            "split": split.name,
            "split_digest": split.digest,
            "source": {
                "generator": "ovdet stickers 1",
                "stream": self.scenes.stream,
                "seed": self.scenes.seed,
                "scenes": self.length,
                "styles": list(world.styles),
                "grounds": [painter.__name__ for painter in world.grounds.painters],
                "photographs": _digest([one.shape for one in world.grounds.photographs], world.grounds.photographs),
                "config": str(world.config),
                "pack": world.pack.digest,
                "candidates": len(split.names),
            },
        }


def _digest(shapes: Sequence[tuple[int, ...]], arrays: Sequence[np.ndarray]) -> str | None:
    """SHA-256 of pictures, or None where there are none."""
    if not len(arrays):
        return None
    digest = hashlib.sha256(json.dumps([list(shape) for shape in shapes]).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
