"""Compare what was found with what was drawn by hand: greedy matching, recall, false alarms. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Found:
    """One detection: its name, its score and its box in pixels of the picture."""

    name: str
    score: float
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Verdict:
    """What became of one picture's detections and objects.

    Attributes:
        hits: pairs (object index, detection index).
        missed: indices of the objects that no detection claims.
        false_alarms: indices of the detections that are wrong: other place, absent thing, or a second box.
        ignored: indices of the detections that lie where nothing is judged.
    """

    hits: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    false_alarms: tuple[int, ...]
    ignored: tuple[int, ...]


def overlap_matrix(first_xyxy: np.ndarray, second_xyxy: np.ndarray, of: str = "union") -> np.ndarray:
    """Shared area of each pair of boxes, as a part of the union or of the first box.

    Args:
        first_xyxy: (N, 4).
        second_xyxy: (M, 4).
        of: "union" (IoU) or "first".

    Returns:
        (N, M) in [0, 1]; 0 where the divisor is empty.
    """
    first, second = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (first_xyxy, second_xyxy))
    low = np.maximum(first[:, None, :2], second[None, :, :2])  # (N, M, 2)
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)  # (N, M)
    first_area = np.prod(first[:, 2:] - first[:, :2], axis=1)[:, None]  # (N, 1)
    second_area = np.prod(second[:, 2:] - second[:, :2], axis=1)[None, :]  # (1, M)
    whole = first_area + second_area - shared if of == "union" else np.broadcast_to(first_area, shared.shape)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def judge(
    found: Sequence[Found],
    objects: Sequence[tuple[str, Sequence[float]]],
    ignore: Sequence[tuple[str, Sequence[float]]] = (),
    *,
    iou: float = 0.5,
    blind: bool = False,
) -> Verdict:
    """Match detections to objects, best score first.

    A detection takes the free object of its name that it overlaps most, if by `iou` or more. Else it is ignored if
    half of its area or more lies in an ignored box of its name; else it is a false alarm. A second box on an
    object that is already taken is a false alarm.

    Args:
        found: detections of one picture, any order; ties in score keep that order.
        objects: (name, box) of every object.
        ignore: (name, box) of every place where that name is not judged.
        iou: least intersection over union of a hit.
        blind: names do not count; only places do.
    """
    boxes = np.array([detection.xyxy for detection in found]).reshape(-1, 4)
    ious = overlap_matrix(boxes, np.array([box for _, box in objects]))
    inside = overlap_matrix(boxes, np.array([box for _, box in ignore]), of="first")
    free = set(range(len(objects)))
    hits, false_alarms, ignored = [], [], []
    for index in sorted(range(len(found)), key=lambda index: -found[index].score):
        name = found[index].name
        fitting = [k for k in sorted(free) if (blind or objects[k][0] == name) and ious[index, k] >= iou]
        if fitting:
            best = max(fitting, key=lambda k: ious[index, k])
            free.remove(best)
            hits.append((best, index))
        elif any((blind or ignore[k][0] == name) and inside[index, k] >= 0.5 for k in range(len(ignore))):
            ignored.append(index)
        else:
            false_alarms.append(index)
    return Verdict(tuple(hits), tuple(sorted(free)), tuple(false_alarms), tuple(ignored))


def ratio(part: int, whole: int) -> float | None:
    """Part over whole, None when the whole is empty."""
    return part / whole if whole else None
