"""RefCOCO, RefCOCO+ and RefCOCOg from the official files: `<root>/<name>/refs(<splits>).p` and `instances.json`.

The files are those of the authors' own reader (github.com/lichengunc/refer). Pictures are COCO's train2014.
RefCOCO and RefCOCO+ (Yu et al. 2016, arXiv:1608.00272) are divided by "unc" into train, val, testA (people) and testB
(other things), RefCOCO also by "google"; RefCOCOg (Mao et al. 2016, arXiv:1511.02283) by "google" (pictures are on both
sides) and by "umd" (they are not).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ovdet.data.coco import read_annotations
from ovdet.data.plain_pickle import read_plain_pickle
from ovdet.errors import InputError


class Count(NamedTuple):
    """What a split holds. Sentences are None where no source states them."""

    referrals: int
    sentences: int | None
    pictures: int


COUNTS: dict[tuple[str, str], dict[str, Count]] = {
    ("refcoco", "unc"): {
        "train": Count(42404, 120624, 16994),
        "val": Count(3811, 10834, 1500),
        "testA": Count(1975, 5657, 750),
        "testB": Count(1810, 5095, 750),
    },
    ("refcoco", "google"): {
        "train": Count(40000, None, 19213),
        "val": Count(5000, None, 4559),
        "test": Count(5000, None, 4527),
    },
    ("refcoco+", "unc"): {
        "train": Count(42278, 120191, 16992),
        "val": Count(3805, 10758, 1500),
        "testA": Count(1975, 5726, 750),
        "testB": Count(1798, 4889, 750),
    },
    ("refcocog", "google"): {"train": Count(44822, 85474, 24698), "val": Count(5000, 9536, 4650)},
    ("refcocog", "umd"): {
        "train": Count(42226, 80512, 21899),
        "val": Count(2573, 4896, 1300),
        "test": Count(5023, 9602, 2600),
    },
}
"""Of each official division: by TensorFlow Datasets (ref_coco); numbers of sentences: by the papers and their users."""


@dataclass(frozen=True)
class Referral:
    """One sentence about one object.

    Attributes:
        text: as it was said, not cleaned.
        box_xywh: left, top, width, height in pixels of the picture.
        file_name: of the picture.
        size_hw: of the picture, in pixels.
        image_id: of COCO.
        ref_id: of the object's referral; several sentences share it.
        sent_id: of the sentence.
        split: "train", "val", "testA", "testB" or "test".
    """

    text: str
    box_xywh: tuple[float, float, float, float]
    file_name: str
    size_hw: tuple[int, int]
    image_id: int
    ref_id: int
    sent_id: int
    split: str


def read_refcoco(root: str | Path, name: str, division: str, *, verify: bool = True) -> list[Referral]:
    """Read all sentences of a data set, in order of their ids.

    Args:
        root: folder that holds `refcoco`, `refcoco+` or `refcocog`.
        name: of the data set.
        division: "unc", "google" or "umd".
        verify: refuse files whose numbers of referrals, sentences and pictures are not the official ones.

    Raises:
        InputError: no such division, a file is missing, damaged or hostile, rows do not fit, or a number is wrong.
    """
    if (name, division) not in COUNTS:
        known = ", ".join(f"{one} by {other}" for one, other in COUNTS)
        raise InputError(f"there is no {name!r} divided by {division!r}; there are {known}")
    folder = Path(root) / name
    path = folder / f"refs({division}).p"
    rows = read_plain_pickle(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} holds no list of referrals")
    instances = read_annotations(folder / "instances.json")
    pictures = {row["id"]: row for row in instances["images"]}
    boxes = {row["id"]: row for row in instances["annotations"]}
    found = [one for index, row in enumerate(rows) for one in _sentences(path, index, row, pictures, boxes)]
    found.sort(key=lambda one: (one.ref_id, one.sent_id))
    if verify:
        check_counts(found, COUNTS[name, division], f"{name} divided by {division} in {folder}")
    return found


def _sentences(
    path: Path,
    index: int,
    row: Mapping[str, Any],
    pictures: Mapping[int, Mapping[str, Any]],
    boxes: Mapping[int, Mapping[str, Any]],
) -> Iterable[Referral]:
    """All sentences of one referral."""
    try:
        picture, box = pictures[row["image_id"]], boxes[row["ann_id"]]
        for sentence in row["sentences"]:
            yield Referral(
                text=sentence["sent"],
                box_xywh=tuple(box["bbox"]),
                file_name=picture["file_name"],
                size_hw=(picture["height"], picture["width"]),
                image_id=row["image_id"],
                ref_id=row["ref_id"],
                sent_id=sentence["sent_id"],
                split=row["split"],
            )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: referral {index} lacks {error}, or instances.json does") from error


def count_splits(referrals: Iterable[Referral]) -> dict[str, Count]:
    """Referrals, sentences and pictures of each split."""
    sentences: Counter[str] = Counter()
    objects: dict[str, set[int]] = {}
    pictures: dict[str, set[int]] = {}
    for one in referrals:
        sentences[one.split] += 1
        objects.setdefault(one.split, set()).add(one.ref_id)
        pictures.setdefault(one.split, set()).add(one.image_id)
    return {split: Count(len(objects[split]), sentences[split], len(pictures[split])) for split in sentences}


def check_counts(referrals: Iterable[Referral], wanted: Mapping[str, Count], what: str) -> None:
    """Compare with the official numbers.

    Raises:
        InputError: one differs; the first is told.
    """
    found = count_splits(referrals)
    for split in [*wanted, *found]:
        mine, official = found.get(split, Count(0, 0, 0)), wanted.get(split, Count(0, 0, 0))
        for kind, count, should in zip(Count._fields, mine, official, strict=True):
            if should is not None and count != should:
                raise InputError(
                    f"{what}: {split} has {count} {kind}, officially {should}; fetch the files again, or read them "
                    "with verify=False"
                )


def split_digest(referrals: Sequence[Referral]) -> str:
    """SHA-256 of what is asked and where it is: equal for equal evaluations."""
    content = [(one.sent_id, one.ref_id, one.image_id, one.text, one.box_xywh, one.split) for one in referrals]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_detector_boxes(path: str | Path) -> dict[int, list[tuple[float, float, float, float]]]:
    """Boxes of a detector by picture id, `{"id": [[left, top, width, height, ...], ...]}` (MAttNet's dets.json).

    Raises:
        InputError: the file is missing or of another form.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        return {int(key): [tuple(float(v) for v in box[:4]) for box in boxes] for key, boxes in content.items()}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not hold boxes by picture id ({error})") from error


def pictures_to_leave_out(root: str | Path, names: Sequence[str] = ("refcoco", "refcoco+", "refcocog")) -> set[int]:
    """Pictures of any split but train: whoever pre-trains on COCO or Visual Genome should leave them out.

    Args:
        root: as of `read_refcoco`.
        names: data sets to look into; RefCOCOg is divided by "umd", the others by "unc".

    Raises:
        InputError: as `read_refcoco`.
    """
    found: set[int] = set()
    for name in names:
        for one in read_refcoco(root, name, "umd" if name == "refcocog" else "unc"):
            if one.split != "train":
                found.add(one.image_id)
    return found
