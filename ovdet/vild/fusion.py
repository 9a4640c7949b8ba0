"""Class scores at test time: one head's probabilities, or the geometric mean of two heads' (arXiv:2104.13921, eq. 5).

The background has a column in the text softmax and is then dropped; it has none in the image softmax, because
the image head never learned it. A fused score is not renormalised: over the classes it sums to less than 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def text_log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over classes and background, background dropped: (N, K + 1) -> (N, K)."""
    return logits.float().log_softmax(dim=1)[:, :-1]


def image_log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over the classes alone: (N, K) -> (N, K)."""
    return logits.float().log_softmax(dim=1)


def fuse(text_log: Tensor, image_log: Tensor, text_exponent: Tensor) -> Tensor:
    """Weighted geometric mean of two heads' probabilities.

    Args:
        text_log: (N, K) log-probabilities.
        image_log: (N, K).
        text_exponent: (K,) in [0, 1]: share of the text head for each class, 2/3 for base, 1/3 for novel.

    Returns:
        (N, K) scores in [0, 1].
    """
    return (text_exponent * text_log + (1 - text_exponent) * image_log).exp()


def text_exponents(base_mask: Tensor | None, count: int, base: float, novel: float, free: float) -> Tensor:
    """Share of the text head for each of `count` classes: by the mask (K,), or `free` where there is no mask."""
    if base_mask is None:
        return torch.full((count,), free)
    share = torch.full((count,), novel, device=base_mask.device)
    return share.masked_fill(base_mask, base)
