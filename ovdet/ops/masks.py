"""Binary masks as COCO run lengths: encode, decode, measure. The format and its code are pycocotools'."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Rle = dict[str, Any]
"""A COCO run-length mask: `size` [H, W] and `counts`, a str in the compressed form (so that JSON takes it)."""


def encode_masks(masks: np.ndarray) -> list[Rle]:
    """Compress masks.

    Args:
        masks: (N, H, W), bool or 0/1.

    Returns:
        N run lengths, `counts` as str.
    """
    masks = np.asarray(masks)
    if masks.ndim != 3:
        raise ValueError(f"masks must be (N, H, W), got {masks.shape}")
    rles = []
    for mask in masks:  # one at a time: a Fortran-ordered copy of all N would double the memory
        rle = coco_mask.encode(np.asfortranarray(mask.astype(bool, copy=False).view(np.uint8)))
        rles.append({"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")})
    return rles


def decode_masks(rles: Sequence[Mapping[str, Any]], size_hw: tuple[int, int]) -> np.ndarray:
    """Decompress N run lengths into (N, H, W) bool; N may be 0, hence `size_hw`."""
    masks = np.zeros((len(rles), *size_hw), dtype=bool)
    for index, rle in enumerate(rles):
        masks[index] = coco_mask.decode(dict(rle)).astype(bool)
    return masks


def areas(rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Pixels in each of N masks, (N,) int64."""
    return np.asarray([int(coco_mask.area(dict(rle))) for rle in rles], dtype=np.int64)


def boxes_xyxy_of_masks(masks: np.ndarray) -> np.ndarray:
    """Tight boxes around masks.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 4) float32 in pixel *edges*: a mask of the one pixel (x, y) gives [x, y, x + 1, y + 1]; an empty
        mask gives zeros. (`torchvision.ops.masks_to_boxes` gives pixel centres and refuses empty masks.)
    """
    boxes_xyxy = np.zeros((len(masks), 4), dtype=np.float32)
    for index, mask in enumerate(masks):
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if len(columns):
            boxes_xyxy[index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes_xyxy
