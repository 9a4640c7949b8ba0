"""Semantic data sets of one label picture a photograph: ADE20K, Pascal VOC, and any folders laid out like them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from ovdet.data.segments import IGNORED, NOTHING, SegmentedPicture, read_labels, read_rgb
from ovdet.errors import InputError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The 20 classes of Pascal VOC; class k has the label k + 1."""


class LabelMaps:
    """Photographs and label pictures of the same names in two folders; a `PictureSource` of classes.

    Args:
        images: folder of the photographs.
        maps: folder of the label pictures (palette or grey).
        names: pictures to take, without suffix; None takes all label pictures there are.
        key_of: label in the file -> class from 0; labels that are not in it are nothing.
        ignored: labels that nobody judges.
        class_names: K names of the classes.
        images_end: what a photograph's name has after the common part, before the suffix.
        maps_end: the same of a label picture (Cityscapes: "_leftImg8bit" and "_gtFine_labelTrainIds").

    Raises:
        InputError: a folder or picture is missing, or there is nothing in it.
    """

    def __init__(
        self,
        images: str | Path,
        maps: str | Path,
        names: Sequence[str] | None,
        key_of: Mapping[int, int],
        ignored: Sequence[int],
        class_names: Sequence[str],
        images_end: str = "",
        maps_end: str = "",
    ) -> None:
        self.images, self.maps = Path(images), Path(maps)
        self._images_end, self._maps_end = images_end, maps_end
        for folder in (self.images, self.maps):
            if not folder.is_dir():
                raise InputError(f"there is no folder {folder}")
        self.names = self._all_names() if names is None else list(names)
        if not self.names:
            raise InputError(f"{self.maps} has no label picture (.png)")
        self.class_names = tuple(class_names)
        self._key_of, self._ignored = dict(key_of), tuple(ignored)
        self._position = {name: index for index, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def _all_names(self) -> list[str]:
        """Label pictures of the folder and those below it, as paths without what they end in."""
        end = f"{self._maps_end}.png"
        return sorted(path.relative_to(self.maps).as_posix().removesuffix(end) for path in self.maps.rglob(f"*{end}"))

    @cached_property
    def _keys(self) -> list[tuple[int, ...]]:
        """Classes of each picture. All label pictures are read for it once, by the first who asks."""
        return [tuple(np.unique(keys[keys >= 0]).tolist()) for keys in map(self.key_map, range(len(self)))]

    def keys_of(self, index: int) -> tuple[int, ...]:
        """Classes of one picture."""
        return self._keys[index]

    def key_map(self, index: int) -> np.ndarray:
        """(H, W) int32: class of each pixel, `NOTHING` or `IGNORED`.

        Raises:
            InputError: the label picture is missing or no label picture.
        """
        labels = read_labels(self.maps / f"{self.names[index]}{self._maps_end}.png")
        table = np.full(max(int(labels.max(initial=0)), *self._key_of, *self._ignored, 0) + 1, NOTHING, np.int32)
        for label, key in self._key_of.items():
            table[label] = key
        table[list(self._ignored)] = IGNORED
        return table[labels]

    def __getitem__(self, index: int) -> SegmentedPicture:
        image, keys = self.picture(self.names[index]), self.key_map(index)
        if keys.shape != image.shape[:2]:
            raise InputError(
                f"{self.names[index]}: the picture is {image.shape[1]} x {image.shape[0]}, its label picture "
                f"{keys.shape[1]} x {keys.shape[0]}"
            )
        return SegmentedPicture(image, keys, np.arange(len(self.class_names)))

    def picture(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one name.

        Raises:
            InputError: there is no such picture.
        """
        for suffix in PICTURES:
            if (path := self.images / f"{name}{self._images_end}{suffix}").is_file():
                return read_rgb(path)
        raise InputError(f"{self.images} has no picture {name} (.jpg, .png ...)")

    def mask(self, name: str, label: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) bool of a class, and of the pixels that are judged."""
        if name not in self._position:
            raise InputError(f"{self.maps} has no label picture {name}")
        keys = self.key_map(self._position[name])
        return keys == label, keys != IGNORED


def ade20k(root: str | Path, part: str = "training", class_names: Sequence[str] | None = None) -> LabelMaps:
    """ADE20K as the scene parsing challenge lays it out: 150 classes, label 0 is not judged.

    Args:
        root: folder ADEChallengeData2016, with images/ and annotations/, each with training/ and validation/, and
            objectInfo150.txt, whose names are taken.
        part: "training" (20,210 pictures) or "validation" (2,000).
        class_names: 150 names; None reads the file.
    """
    root = Path(root)
    class_names = ade_names(root) if class_names is None else class_names
    keys = {label: label - 1 for label in range(1, len(class_names) + 1)}
    return LabelMaps(root / "images" / part, root / "annotations" / part, None, keys, (0,), class_names)


def pascal_voc(root: str | Path, part: str = "train", maps: str = "SegmentationClassAug") -> LabelMaps:
    """Pascal VOC 2012: 20 classes; background is nothing, label 255 is not judged.

    Args:
        root: folder with JPEGImages/, the folder of label pictures and ImageSets/Segmentation/PART.txt.
        part: name of the list, such as "train", "val" or "train_aug"; "" takes all label pictures.
        maps: "SegmentationClass", or "SegmentationClassAug" with SBD's (10,582 to train on).

    Raises:
        InputError: a folder or the list is missing.
    """
    root = Path(root)
    names = read_names(root / "ImageSets" / "Segmentation" / f"{part}.txt") if part else None
    keys = {label: label - 1 for label in range(1, 21)}
    return LabelMaps(root / "JPEGImages", root / maps, names, keys, (255,), VOC_NAMES)


def label_folders(
    images: str | Path,
    maps: str | Path,
    class_names: Sequence[str] | int,
    first_label: int = 0,
    nothing: Sequence[int] = (),
    ignored: Sequence[int] = (255,),
    images_end: str = "",
    maps_end: str = "",
) -> LabelMaps:
    """Any two folders (Cityscapes' trainIds, LIP, LoveDA, vessels ...): label first_label + k is class k.

    Args:
        images: of the photographs.
        maps: of the label pictures.
        class_names: K of them, or K alone.
        first_label: label of the first class.
        nothing: labels of classes that are never asked for, such as a background.
        ignored: labels that nobody judges.
        images_end: see `LabelMaps`.
        maps_end: see `LabelMaps`.
    """
    if isinstance(class_names, int):
        class_names = [str(key) for key in range(class_names)]
    keys = {first_label + key: key for key in range(len(class_names)) if first_label + key not in nothing}
    return LabelMaps(images, maps, None, keys, ignored, class_names, images_end, maps_end)


def read_names(path: str | Path) -> list[str]:
    """The lines of a list file, without empty ones.

    Raises:
        InputError: the file is missing or empty.
    """
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list {path}: {error}") from error
    if not names:
        raise InputError(f"the list {path} is empty")
    return names


class NamedPictures(Protocol):
    """Pictures with names, and the classes that each shows."""

    names: list[str]

    def keys_of(self, index: int) -> tuple[int, ...]:
        """Classes of one picture."""


def examples_of_classes(source: NamedPictures, count: int, seed: int) -> dict[int, tuple[str, ...]]:
    """For each class `count` random pictures that show it, none twice: SegGPT's examples for ADE20K.

    The paper takes the best of the seeds 1000, 2000, 3000 and 4000; state which ones were run.

    Args:
        source: training pictures.
        count: of a class; a class of fewer pictures gives all it has.
        seed: of the draw; each class has a stream of its own.

    Returns:
        Class -> names, for classes that some picture shows.
    """
    showing: dict[int, list[str]] = {}
    for index, name in enumerate(source.names):
        for key in sorted(set(source.keys_of(index))):
            showing.setdefault(key, []).append(name)
    chosen = {}
    for key, names in sorted(showing.items()):
        rng = np.random.default_rng((seed, key))
        chosen[key] = tuple(names[i] for i in rng.choice(len(names), min(count, len(names)), replace=False))
    return chosen


def names_digest(names: Sequence[str]) -> str:
    """SHA-256 of a list of names, for the protocol of a result."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def ade_names(root: str | Path) -> tuple[str, ...]:
    """The 150 class names of ADE20K: first synonym of each, out of the challenge's table, ROOT/objectInfo150.txt.

    Raises:
        InputError: it cannot be read, or is another table.
    """
    path = Path(root) / "objectInfo150.txt"
    rows = [line.split("\t") for line in read_names(path)]
    names = tuple(row[-1].split(",")[0].strip() for row in rows if row[0].strip().isdigit())
    if not names:
        raise InputError(f"{path} has no rows of Idx, Ratio, Train, Val and Name with tabs between them")
    return names
