"""Stand-ins for mmcv's operators on boxes: nms, soft nms, nms with its groups, overlaps.

Signatures are those that mmcv/ops/nms.py and bbox.py call; boxes are (x1, y1, x2, y2) in any one frame, and
`offset` (0 or 1) is added to each width and height.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from torch import Tensor

SOFT_NMS_METHODS = ("naive", "linear", "gaussian")
"""mmcv hands over the index into this."""


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype that an operator computes in: float64 for float64, float32 for everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Keep the best box of every heap: torchvision's nms on boxes that are `offset` larger.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: A box goes when it overlaps a better kept one by more than this.
        offset: 0 or 1.

    Returns:
        (M,) int64, indices of the kept boxes, best first.
    """
    dtype = torch.promote_types(working_dtype(boxes), working_dtype(scores))
    corners = boxes.to(dtype)
    if offset:
        corners = corners + corners.new_tensor([0.0, 0.0, offset, offset])
    return torchvision.ops.nms(corners, scores.to(dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the score of what overlaps a better box instead of removing it (arXiv:1704.04503).

    Args:
        boxes: (N, 4), on the CPU: mmcv moves it there.
        scores: (N,).
        dets: (N, 5), written in place: the kept boxes with their new scores, in the order they were picked.
        iou_threshold: Overlaps from here on count (naive, linear).
        sigma: The width of the gaussian.
        min_score: Boxes that fall below it are dropped.
        method: Index into `SOFT_NMS_METHODS`.
        offset: 0 or 1.

    Returns:
        (M,) int64, indices of the kept boxes in the order of `dets`.
    """
    corners = boxes.detach().to(working_dtype(boxes)).numpy().T.copy()
    left = scores.detach().to(working_dtype(boxes)).numpy().copy()
    areas = _areas(corners, offset)
    kept: list[int] = []
    kept_scores: list[float] = []
    alive = np.ones(len(left), dtype=bool)
    while alive.any():
        candidates = np.flatnonzero(alive)
        best = int(candidates[left[candidates].argmax()])
        kept.append(best)
        kept_scores.append(float(left[best]))
        overlap = _iou_with(best, corners, areas, offset)
        left *= _soft_weight(overlap, SOFT_NMS_METHODS[method], iou_threshold, sigma)
        alive &= left >= min_score
        alive[best] = False
    keep = torch.tensor(kept, dtype=torch.long)
    dets[: len(kept), :4] = boxes[keep].to(dets.dtype)
    dets[: len(kept), 4] = torch.tensor(kept_scores, dtype=dets.dtype)
    return keep


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Do nms and say which boxes each kept one suppressed.

    Args:
        dets: (N, 5) boxes and scores, on the CPU.
        iou_threshold: Overlaps from here on suppress.

    Returns:
        One list of indices for every kept box, best first: the box itself, then what it suppressed, by score.
    """
    order = dets[:, 4].sort(descending=True, stable=True).indices.numpy()
    corners = dets[:, :4].to(working_dtype(dets)).numpy()[order].T.copy()
    areas = _areas(corners, offset=0)
    free = np.ones(len(order), dtype=bool)
    groups: list[list[int]] = []
    for rank in range(len(order)):
        if not free[rank]:
            continue
        free[rank] = False
        hit = free & (_iou_with(rank, corners, areas, offset=0) >= iou_threshold)
        free &= ~hit
        groups.append([int(order[rank]), *order[hit].tolist()])
    return groups


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Write the overlap of boxes into `ious`.

    Args:
        bboxes1: (M, 4).
        bboxes2: (N, 4).
        ious: (M, N), or (M,) when aligned; written in place.
        mode: 0 intersection over union, 1 intersection over the area of the first.
        aligned: Row by row, instead of all with all.
        offset: 0 or 1.
    """
    first, second = (boxes.to(working_dtype(ious)) for boxes in (bboxes1, bboxes2))
    if not aligned:
        first, second = first[:, None], second[None]
    size = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2]) + offset
    inter = size.clamp(min=0).prod(-1)
    area1, area2 = ((boxes[..., 2:] - boxes[..., :2] + offset).prod(-1) for boxes in (first, second))
    base = area1 if mode == 1 else area1 + area2 - inter
    ious.copy_(inter / base.clamp(min=max(float(offset), 1e-6)))


def _areas(corners: np.ndarray, offset: int) -> np.ndarray:
    """Areas (N,) of boxes given as (4, N)."""
    x1, y1, x2, y2 = corners
    return (x2 - x1 + offset) * (y2 - y1 + offset)


def _iou_with(index: int, corners: np.ndarray, areas: np.ndarray, offset: int) -> np.ndarray:
    """Overlap (N,) of one of the boxes (4, N) with each; NaN, which passes no threshold, where both are empty."""
    x1, y1, x2, y2 = corners
    width = np.minimum(x2[index], x2) - np.maximum(x1[index], x1) + offset
    height = np.minimum(y2[index], y2) - np.maximum(y1[index], y1) + offset
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return inter / (areas[index] + areas - inter)


def _soft_weight(overlap: np.ndarray, method: str, iou_threshold: float, sigma: float) -> np.ndarray:
    if method == "gaussian":
        return np.exp(-(np.nan_to_num(overlap) ** 2) / sigma)
    weight = 0.0 if method == "naive" else 1.0 - overlap
    return np.where(overlap >= iou_threshold, weight, 1.0)
