"""Where the boxes of a teacher store come from: a file of proposals, or the annotations themselves.

A trained detector's RPN is a third source, `ovdet.vild.extract.BoxesOfRPN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ovdet.data.proposals import Proposals, ProposalSource
from ovdet.data.teacher_store.facts import sha256_of


class BoxesOfFile:
    """The boxes of a `ProposalSource` file; a picture that is not in it has none.

    Args:
        path: .npz.
        limit: boxes of each picture, best first as stored.

    Attributes:
        facts: for the store's index.
        needs_picture: whether the boxes depend on the pixels.
    """

    needs_picture = False

    def __init__(self, path: str | Path, limit: int = 300) -> None:
        self.source, self.limit = ProposalSource.load(path), limit
        self.facts = {"kind": "file", "file": Path(path).name, "sha256": sha256_of(path), "limit": limit}

    def __call__(self, picture: Mapping[str, Any], image_rgb: np.ndarray | None = None) -> Proposals:
        """The proposals of a picture of `OpenVocabularyDataset.get_data_info`."""
        found = self.source[picture["img_id"]]
        return Proposals(found.boxes_xyxy[: self.limit], found.scores[: self.limit])


class BoxesOfAnnotations:
    """The annotated boxes, all of score 1, in the order of the annotation file; crowds are left out.

    For a store that a student is trained with, the pictures should list base classes only (`base_only` of
    `OpenVocabularyDataset`), or the novel boxes would be given away.

    Args:
        split: name of the split and which of its boxes the pictures list, for the index.
    """

    needs_picture = False

    def __init__(self, split: str) -> None:
        self.facts = {"kind": "annotations", "split": split}

    def __call__(self, picture: Mapping[str, Any], image_rgb: np.ndarray | None = None) -> Proposals:
        """The boxes of a picture of `OpenVocabularyDataset.get_data_info`."""
        boxes = [one["bbox"] for one in picture["instances"] if not one["ignore_flag"]]
        return Proposals(np.asarray(boxes, dtype=np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))
