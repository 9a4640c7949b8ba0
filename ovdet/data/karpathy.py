"""Karpathy's splits of COCO and Flickr30k (arXiv:1412.2306): pictures with five captions, for retrieval and captions.

Read from `dataset_coco.json` / `dataset_flickr30k.json` as published, or from the lists that ALBEF and X-VLM hand on
(training: `{"image", "caption", "image_id"}` a caption; tests: `{"image", "caption": [...]}` a picture).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ovdet.data.augment import ALL_OPERATIONS, RandAugment
from ovdet.data.batches import WHOLE_PICTURE
from ovdet.data.json_rows import check_count, digest_of, read_rows
from ovdet.data.records import read_picture
from ovdet.data.texts import clean_caption
from ovdet.data.views import (
    Augmentation,
    SideWords,
    check_side_words,
    crop_anywhere,
    mirror,
    to_tensor,
    view_generator,
    whole_view,
)
from ovdet.errors import InputError

PICTURES = {
    "coco": {"train": 82783, "restval": 30504, "val": 5000, "test": 5000},
    "flickr30k": {"train": 29000, "val": 1014, "test": 1000},
}
"""Of each official split; training on COCO takes "restval" as well, 113,287 in all."""


@dataclass(frozen=True)
class CaptionedPicture:
    """One picture.

    Attributes:
        file_name: below the folder of pictures.
        captions: as they were said, not cleaned.
        image_id: of COCO, or a number of the file.
        split: "train", "restval", "val" or "test"; "" where the file is of one split.
    """

    file_name: str
    captions: tuple[str, ...]
    image_id: int
    split: str = ""


def read_karpathy(path: str | Path, *, verify: bool = True) -> list[CaptionedPicture]:
    """Read `dataset_coco.json` or `dataset_flickr30k.json`, all splits.

    Args:
        path: of the file.
        verify: refuse other numbers of pictures than the official ones, where the file says which data set it is.

    Raises:
        InputError: the file is missing, of another form, or a number is wrong.
    """
    rows = read_rows(path, {"filename": str, "split": str, "sentences": list}, key="images")
    found = []
    for index, row in enumerate(rows):
        try:
            captions = tuple(one["raw"] for one in row["sentences"])
        except (KeyError, TypeError) as error:
            raise InputError(f'{path}: images[{index}] has a sentence without "raw"') from error
        name = str(Path(row.get("filepath", "")) / row["filename"])
        found.append(CaptionedPicture(name, captions, int(row.get("cocoid", row.get("imgid", index))), row["split"]))
    kind = "coco" if rows and "cocoid" in rows[0] else "flickr30k"
    if verify:
        check_count(f"{path} (Karpathy's {kind})", Counter(one.split for one in found), PICTURES[kind])
    return found


def read_caption_lists(paths: Sequence[str | Path]) -> list[CaptionedPicture]:
    """Read lists of captions or of pictures; captions of one picture are brought together.

    Raises:
        InputError: a file is missing or of another form.
    """
    by_name: dict[str, list[str]] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for row in read_rows(path, {"image": str, "caption": (str, list)}):
            said = row["caption"]
            by_name.setdefault(row["image"], []).extend(said if isinstance(said, list) else [said])
    return [CaptionedPicture(name, tuple(said), _number(name, i)) for i, (name, said) in enumerate(by_name.items())]


def _number(name: str, index: int) -> int:
    """COCO's picture id, which ends its file names; else a number of our own."""
    digits = Path(name).stem.rpartition("_")[2]
    return int(digits) if Path(name).stem.startswith("COCO_") and digits.isdigit() else index


