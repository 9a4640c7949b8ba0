"""What ViLD learns from (arXiv:2104.13921, equations 2 and 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def classification_loss(logits: Tensor, labels: Tensor, base_mask: Tensor) -> Tensor:
    """Softmax cross-entropy over base classes and background, mean over regions.

    Novel columns are taken out with -inf, so they neither compete nor learn. (The official code sets those
    logits to 0 instead, which makes 337 rare classes compete with a cosine of 0.)

    Args:
        logits: (N, K + 1), background last.
        labels: (N,) int64, K is background.
        base_mask: (K,) bool, True where the class may be learned.

    Returns:
        A scalar; 0 that still has a gradient path for N = 0.
    """
    if not len(logits):
        return logits.sum() * 0
    novel = torch.cat([~base_mask, base_mask.new_zeros(1)])  # (K + 1,)
    return F.cross_entropy(logits.float().masked_fill(novel, -torch.inf), labels)


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L1 between unit vectors, summed over the width and averaged over regions.

    A mean over the width too would be D times too weak.

    Args:
        student: (M, D) embeddings of any length.
        teacher: (M, D); normalised again, since stored halves drift.

    Returns:
        A scalar; 0 that still has a gradient path for M = 0.
    """
    if not len(student):
        return student.sum() * 0
    distance = F.normalize(student.float(), dim=1) - F.normalize(teacher.float(), dim=1)  # (M, D)
    return distance.abs().sum(dim=1).mean()


def box_loss(deltas: Tensor, targets: Tensor, regions: int, beta: float) -> Tensor:
    """Smooth L1 over the boxes of objects, divided by the number of all sampled regions, as Mask R-CNN does.

    Args:
        deltas: (P, 4) predicted for regions that hold an object.
        targets: (P, 4) encoded.
        regions: sampled in all, background ones too.
        beta: where quadratic turns into linear; 0 is plain L1.
    """
    return F.smooth_l1_loss(deltas.float(), targets, beta=beta, reduction="sum") / max(regions, 1)
