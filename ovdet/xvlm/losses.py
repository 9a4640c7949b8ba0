"""What X-VLM learns from (arXiv:2111.08276, sections 3.2 and 3.3): plain functions of tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert


class _GatherRows(torch.autograd.Function):
    """All ranks' rows; the gradient of a rank's own rows is its own loss's alone, as in the official code."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.count
        return grad[start : start + ctx.count]


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks, in order of ranks, each of which must have as many; the rows themselves on one rank.

    Gradients flow to this rank's rows alone and are not summed over ranks.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


def contrastive_loss(images: Tensor, texts: Tensor, temperature: Tensor | float, ids: Tensor | None = None) -> Tensor:
    """Cross-entropy of pictures among texts and of texts among pictures, over all ranks, mean of the two.

    Args:
        images: (N, E), unit length.
        texts: (N, E), unit length; row k belongs to images[k].
        temperature: divides the cosines.
        ids: (N,) pairs of equal ids belong together and share the target; None makes all pairs strangers.

    Returns:
        A scalar.
    """
    images, texts = gather_rows(images.float()), gather_rows(texts.float())
    logits = images @ texts.T / temperature  # (N, N)
    if ids is None:
        targets = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    ids = gather_rows(ids)
    same = (ids[:, None] == ids).to(logits.dtype)
    shares = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, shares) + F.cross_entropy(logits.T, shares)) / 2


class HardNegatives(NamedTuple):
    """Wrong pairs of M rows: `texts[k]` does not belong to `images[k]`.

    Attributes:
        texts: (M,) rows of the batch.
        images: (M,) likewise.
    """

    texts: Tensor
    images: Tensor


@torch.no_grad()
def hard_negatives(
    images: Tensor, texts: Tensor, temperature: Tensor | float, ids: Tensor | None = None
) -> HardNegatives:
    """Draw for each text a wrong picture, then for each picture a wrong text, the likelier the more alike they are.

    Args:
        images: (N, E), unit length, of this rank.
        texts: (N, E).
        temperature: divides the cosines.
        ids: (N,) pairs of equal ids are never wrong; None takes the diagonal alone for right.

    Returns:
        Pairs of all texts, then of all pictures; those that no wrong partner exists for are left out.
    """
    logits = images.float() @ texts.float().T / temperature
    rows = torch.arange(len(logits), device=logits.device)
    right = torch.eye(len(logits), dtype=torch.bool, device=logits.device) if ids is None else ids[:, None] == ids
    of_texts, found_images = _draw(logits.T, right)
    of_images, found_texts = _draw(logits, right)
    return HardNegatives(
        torch.cat([rows[of_texts], found_texts]),
        torch.cat([found_images, rows[of_images]]),
    )


def _draw(logits: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that have a wrong partner, (N,) bool, and one drawn for each of them."""
    weights = (logits.softmax(1) + 1e-5).masked_fill(right, 0)
    possible = ~right.all(1)
    drawn = [torch.multinomial(row, 1) for row in weights[possible]]  # one by one: so the official code spends its seed
    return possible, torch.cat(drawn) if drawn else torch.zeros(0, dtype=torch.long, device=logits.device)


def matching_loss(right: Tensor, wrong: Tensor) -> Tensor:
    """Cross-entropy of match against no match.

    Args:
        right: (N, 2) logits of pairs that belong together, the second a match.
        wrong: (M, 2) of pairs that do not; usually 2 N, and not weighted for that.

    Returns:
        A scalar, the mean of all.
    """
    targets = torch.cat([right.new_ones(len(right)), wrong.new_zeros(len(wrong))]).long()
    return F.cross_entropy(torch.cat([right, wrong]).float(), targets)


def masked_word_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of hidden words, the mean over those of the whole batch.

    Args:
        logits: (K, M, V).
        targets: (K, M) ids of the words, -100 where a sentence has fewer.

    Returns:
        A scalar; 0 with a gradient path where no word is hidden.
    """
    if not bool((targets != -100).any()):
        return logits.sum() * 0
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100)


def box_losses(predicted: Tensor, target: Tensor, is_image: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """L1 and generalised IoU of boxes in shares of the picture.

    Args:
        predicted: (N, 4) boxes_cxcywh_norm.
        target: (N, 4) likewise.
        is_image: (N,) true for pairs of whole pictures, which teach no boxes; None has none.

    Returns:
        L1 summed over coordinates and 1 - GIoU, each a mean over the boxes that count; both 0, with a gradient path,
        where none counts (the official code divides 0 by 0 there).
    """
    counts = torch.ones(len(target), device=target.device) if is_image is None else (~is_image.bool()).float()
    number = counts.sum().clamp_min(1)
    distance = (predicted.float() - target.float()).abs().sum(1)  # (N,)
    overlap = generalised_iou(predicted.float(), target.float())
    return (distance * counts).sum() / number, ((1 - overlap) * counts).sum() / number


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU of pairs (arXiv:1902.09630): twice (N, 4) boxes_cxcywh_norm -> (N,) in [-1, 1].

    Two boxes without area have 0, where the plain formula divides 0 by 0.
    """
    a, b = box_convert(first, "cxcywh", "xyxy"), box_convert(second, "cxcywh", "xyxy")
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0).prod(1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union = first[:, 2:].prod(1) + second[:, 2:].prod(1) - inner
    return _ratio(inner, union) - _ratio(outer - union, outer)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Quotients, 0 where the whole is 0, with finite gradients."""
    empty = whole <= 0
    return torch.where(empty, part * 0, part / torch.where(empty, torch.ones_like(whole), whole))
