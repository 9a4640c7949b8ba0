"""Which classes are base (annotated in training) and which are novel (only named at test), as data.

Sources: OV-COCO 48 / 17 from OVR-CNN (Zareian et al. 2021), as every later paper uses it; LVIS rare classes as novel
from ViLD (arXiv:2104.13921, section 4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovdet.errors import InputError

OV_COCO_BASE = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 7: "train", 8: "truck", 9: "boat", 15: "bench", 16: "bird",
    19: "horse", 20: "sheep", 23: "bear", 24: "zebra", 25: "giraffe", 27: "backpack", 31: "handbag", 33: "suitcase",
    34: "frisbee", 35: "skis", 38: "kite", 42: "surfboard", 44: "bottle", 48: "fork", 50: "spoon", 51: "bowl",
    52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 59: "pizza", 60: "donut",
    62: "chair", 65: "bed", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 78: "microwave",
    79: "oven", 80: "toaster", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase", 90: "toothbrush",
}  # fmt: skip
"""COCO category id -> name of the 48 base classes."""

OV_COCO_NOVEL = {
    5: "airplane", 6: "bus", 17: "cat", 18: "dog", 21: "cow", 22: "elephant", 28: "umbrella", 32: "tie",
    36: "snowboard", 41: "skateboard", 47: "cup", 49: "knife", 61: "cake", 63: "couch", 76: "keyboard", 81: "sink",
    87: "scissors",
}  # fmt: skip
"""COCO category id -> name of the 17 novel classes."""

OV_COCO_UNUSED = {
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 37: "sports ball",
    39: "baseball bat", 40: "baseball glove", 43: "tennis racket", 46: "wine glass", 58: "hot dog",
    64: "potted plant", 67: "dining table", 77: "cell phone", 88: "teddy bear", 89: "hair drier",
}  # fmt: skip
"""COCO category id -> name of the 15 classes that the protocol leaves out."""

GROUPS = ("base", "novel", "unused")


@dataclass(frozen=True)
class Split:
    """The vocabulary of a data set, each name with its group.

    Attributes:
        name: of the protocol, such as "ov-coco-65".
        category_ids: K ids of the annotation file, ascending; label k means `category_ids[k]`.
        names: K names as the annotation file spells them.
        groups: K of "base", "novel" and "unused" (named at test, but counted in neither group).
        frequencies: K of "r", "c" and "f" (rare, common, frequent) for LVIS, else None.
    """

    name: str
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    frequencies: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in ("names", "groups", "frequencies"):
            values = getattr(self, field)
            if values is not None and len(values) != len(self.category_ids):
                raise ValueError(f"{field} must have one entry for each of {len(self.category_ids)} category_ids")
        wrong = set(self.groups) - set(GROUPS)
        if wrong:
            raise ValueError(f"groups must be of {GROUPS}, got {sorted(wrong)}")
        if "base" not in self.groups:
            raise InputError(f"the split {self.name!r} has no base class: there is nothing to train on")

    @property
    def base_mask(self) -> tuple[bool, ...]:
        """K flags: is the class annotated in training?"""
        return tuple(group == "base" for group in self.groups)

    @property
    def digest(self) -> str:
        """SHA-256 of ids, names and groups: equal for two runs if and only if they used the same split."""
        rows = list(zip(self.category_ids, self.names, self.groups, strict=True))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def ov_coco_split(categories: Sequence[Mapping[str, Any]]) -> Split:
    """OV-COCO, 65-way: 48 base and 17 novel classes share one run; the 15 unused classes are no names at all.

    Args:
        categories: of the COCO annotation file; they may be the 80 or only the 65.

    Raises:
        InputError: a class is missing, or an id carries another name than in COCO 2017.
    """
    return _ov_coco(categories, {**OV_COCO_BASE, **OV_COCO_NOVEL}, "ov-coco-65")


def ov_coco_split_80(categories: Sequence[Mapping[str, Any]]) -> Split:
    """OV-COCO as BARON runs it: all 80 names compete, the 15 unused ones are counted in neither group."""
    return _ov_coco(categories, {**OV_COCO_BASE, **OV_COCO_NOVEL, **OV_COCO_UNUSED}, "ov-coco-80")


def lvis_split(categories: Sequence[Mapping[str, Any]]) -> Split:
    """OV-LVIS: frequent and common classes are base, rare ones are novel, by the file's own `frequency`.

    Raises:
        InputError: a category has no frequency r, c or f.
    """
    rows = sorted(categories, key=lambda row: row["id"])
    for index, row in enumerate(rows):
        if row.get("frequency") not in ("r", "c", "f"):
            raise InputError(
                f'categories[{index}] ({row["name"]!r}) has no "frequency" of r, c or f: no LVIS annotation file'
            )
    return Split(
        name=f"ov-lvis-{len(rows)}",
        category_ids=tuple(row["id"] for row in rows),
        names=tuple(row["name"] for row in rows),
        groups=tuple("novel" if row["frequency"] == "r" else "base" for row in rows),
        frequencies=tuple(row["frequency"] for row in rows),
    )


def annotated_split(categories: Sequence[Mapping[str, Any]]) -> Split:
    """The split that the annotation file itself states: each category's "split", "base" where it states none.

    Raises:
        InputError: a category states something else than base, novel or unused.
    """
    rows = sorted(categories, key=lambda row: row["id"])
    for index, row in enumerate(rows):
        if row.get("split", "base") not in GROUPS:
            raise InputError(
                f'categories[{index}] ({row["name"]!r}): "split" must be one of {GROUPS}, got {row["split"]!r}'
            )
    return Split(
        name="annotated",
        category_ids=tuple(row["id"] for row in rows),
        names=tuple(row["name"] for row in rows),
        groups=tuple(row.get("split", "base") for row in rows),
    )


def _ov_coco(categories: Sequence[Mapping[str, Any]], wanted: dict[int, str], name: str) -> Split:
    """The wanted ids in ascending order, after checking that the file means the same by them."""
    found = {row["id"]: row["name"] for row in categories}
    for category_id, class_name in sorted(wanted.items()):
        if found.get(category_id) != class_name:
            raise InputError(
                f"OV-COCO needs category {category_id} to be {class_name!r}, but the annotation file has "
                f"{found.get(category_id)!r} there; use a COCO 2017 file, or another split for other data"
            )
    ids = tuple(sorted(wanted))
    groups = tuple("base" if key in OV_COCO_BASE else "novel" if key in OV_COCO_NOVEL else "unused" for key in ids)
    return Split(name, ids, tuple(wanted[key] for key in ids), groups)
