"""Masks out of files: pictures, and annotations of a COCO file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from ovdet.errors import InputError


def read_mask(path: str | Path) -> tuple[np.ndarray, bool]:
    """Read a mask file: palette and grey files as (H, W) integers, colour ones as (H, W, 3); and if it has a palette.

    Greys of a JPEG come as (H, W) bool, white or not: its loss leaves no numbers that could stand for classes.

    Raises:
        InputError: it cannot be read, or is no picture.
    """
    try:
        with Image.open(path) as opened:
            if opened.format != "JPEG" and (opened.mode in {"1", "P", "L"} or opened.mode.startswith("I")):
                values = np.asarray(opened)
                whole = values if values.dtype in (bool, np.uint8) else values.astype(np.int32)
                return whole, opened.mode == "P"
            colours = np.asarray(opened.convert("RGB"))
            if opened.format == "JPEG" and (colours == colours[..., :1]).all():
                return colours[..., 0] > 127, False
            return colours, False
    except FileNotFoundError as error:
        raise InputError(f"there is no mask file {path}") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"mask {path} cannot be read: {error}") from error


def read_coco_mask(path: str | Path, annotation_id: int) -> tuple[np.ndarray, str]:
    """Take one mask out of a COCO annotation file.

    Args:
        path: of the file.
        annotation_id: of an annotation with a polygon or a run length (compressed or not).

    Returns:
        (H, W) bool at the size of its picture, and the name of its category.

    Raises:
        InputError: the file cannot be read, or has no such annotation with a mask.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        annotation = next((each for each in content["annotations"] if each["id"] == annotation_id), None)
        if annotation is None:
            known = [each["id"] for each in content["annotations"]]
            span = f"its ids go from {min(known)} to {max(known)}" if known else "it has none"
            raise InputError(f"{path} has no annotation {annotation_id}; {span}")
        picture = next((each for each in content["images"] if each["id"] == annotation["image_id"]), None)
        if picture is None:
            raise InputError(
                f"{path}, annotation {annotation_id}: its picture {annotation['image_id']!r} is not in the file, so "
                "nothing says how large the mask is"
            )
        names = {each["id"]: str(each["name"]) for each in content.get("categories", [])}
        size_hw = (int(picture["height"]), int(picture["width"]))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no COCO annotation file ({type(error).__name__}: {error})") from error
    try:
        mask = mask_of_annotation(annotation, size_hw)
    except InputError as error:
        raise InputError(f"{path}, annotation {annotation_id}: {error}") from error
    return mask, names.get(annotation.get("category_id"), "thing")


def mask_of_annotation(annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    """Draw the polygons or decode the run length of a COCO annotation, (H, W) bool.

    Raises:
        InputError: it has neither, or they are damaged or of another size.
    """
    shape = annotation.get("segmentation")
    if not shape:
        raise InputError("it has no segmentation; give one with polygons or a run length")
    try:
        if isinstance(shape, Mapping):
            runs = shape if isinstance(shape["counts"], str | bytes) else coco_mask.frPyObjects(dict(shape), *size_hw)
            if tuple(int(side) for side in shape["size"]) != tuple(size_hw):
                raise InputError(f"its run length is of size {list(shape['size'])}, its picture of {list(size_hw)}")
        else:
            runs = coco_mask.merge(coco_mask.frPyObjects(shape, *size_hw))
        return coco_mask.decode(dict(runs)).astype(bool)
    except InputError:
        raise
    except Exception as error:  # pycocotools raises plain Exception
        raise InputError(f"its segmentation is damaged ({error})") from error
