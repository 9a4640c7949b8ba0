"""Grounding: how often the box that a sentence gets is the one that it means.

A box is right at IoU 0.5 and above; every sentence is one trial (RefCOCO's rule). The official code of RefCOCO counts
whole pixels, borders included; both kinds of IoU are given here and named, since close cases fall differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ovdet.errors import InputError

THRESHOLD = 0.5


def plain_iou(first_xyxy: ArrayLike, second_xyxy: ArrayLike) -> np.ndarray:
    """IoU of areas, (N,): boxes (N, 4) against boxes (N, 4), pair by pair; 0 where neither has an area."""
    first, second = _pairs(first_xyxy, second_xyxy)
    size = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.maximum(size, 0).prod(axis=1)
    union = _areas(first) + _areas(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def inclusive_iou(first_xyxy: ArrayLike, second_xyxy: ArrayLike) -> np.ndarray:
    """IoU as the official code of RefCOCO counts it, (N,), pair by pair.

    The last pixel of a box is its border less one, and belongs to it. Boxes whose pixels meet in one row or column
    only do not overlap at all, so two boxes of one pixel have IoU 0.

    Args:
        first_xyxy: (N, 4) corners, right and bottom being left plus width and top plus height.
        second_xyxy: likewise.
    """
    first, second = _pairs(first_xyxy, second_xyxy)
    start = np.maximum(first[:, :2], second[:, :2])
    last = np.minimum(first[:, 2:] - 1, second[:, 2:] - 1)
    shared = np.where((start < last).all(axis=1), (last - start + 1).prod(axis=1), 0.0)
    union = _areas(first) + _areas(second) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


IOUS = {"inclusive": inclusive_iou, "plain": plain_iou}


def grounding_accuracy(
    predicted_xyxy: ArrayLike, truth_xyxy: ArrayLike, tags: Sequence[Sequence[str]] | None = None
) -> dict[str, float]:
    """Shares of sentences whose box is right, in percent.

    Args:
        predicted_xyxy: (N, 4); a row with NaN is "not there" and wrong.
        truth_xyxy: (N, 4).
        tags: for each sentence the names that it counts for besides "all", such as ("testA",).

    Returns:
        "all_inclusive", "all_plain", "testA_inclusive" and so on, and numbers of sentences as "all_sentences" ...

    Raises:
        InputError: there is no sentence, or the numbers of rows differ.
    """
    predicted, truth = _pairs(predicted_xyxy, truth_xyxy)
    if not len(truth):
        raise InputError("there is no sentence to count")
    tags = [()] * len(truth) if tags is None else tags
    if len(tags) != len(truth):
        raise InputError(f"there are {len(truth)} boxes, but tags of {len(tags)} sentences")
    right = {name: iou(np.nan_to_num(predicted), truth) >= THRESHOLD for name, iou in IOUS.items()}
    there = ~np.isnan(predicted).any(axis=1)
    numbers: dict[str, float] = {}
    for tag in ["all", *sorted({tag for own in tags for tag in own})]:
        chosen = np.array([tag == "all" or tag in own for own in tags])
        for name, flags in right.items():
            numbers[f"{tag}_{name}"] = 100 * float((flags & there)[chosen].mean())
        numbers[f"{tag}_sentences"] = int(chosen.sum())
    return numbers


def picked_right(predicted_xyxy: ArrayLike, truth_xyxy: ArrayLike, things_xyxy: ArrayLike) -> bool:
    """Is the thing that a box overlaps most the one that is meant, however loose the box is?

    Args:
        predicted_xyxy: (4,).
        truth_xyxy: (4,), one of the things.
        things_xyxy: (M, 4) all that could be meant.
    """
    things = np.asarray(things_xyxy, dtype=np.float64).reshape(-1, 4)
    if not len(things):
        return False
    overlap = plain_iou(np.tile(np.asarray(predicted_xyxy, dtype=np.float64), (len(things), 1)), things)
    same = plain_iou(np.tile(np.asarray(truth_xyxy, dtype=np.float64), (len(things), 1)), things)
    return bool(overlap.max() > 0 and overlap.argmax() == same.argmax())


def best_box_of_heat(heat: ArrayLike, boxes_xyxy: ArrayLike, exponent: float = 0.5) -> tuple[int, np.ndarray]:
    """The box that holds most of a heat map for its area: weakly supervised grounding (X-VLM, ALBEF, MAttNet's boxes).

    Args:
        heat: (H, W), one value a pixel.
        boxes_xyxy: (M, 4) pixels; parts of a pixel are cut off, as published.
        exponent: of the area that the sum is divided by.

    Returns:
        Index of the best box (the first of equals) and the scores (M,). The official code keeps the last picture's box
        where no score is above 0; here it is the best one all the same.

    Raises:
        InputError: there is no box, or the heat map has not two dimensions.
    """
    values, boxes = np.asarray(heat, dtype=np.float64), np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    if values.ndim != 2 or not len(boxes):
        raise InputError(
            f"a heat map (H, W) and at least one box are wanted, got {values.shape} and {len(boxes)} boxes"
        )
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    limits = [values.shape[1], values.shape[0]] * 2
    x1, y1, x2, y2 = np.clip(boxes.astype(np.int64), 0, limits).T
    x2, y2 = np.maximum(x1, x2), np.maximum(y1, y2)
    sums = total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]  # (M,)
    scores = sums / np.maximum(_areas(boxes), 1e-12) ** exponent
    return int(scores.argmax()), scores


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a = np.asarray(first, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(-1, 4)
    if len(a) != len(b):
        raise InputError(f"boxes are compared pair by pair, got {len(a)} and {len(b)}")
    return a, b
