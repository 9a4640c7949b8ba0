"""Referring expressions with one box each as training and evaluation data (X-VLM's fine-tuning on RefCOCO)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.augment import ALL_OPERATIONS, RandAugment
from ovdet.data.batches import WHOLE_PICTURE
from ovdet.data.records import read_picture
from ovdet.data.refcoco import Referral, read_detector_boxes, read_refcoco, split_digest
from ovdet.data.texts import clean_caption
from ovdet.data.views import (
    Augmentation,
    SideWords,
    check_side_words,
    crop_around,
    mirror,
    to_tensor,
    view_generator,
    whole_view,
)
from ovdet.errors import InputError


class ReferralTraining(Dataset):
    """One sentence, one picture, one box: the form is that of `ovdet.data.batches`.

    With boxes as published for supervised training: a random part that holds the box whole, mirrored by chance,
    resized to a square, its colours augmented. Without (`whole=True`), as published for weakly supervised training:
    the whole picture, mirrored by chance, augmented with all operations; the sentence then counts for the picture.

    Args:
        referrals: sentences to train on.
        picture_root: folder of the pictures.
        side: of the square, in pixels.
        max_words: of a sentence.
        seed: of the views; with a `Draw` they depend on seed and draw alone.
        whole: leave boxes out.
        side_words: of mirrored pictures; published: "keep" (a part of the official code mirrors regardless).
        augmentation: None takes the published one.
    """

    def __init__(
        self,
        referrals: Sequence[Referral],
        picture_root: str | Path,
        side: int = 384,
        max_words: int = 30,
        seed: int = 0,
        *,
        whole: bool = False,
        side_words: SideWords = "keep",
        augmentation: Augmentation | None = None,
    ) -> None:
        check_side_words(side_words)
        if not referrals:
            raise InputError("there is no sentence to train on; does the split exist in this division?")
        self.referrals, self.picture_root, self.side, self.max_words = list(referrals), picture_root, side, max_words
        self.seed, self.whole, self.side_words = seed, whole, side_words
        self.augmentation = augmentation or (RandAugment(ALL_OPERATIONS) if whole else RandAugment())

    def __len__(self) -> int:
        return len(self.referrals)

    def __getitem__(self, index: int) -> dict[str, Any]:
        one = self.referrals[int(index)]
        rng = view_generator(self.seed, index)
        picture = read_picture(Path(self.picture_root) / one.file_name)
        view = whole_view(picture) if self.whole else crop_around(rng, one.box_xywh, picture.size)
        view, ((text,),) = mirror(rng, view, [[one.text]], self.side_words)
        box = WHOLE_PICTURE if self.whole else view.boxes(np.array(one.box_xywh))[0][0].tolist()
        return {
            "image": to_tensor(self.augmentation(rng, view.picture(picture, self.side))),
            "texts": [clean_caption(text, self.max_words)],
            "boxes_cxcywh_norm": torch.tensor([box], dtype=torch.float32),
            "is_image": torch.tensor([self.whole]),
            "image_id": one.image_id,
        }


class ReferralTest(Dataset):
    """All sentences of one picture at a time, so that it is encoded once; the form is that of `ovdet.data.batches`.

    The whole picture is resized to a square without regard to aspect, as published. The tag of a sentence is its split.

    Args:
        referrals: sentences to be tested, each is one trial.
        picture_root: folder of the pictures.
        side: of the square, in pixels.
        max_words: of a sentence.
        name: of the data set, for protocols.
        detector_boxes: path of a detector's boxes (weakly supervised evaluation); "things_xyxy" holds them.
    """

    def __init__(
        self,
        referrals: Sequence[Referral],
        picture_root: str | Path,
        side: int = 384,
        max_words: int = 30,
        *,
        name: str = "referrals",
        detector_boxes: str | Path | None = None,
    ) -> None:
        if not referrals:
            raise InputError("there is no sentence to test on; does the split exist in this division?")
        self.picture_root, self.side, self.max_words = picture_root, side, max_words
        self.detected = None if detector_boxes is None else read_detector_boxes(detector_boxes)
        by_picture: dict[int, list[Referral]] = {}
        for one in referrals:
            by_picture.setdefault(one.image_id, []).append(one)
        self.pictures = [by_picture[key] for key in sorted(by_picture)]
        self.metainfo = {"dataset": name, "sentences": len(referrals), "split_sha256": split_digest(referrals)}
        if detector_boxes is not None:
            self.metainfo["candidates_sha256"] = hashlib.sha256(Path(detector_boxes).read_bytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        said = self.pictures[int(index)]
        picture = read_picture(Path(self.picture_root) / said[0].file_name)
        boxes_xywh = np.array([one.box_xywh for one in said], dtype=np.float64)  # (N, 4)
        boxes_cxcywh_norm, _ = whole_view(picture).boxes(boxes_xywh)
        sample = {
            "image": to_tensor(whole_view(picture).picture(picture, self.side)),
            "texts": [clean_caption(one.text, self.max_words) for one in said],
            "boxes_cxcywh_norm": torch.from_numpy(boxes_cxcywh_norm).float(),
            "is_image": torch.zeros(len(said), dtype=torch.bool),
            "image_id": said[0].image_id,
            "boxes_xyxy": torch.from_numpy(_corners(boxes_xywh)).float(),
            "size_hw": (picture.height, picture.width),
            "tags": [(one.split,) for one in said],
        }
        if self.detected is not None:
            found = np.array(self.detected.get(said[0].image_id, ()), dtype=np.float64).reshape(-1, 4)
            sample["things_xyxy"] = torch.from_numpy(_corners(found)).float()
        return sample


def refcoco_training(
    root: str,
    name: str,
    division: str,
    picture_root: str,
    *,
    splits: Sequence[str] = ("train",),
    seed: int = 0,
    verify: bool = True,
    **more: Any,
) -> ReferralTraining:
    """`ReferralTraining` on some splits of an official data set: what a config names."""
    found = [one for one in read_refcoco(root, name, division, verify=verify) if one.split in splits]
    return ReferralTraining(found, picture_root, seed=seed, **more)


def refcoco_test(
    root: str,
    name: str,
    division: str,
    picture_root: str,
    *,
    splits: Sequence[str] = ("val", "testA", "testB"),
    verify: bool = True,
    **more: Any,
) -> ReferralTest:
    """`ReferralTest` on some splits of an official data set: what a config names."""
    found = [one for one in read_refcoco(root, name, division, verify=verify) if one.split in splits]
    return ReferralTest(found, picture_root, name=f"{name}, divided by {division}", **more)


def _corners(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)  # (N, 4)