class CaptionTraining(Dataset):
    """One caption and its picture: the form is that of `ovdet.data.batches`; captions of a picture share "image_id".

    As published for retrieval and captions: 50 to 100 % of the picture, mirrored by chance, resized to a square,
    augmented with all operations.

    Args:
        pictures: to train on.
        picture_root: folder of the pictures.
        side: of the square, in pixels.
        max_words: of a caption.
        seed: of the views; with a `Draw` they depend on seed and draw alone.
        prompt: put before the cleaned caption ("a picture of " for the captioner).
        side_words: of mirrored pictures; published: "ignore".
        scale: least and largest share of the picture's area.
        augmentation: of the square.
        references: of the picture's captions so many are drawn and stand in "references", cleaned (all, if it has
            fewer), to judge captions by; 0 leaves them out.
    """

    def __init__(
        self,
        pictures: Sequence[CaptionedPicture],
        picture_root: str | Path,
        side: int = 384,
        max_words: int = 30,
        seed: int = 0,
        *,
        prompt: str = "",
        side_words: SideWords = "ignore",
        references: int = 0,
        scale: tuple[float, float] = (0.5, 1.0),
        augmentation: Augmentation | None = RandAugment(ALL_OPERATIONS),  # noqa: B008 (it has no state)
    ) -> None:
        check_side_words(side_words)
        self.pictures = list(pictures)
        self.rows = [(place, text) for place, one in enumerate(self.pictures) for text in one.captions]
        if not self.rows:
            raise InputError("there is no caption to train on; does the split exist in this file?")
        self.picture_root, self.side, self.max_words, self.seed = picture_root, side, max_words, seed
        self.prompt, self.side_words, self.scale, self.augmentation = prompt, side_words, scale, augmentation
        self.references = references

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place, text = self.rows[int(index)]
        rng = view_generator(self.seed, index)
        one = self.pictures[place]
        picture = read_picture(Path(self.picture_root) / one.file_name)
        view = crop_anywhere(rng, picture.size, self.scale)
        view, ((text,), known) = mirror(rng, view, [[text], one.captions if self.references else ()], self.side_words)
        square = view.picture(picture, self.side)
        sample = {
            "image": to_tensor(self.augmentation(rng, square) if self.augmentation else square),
            "texts": [self.prompt + clean_caption(text, self.max_words)],
            "boxes_cxcywh_norm": torch.tensor([WHOLE_PICTURE]),
            "is_image": torch.tensor([True]),
            "image_id": place,
        }
        if self.references:
            drawn = rng.permutation(len(known))[: self.references]
            sample["references"] = [clean_caption(known[other], self.max_words) for other in drawn]
        return sample


class CaptionTest(Dataset):
    """One picture with all its captions, cleaned; "references" holds them as they were said.

    For retrieval, text j of the whole data set belongs to picture `metainfo["picture_of_text"][j]`.

    Args:
        pictures: to be tested.
        picture_root: folder of the pictures.
        side: of the square, in pixels.
        max_words: of a caption.
        name: of the data set, for protocols.
    """

    def __init__(
        self,
        pictures: Sequence[CaptionedPicture],
        picture_root: str | Path,
        side: int = 384,
        max_words: int = 30,
        *,
        name: str = "captions",
    ) -> None:
        if not pictures:
            raise InputError("there is no picture to test on; does the split exist in this file?")
        self.pictures, self.picture_root = list(pictures), picture_root
        self.side, self.max_words = side, max_words
        self.metainfo = {
            "dataset": name,
            "pictures": len(self.pictures),
            "split_sha256": digest_of([(one.file_name, one.captions) for one in self.pictures]),
            "picture_of_text": [place for place, one in enumerate(self.pictures) for _ in one.captions],
        }

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        one = self.pictures[int(index)]
        picture = read_picture(Path(self.picture_root) / one.file_name)
        count = len(one.captions)
        return {
            "image": to_tensor(whole_view(picture).picture(picture, self.side)),
            "texts": [clean_caption(text, self.max_words) for text in one.captions],
            "boxes_cxcywh_norm": torch.tensor([WHOLE_PICTURE]).repeat(count, 1),
            "is_image": torch.ones(count, dtype=torch.bool),
            "image_id": one.image_id,
            "references": list(one.captions),
        }


def karpathy_training(
    file: str,
    picture_root: str,
    *,
    splits: Sequence[str] = ("train", "restval"),
    seed: int = 0,
    verify: bool = True,
    **more: Any,
) -> CaptionTraining:
    """`CaptionTraining` on some splits of Karpathy's file: what a config names."""
    pictures = [one for one in read_karpathy(file, verify=verify) if one.split in splits]
    return CaptionTraining(pictures, picture_root, seed=seed, **more)


def karpathy_test(
    file: str, picture_root: str, *, split: str = "test", verify: bool = True, **more: Any
) -> CaptionTest:
    """`CaptionTest` on a split of Karpathy's file: what a config names."""
    pictures = [one for one in read_karpathy(file, verify=verify) if one.split == split]
    return CaptionTest(pictures, picture_root, name=f"{Path(file).stem}, {split}", **more)
