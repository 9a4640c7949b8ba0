"""Examples for `Segmenter` out of all that a user may have: mask files, arrays, boxes, words, sentences.

A box becomes a mask, and words become things, by a detector; a sentence becomes a box by a grounder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ovdet.detector import Detector, Picture, check_box, load_picture
from ovdet.errors import InputError
from ovdet.seggpt.examples import Example
from ovdet.seggpt.mask_files import read_coco_mask

if TYPE_CHECKING:
    from ovdet.grounder import Grounder

Mask: TypeAlias = "str | Path | np.ndarray | tuple[str | Path, int] | Sequence[float]"
"""File, array, (COCO file, annotation id), or x1, y1, x2, y2 in pixels of the picture."""
ExampleLike: TypeAlias = "Example | tuple[Picture, Mask] | tuple[Picture, Mask, str | Sequence[str]]"


def make_example(
    picture: Picture,
    mask: Mask,
    names: str | Sequence[str] | None = None,
    *,
    detector: Callable[[], Detector],
    resize: bool = False,
    color: str = "rgb",
) -> Example:
    """Take a picture and a mask of whichever form.

    Args:
        picture: as `Detector` takes it.
        mask: a file (binary, palette or colours), an array of the same kinds, annotation of a COCO file, or a box.
        names: of the class; or of palette numbers 1, 2, ... or of colours in order. None: the mask's own (a
            category, a palette number, a colour), or "thing".
        detector: gives the one that turns a box into a mask; called only for a box.
        resize: bring a mask of another size to the picture's instead of refusing it.
        color: order of an array's channels.

    Raises:
        InputError: something cannot be read, or makes no example.
    """
    image = load_picture(picture, color)
    if isinstance(mask, str | Path):
        return Example.from_file(image, mask, names, resize=resize)
    if isinstance(mask, np.ndarray) and mask.ndim != 1:
        return Example.of(image, mask, names, resize=resize)
    if _is_annotation(mask):
        file, annotation = mask
        found, category = read_coco_mask(file, annotation)
        try:
            return Example.from_mask(image, found, _one_name(names) or category, resize=resize)
        except InputError as error:
            raise InputError(f"{file}, annotation {annotation}: {error}") from error
    box_xyxy = check_box(mask, image)
    return Example.from_mask(image, detector().masks(image, box_xyxy[None])[0], _one_name(names) or "thing")


def example_of_words(image: np.ndarray, words: str, detector: Detector, *, only_best: bool = False) -> Example | None:
    """What a detector finds by words, as one class of that name; None if it finds nothing.

    Args:
        image: (H, W, 3) uint8 RGB.
        words: a class name.
        detector: that gives masks, or at least boxes.
        only_best: take the surest thing instead of all.
    """
    found = detector(image, [words])
    if only_best:
        found = found[:1]
    masks = found.masks if found.rles is not None else detector.masks(image, found.boxes_xyxy)
    return _union(image, masks, words)


def example_of_sentence(image: np.ndarray, sentence: str, grounder: Grounder, detector: Detector) -> Example | None:
    """What a sentence means, as a class of that name; None if the picture shows no such thing.

    The grounder gives the box, the detector turns it into a mask.
    """
    found = grounder.ground(image, [sentence])[0]
    return None if found.absent else _union(image, detector.masks(image, found.boxes_xyxy[:1]), sentence)


def _union(image: np.ndarray, masks: np.ndarray, name: str) -> Example | None:
    mask = masks.any(axis=0)
    return Example.from_mask(image, mask, name) if mask.any() else None


def _is_annotation(mask: Any) -> bool:
    return isinstance(mask, tuple) and len(mask) == 2 and isinstance(mask[0], str | Path)


def _one_name(names: str | Sequence[str] | None) -> str | None:
    """The name of a mask of one class.

    Raises:
        InputError: several were given.
    """
    given = [names] if isinstance(names, str) else list(names or ())
    if len(given) > 1:
        raise InputError(f"{len(given)} names for a mask of one class")
    return given[0] if given else None
