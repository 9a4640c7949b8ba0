"""Pictures cut into segments: what in-context colouring and few-shot episodes are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ovdet.data.stickers.colours import CLEARLY, PERHAPS, WORDS, colour_shares, colour_words
from ovdet.errors import InputError

NOTHING = -1
"""Owner or key of pixels that belong to no segment: they are painted black."""
IGNORED = -2
"""Owner or key of pixels that nobody judges: no loss, no score."""
PART_SHARE = 0.12
"""A colour is a part of a thing if it covers at least this share of it."""


@dataclass(frozen=True, eq=False)
class SegmentedPicture:
    """A picture, and which of N segments owns each pixel.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        owner: (H, W) int32, an index of a segment, `NOTHING` or `IGNORED`.
        keys: (N,) int64, what each segment is, such as its class; segments of one key get one colour. Keys are
            compared between pictures of one data set and are not negative.

    Raises:
        ValueError: the shapes do not fit, or an owner is no segment.
    """

    image: np.ndarray
    owner: np.ndarray
    keys: np.ndarray

    def __post_init__(self) -> None:
        keys = np.asarray(self.keys, dtype=np.int64).reshape(-1)
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}")
        if self.owner.shape != self.image.shape[:2]:
            raise ValueError(f"owner must be {self.image.shape[:2]} like the picture, got {self.owner.shape}")
        if self.owner.size and not IGNORED <= self.owner.min() <= self.owner.max() < len(keys):
            raise ValueError(f"owner must index {len(keys)} keys, got {self.owner.min()} to {self.owner.max()}")
        if len(keys) and keys.min() < 0:
            raise ValueError(f"keys must not be negative, got {keys.min()}")
        object.__setattr__(self, "keys", keys)

    @property
    def key_map(self) -> np.ndarray:
        """(H, W) int64: key of each pixel's owner, `NOTHING` or `IGNORED`."""
        return np.append(self.keys, (IGNORED, NOTHING))[self.owner]  # -2 and -1 count from the end

    def mask(self, key: int) -> np.ndarray:
        """(H, W) bool: pixels of all segments of a key."""
        return self.key_map == key

    def shown(self, min_pixels: int = 1) -> np.ndarray:
        """Keys that at least so many pixels have, ascending."""
        return shown_keys(self.key_map, min_pixels)


def shown_keys(key_map: np.ndarray, min_pixels: int = 1) -> np.ndarray:
    """Keys that at least so many pixels of a key map have, ascending."""
    keys, counts = np.unique(key_map, return_counts=True)
    return keys[(keys >= 0) & (counts >= min_pixels)]


def cut(
    image: np.ndarray, masks: Iterable[np.ndarray], keys: Iterable[int], ignored: np.ndarray | None = None
) -> SegmentedPicture:
    """A picture with masks that may overlap; where they do, the smaller segment is on top.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: N of (H, W) bool.
        keys: N of them.
        ignored: (H, W) bool, pixels that nobody judges, unless a segment covers them.
    """
    masks = list(masks)
    areas = [int(mask.sum()) for mask in masks]
    owner = np.full(image.shape[:2], NOTHING, np.int32)
    if ignored is not None:
        owner[ignored] = IGNORED
    for index in sorted(range(len(masks)), key=lambda i: -areas[i]):
        owner[masks[index]] = index
    return SegmentedPicture(image, owner, np.asarray(list(keys), dtype=np.int64))


def by_instance(picture: SegmentedPicture) -> SegmentedPicture:
    """Every segment a key of its own; they mean something within this picture alone."""
    return replace(picture, keys=np.arange(len(picture.keys)))


def by_colour(picture: SegmentedPicture) -> SegmentedPicture:
    """Segments of a clear colour under that colour's key, an index into `WORDS`; nobody judges the doubtful ones."""
    owner = picture.owner.copy()
    keys = np.zeros_like(picture.keys)
    for index in range(len(keys)):
        inside = picture.owner == index
        shares = colour_shares(picture.image[inside])
        keys[index] = int(shares.argmax())
        if shares.max() < CLEARLY:
            owner[inside] = IGNORED if shares.max() >= PERHAPS else NOTHING
    return replace(picture, owner=owner, keys=keys)


def by_part(picture: SegmentedPicture) -> SegmentedPicture:
    """Segments cut into their larger colours: "the red of the mushroom" is one key wherever mushrooms are.

    For pictures without annotated parts. Data sets of parts have a class for each and need no cutting. Colours that
    cover too little of a thing stay nobody's.
    """
    owner = np.where(picture.owner == IGNORED, IGNORED, NOTHING).astype(np.int32)
    keys: list[int] = []
    for index, key in enumerate(picture.keys.tolist()):
        rows, columns = np.nonzero(picture.owner == index)
        words = colour_words(picture.image[rows, columns])
        counts = np.bincount(words, minlength=len(WORDS))
        for word in np.flatnonzero(counts >= max(1, PART_SHARE * len(words))).tolist():
            owner[rows[words == word], columns[words == word]] = len(keys)
            keys.append(key * len(WORDS) + word)
    return SegmentedPicture(picture.image, owner, np.asarray(keys, dtype=np.int64))


def read_rgb(path: str | Path) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB, as it is stored: annotations were made on that.

    Raises:
        InputError: the file is missing or no picture.
    """
    with _opened(path) as image:
        return np.asarray(image.convert("RGB"))


def read_upright_rgb(path: str | Path, size_hw: tuple[int, int]) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB, turned by its EXIF tag where only that gives it the stated size.

    Raises:
        InputError: the file is missing or no picture, or has another size.
    """
    with _opened(path) as image:
        for candidate in (image, ImageOps.exif_transpose(image)):
            if candidate.size == tuple(size_hw[::-1]):
                return np.asarray(candidate.convert("RGB"))
        raise InputError(
            f"the picture {path} is {image.width} x {image.height} pixels, but its annotations are for "
            f"{size_hw[1]} x {size_hw[0]}"
        )


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label picture as (H, W) integers: palette indices, grey values, or 16-bit numbers.

    Raises:
        InputError: the file is missing or no picture, or is in colour (where a label could be anything).
    """
    with _opened(path) as image:
        if image.mode not in ("P", "L", "1", "I", "I;16", "I;16B", "I;16L"):
            raise InputError(f"{path} is a picture in colour ({image.mode}); labels must be palette indices or grey")
        return np.asarray(image).astype(np.int32)


def read_grey(path: str | Path) -> np.ndarray:
    """Read a picture as (H, W) uint8 grey values.

    Raises:
        InputError: the file is missing or no picture.
    """
    with _opened(path) as image:
        return np.asarray(image.convert("L"))


def _opened(path: str | Path) -> Image.Image:
    """A picture, decoded."""
    try:
        image = Image.open(path)
        image.load()
        return image
    except FileNotFoundError as error:
        raise InputError(f"there is no picture {path}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no picture in a format that can be read") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"the picture {path} is damaged or cut short ({error})") from error
