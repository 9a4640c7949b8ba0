"""How often the right name is among the first."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ovdet.errors import InputError


def top_k_accuracy(scores: Tensor, labels: Tensor, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Shares of samples whose label is among the k best scores; of equal scores the label is taken to come last.

    Args:
        scores: (N, K), higher is better.
        labels: (N,) int.
        ks: numbers of guesses.

    Returns:
        "top1": share in [0, 1], and so on.

    Raises:
        InputError: there is no sample, or scores and labels do not fit.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise InputError(f"scores (N, K) and labels (N,) are wanted, got {tuple(scores.shape)}, {tuple(labels.shape)}")
    own = scores.gather(1, labels.long()[:, None])
    rank = (scores >= own).sum(dim=1)  # 1 is best
    return {f"top{k}": float((rank <= k).double().mean()) for k in ks}
