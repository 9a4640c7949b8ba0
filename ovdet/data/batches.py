"""Pictures with texts, as the rooms of sentences take them: the form of one sample, and batches of them.

A **sample** is a dict about one square picture with N texts, each true of a region or of the whole picture:

    image               (3, S, S) uint8 RGB; models keep mean and std
    texts               list of N strings, cleaned
    boxes_cxcywh_norm   (N, 4) float32: centre and size as shares of the square; (0.5, 0.5, 1, 1) is the whole picture
    is_image            (N,) bool: the text is of the whole picture
    image_id            int: equal for samples that show the same picture

Samples for evaluation have more:

    boxes_xyxy          (N, 4) float32: what each text refers to, pixels of the original picture
    size_hw             of the original picture, in pixels
    tags                list of N tuples of words that an evaluator counts by, such as ("testA",)
    candidates_xyxy     (R, 4) float32: boxes that a detector proposes, pixels of the original picture
    candidate_scores    (R,) float32: how likely each of these holds a thing
    things_xyxy         (M, 4) float32: all that could be meant, pixels of the original picture (where it is known)
    references          list of captions as people said them (of pictures with captions)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ovdet.errors import InputError

WHOLE_PICTURE = (0.5, 0.5, 1.0, 1.0)

_LOG = logging.getLogger(__name__)


def collate_texts(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of B pictures and all their N texts.

    Returns:
        images: (B, 3, S, S) uint8.
        texts: N strings.
        image_index: (N,) int64, the picture that a text belongs to.
        boxes_cxcywh_norm: (N, 4) float32; is_image: (N,) bool; image_ids: (B,) int64.
        Of samples for evaluation also boxes_xyxy (N, 4), size_hw (B, 2), tags (N tuples), things_xyxy,
        candidates_xyxy and candidate_scores (B tensors each) and references (B lists).
    """
    counts = torch.tensor([len(sample["texts"]) for sample in samples])
    batch: dict[str, Any] = {
        "images": torch.stack([sample["image"] for sample in samples]),
        "texts": [text for sample in samples for text in sample["texts"]],
        "image_index": torch.arange(len(samples)).repeat_interleave(counts),
        "boxes_cxcywh_norm": torch.cat([sample["boxes_cxcywh_norm"] for sample in samples]),
        "is_image": torch.cat([sample["is_image"] for sample in samples]),
        "image_ids": torch.tensor([int(sample["image_id"]) for sample in samples]),
    }
    if all("boxes_xyxy" in sample for sample in samples):
        batch["boxes_xyxy"] = torch.cat([sample["boxes_xyxy"] for sample in samples])
        batch["size_hw"] = torch.tensor([tuple(sample["size_hw"]) for sample in samples])
        batch["tags"] = [tag for sample in samples for tag in sample["tags"]]
    for key in ("things_xyxy", "candidates_xyxy", "candidate_scores", "references"):
        if all(key in sample for sample in samples):
            batch[key] = [sample[key] for sample in samples]
    return batch


def choose_texts(batch: dict[str, Any], chosen: Sequence[int] | np.ndarray) -> dict[str, Any]:
    """The same pictures with some of the texts, in the order given; a text may be chosen twice."""
    rows = torch.as_tensor(np.asarray(chosen, dtype=np.int64))
    count = len(batch["texts"])
    result = dict(batch)
    for key in ("image_index", "boxes_cxcywh_norm", "is_image", "boxes_xyxy"):
        if key in batch:
            result[key] = batch[key][rows]
    for key in ("texts", "tags"):
        if key in batch:
            result[key] = [batch[key][row] for row in rows.tolist()]
    assert all(0 <= row < count for row in rows.tolist()), f"chosen must be of {count} texts"
    return result


class EndlessDataset(IterableDataset):
    """A stream without an end. mmengine asks for a length where a schedule is built; no run reaches this one."""

    def __len__(self) -> int:
        return 2**31 - 1


def fixed_texts(samples: Sequence[Mapping[str, Any]], texts: int, seed: int = 0) -> dict[str, Any]:
    """A batch of pictures and exactly so many of their texts, so that every rank computes as much.

    X-VLM takes up to 48 pictures of at most 5 texts and draws 128 of the texts without replacement; a picture whose
    texts are not drawn is encoded all the same. Where there are too few texts, some are drawn twice.

    Args:
        samples: see the head of this file.
        texts: number to draw.
        seed: of the draw, together with what the first sample's "draw" says.

    Raises:
        InputError: there is no text, or none is asked for.
    """
    batch = collate_texts(samples)
    found = len(batch["texts"])
    if not found or texts < 1:
        raise InputError(f"{texts} texts are to be drawn from {len(samples)} pictures that have {found}")
    rng = np.random.default_rng((seed, int(samples[0].get("draw", 0)), found))
    chosen = rng.permutation(found)[:texts]
    if found < texts:
        _LOG.warning("%d pictures have %d texts only; %d are repeated", len(samples), found, texts - found)
        chosen = np.concatenate([chosen, rng.choice(found, texts - found)])
    return choose_texts(batch, chosen)


class TwoGrains(EndlessDataset):
    """Batches of X-VLM's pre-training: each step has pictures with captions, a share of the steps regions as well.

    A step is `{"images": batch, "regions": batch or None}`. Whether it has regions is drawn from the seed and the
    number of the step alone, so that all ranks take the same turn. Use it with `batch_size=1` and `only_one`; with W
    workers, step i comes from worker i mod W.

    Args:
        images: endless samples with captions.
        regions: endless samples with regions.
        image_batch: pictures of a batch of images.
        region_pictures: pictures of a batch of regions.
        region_texts: texts drawn of these.
        region_share: of the steps (`iter_perc` of the official configs).
        seed: of the turns.
    """

    def __init__(
        self,
        images: Iterable[Mapping[str, Any]],
        regions: Iterable[Mapping[str, Any]],
        image_batch: int = 128,
        region_pictures: int = 48,
        region_texts: int = 128,
        region_share: float = 0.5,
        seed: int = 0,
    ) -> None:
        if not 0 <= region_share <= 1:
            raise InputError(f"region_share must be between 0 and 1, got {region_share}")
        self.images, self.regions = images, regions
        self.image_batch, self.region_pictures = image_batch, region_pictures
        self.region_texts, self.region_share, self.seed = region_texts, region_share, seed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        step, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        images, regions = iter(self.images), iter(self.regions)
        while True:
            batch = {"images": collate_texts([next(images) for _ in range(self.image_batch)]), "regions": None}
            if takes_regions(self.seed, step, self.region_share):
                some = [next(regions) for _ in range(self.region_pictures)]
                batch["regions"] = fixed_texts(some, self.region_texts, self.seed)
            yield batch
            step += stride


def only_one(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate what is a batch already: for loaders with `batch_size=1`, as mmengine wants one."""
    (batch,) = batches
    return batch


def takes_regions(seed: int, step: int, share: float) -> bool:
    """Does this step take a batch of regions? The same on every rank."""
    return bool(np.random.default_rng((seed, step, 2)).random() < share)
