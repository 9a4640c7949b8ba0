"""NLVR2 (arXiv:1811.00491): is a sentence true of two pictures? From official files, or ALBEF's and X-VLM's lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.augment import ALL_OPERATIONS, RandAugment
from ovdet.data.json_rows import check_count, digest_of, read_lines, read_rows
from ovdet.data.records import read_picture
from ovdet.data.texts import clean_caption
from ovdet.data.views import Augmentation, SideWords, crop_anywhere, mirror, to_tensor, view_generator, whole_view
from ovdet.errors import InputError

SENTENCES = {"train": 86373, "dev": 6982, "test1": 6967}
"""Of the official splits; "test1" is the public test, test-P."""


@dataclass(frozen=True)
class Pair:
    """One sentence about two pictures.

    Attributes:
        text: as it was said, not cleaned.
        file_names: of the left and the right picture.
        label: is it true?
        identifier: of the sentence and its pair; "" if unknown.
    """

    text: str
    file_names: tuple[str, str]
    label: bool
    identifier: str = ""


def read_nlvr2(path: str | Path, *, verify: bool = True) -> list[Pair]:
    """Read `train.json`, `dev.json` or `test1.json`, one object a line.

    Pictures are named as in the authors' archive: `images/train/<directory>/<pair>-img0.png`, `dev/<pair>-img0.png`.

    Args:
        path: of the file.
        verify: refuse another number of sentences than the split's, where the file's name tells the split.

    Raises:
        InputError: the file is missing or of another form, or the number is wrong.
    """
    rows = read_lines(path, {"identifier": str, "sentence": str, "label": str})
    found = []
    for index, row in enumerate(rows):
        pair, _, _ = row["identifier"].rpartition("-")
        split, _, _ = pair.partition("-")
        if row["label"] not in ("True", "False") or not pair:
            raise InputError(f"{path}: row {index} has the label {row['label']!r} or identifier {row['identifier']!r}")
        folder = f"images/train/{row['directory']}" if split == "train" and "directory" in row else split
        names = (f"{folder}/{pair}-img0.png", f"{folder}/{pair}-img1.png")
        found.append(Pair(row["sentence"], names, row["label"] == "True", row["identifier"]))
    split = Path(path).stem
    if verify and split in SENTENCES:
        check_count(str(path), {f"sentences of {split}": len(found)}, {f"sentences of {split}": SENTENCES[split]})
    return found


def read_pair_lists(paths: Sequence[str | Path]) -> list[Pair]:
    """Read lists of `{"sentence", "images": [left, right], "label": "True" or "False"}`.

    Raises:
        InputError: a file is missing or of another form.
    """
    found = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for index, row in enumerate(read_rows(path, {"sentence": str, "images": list, "label": (str, bool)})):
            if len(row["images"]) != 2 or str(row["label"]) not in ("True", "False"):
                raise InputError(f"{path}: row {index} needs two images and the label True or False")
            found.append(Pair(row["sentence"], tuple(row["images"]), str(row["label"]) == "True"))
    return found


class PairData(Dataset):
    """Sentences with two pictures: "images" (2, 3, S, S) uint8, "text" and "label" (1 true, 0 false).

    In training each picture is cut, mirrored and augmented on its own, as published; in tests it is resized alone.

    Args:
        pairs: of sentences and pictures.
        picture_root: folder of the pictures.
        side: of the squares, in pixels.
        max_words: of a sentence.
        seed: of the views; with a `Draw` they depend on seed and draw alone.
        training: as above.
        name: of the data set, for protocols.
        side_words: of mirrored pictures; published: "ignore".
        augmentation: of the squares, in training.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        picture_root: str | Path,
        side: int = 384,
        max_words: int = 30,
        seed: int = 0,
        *,
        training: bool = False,
        name: str = "pairs",
        side_words: SideWords = "ignore",
        augmentation: Augmentation | None = RandAugment(ALL_OPERATIONS),  # noqa: B008 (it has no state)
    ) -> None:
        if side_words == "swap":
            raise InputError("side_words='swap' cannot be: the two pictures of a pair are mirrored one by one")
        if not pairs:
            raise InputError("there is no sentence; does the file hold any?")
        self.pairs, self.picture_root, self.side, self.max_words = list(pairs), picture_root, side, max_words
        self.seed, self.training, self.side_words, self.augmentation = seed, training, side_words, augmentation
        content = [(one.text, one.file_names, one.label) for one in self.pairs]
        self.metainfo = {"dataset": name, "sentences": len(self.pairs), "split_sha256": digest_of(content)}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        one = self.pairs[int(index)]
        rng = view_generator(self.seed, index)
        squares = [self._square(rng, name, one.text) for name in one.file_names]
        return {
            "images": torch.stack(squares),
            "text": clean_caption(one.text, self.max_words),
            "label": int(one.label),
        }

    def _square(self, rng: np.random.Generator, name: str, text: str) -> torch.Tensor:
        picture = read_picture(Path(self.picture_root) / name)
        if not self.training:
            return to_tensor(whole_view(picture).picture(picture, self.side))
        view, _ = mirror(rng, crop_anywhere(rng, picture.size, (0.5, 1.0)), [[text]], self.side_words)
        square = view.picture(picture, self.side)
        return to_tensor(self.augmentation(rng, square) if self.augmentation else square)


def collate_pairs(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of B sentences: first, second (B, 3, S, S) uint8, texts (B strings) and label (B,) int64."""
    images = torch.stack([sample["images"] for sample in samples])  # (B, 2, 3, S, S)
    return {
        "first": images[:, 0],
        "second": images[:, 1],
        "texts": [sample["text"] for sample in samples],
        "label": torch.tensor([sample["label"] for sample in samples]),
    }


def pair_lists(files: Sequence[str], picture_root: str, seed: int = 0, **more: Any) -> PairData:
    """`PairData` on lists: what a config names."""
    return PairData(
        read_pair_lists(files), picture_root, seed=seed, name=", ".join(Path(f).stem for f in files), **more
    )


def nlvr2_pairs(file: str, picture_root: str, *, seed: int = 0, verify: bool = True, **more: Any) -> PairData:
    """`PairData` on an official file: what a config names."""
    return PairData(read_nlvr2(file, verify=verify), picture_root, seed=seed, name=f"NLVR2 {Path(file).stem}", **more)
