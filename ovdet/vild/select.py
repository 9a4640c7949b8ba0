"""From class scores on shared boxes to the best detections, in bounded memory.

1000 regions and 10,000 names make 10 million candidates. They are scored in blocks of regions, of which only the
best stay, and the answer is still exactly that of sorting them all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import batched_nms

BLOCK_SCORES = 2_000_000
"""Scores computed at once: 8 MB of float32, some four times that while they are computed."""

FIRST_CANDIDATES = 4_000
"""Candidates that are tried before more are asked for."""


def select_detections(
    boxes_xyxy: Tensor,
    score_rows: Callable[[slice], Tensor],
    classes: int,
    *,
    score_thr: float,
    nms_iou: float,
    max_dets: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Suppress per class on boxes that all classes share; keep the best.

    Whether a candidate survives depends on better ones only, so the survivors among the best `limit` candidates
    are the first survivors of all: if they are fewer than asked for, and candidates were cut off, the limit grows.
    Each class keeps at least its best box, hence max_dets * N candidates are always enough.

    Args:
        boxes_xyxy: (N, 4).
        score_rows: gives the scores (n, K) of a slice of the N boxes.
        classes: K.
        score_thr: scores at or below it are no candidates.
        nms_iou: overlap above which the lower score of the same class goes.
        max_dets: kept at most.

    Returns:
        positions (n,) in boxes_xyxy, scores (n,) and labels (n,), best first.
    """
    enough = max(max_dets * len(boxes_xyxy), 1)
    limit = min(max(FIRST_CANDIDATES, max_dets), enough)
    while True:
        positions, scores, labels, cut_off = best_candidates(len(boxes_xyxy), score_rows, classes, score_thr, limit)
        # torchvision parts classes by shifting boxes; in float32 the 10,000th class would be shifted off its pixels
        keep = batched_nms(boxes_xyxy[positions].double(), scores.double(), labels, nms_iou)[:max_dets]
        if len(keep) == max_dets or not cut_off or limit >= enough:
            return positions[keep], scores[keep], labels[keep]
        limit = min(4 * limit, enough)


def best_candidates(
    count: int, score_rows: Callable[[slice], Tensor], classes: int, score_thr: float, limit: int
) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Pick the best `limit` of (box, class) pairs above the threshold, block by block.

    Returns:
        positions, scores and labels, each (n,), best first, and whether some were cut off.
    """
    rows_at_once = max(BLOCK_SCORES // max(classes, 1), 1)
    best: tuple[Tensor, Tensor] | None = None  # scores (n,), flat indices (n,)
    cut_off = False
    for start in range(0, max(count, 1), rows_at_once):
        flat = score_rows(slice(start, min(start + rows_at_once, count))).float().reshape(-1)  # (rows * K,)
        indices = (flat > score_thr).nonzero().squeeze(1)
        scores, indices = flat[indices], indices + start * classes
        if best is not None:
            scores, indices = torch.cat([best[0], scores]), torch.cat([best[1], indices])
        cut_off = cut_off or len(scores) > limit
        scores, order = scores.topk(min(limit, len(scores)))  # best first
        best = scores, indices[order]
    scores, indices = best
    return indices // max(classes, 1), scores, indices % max(classes, 1), cut_off
