"""Retrieval: how often the right picture is among the first for a text, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ovdet.errors import InputError

RANKS = (1, 5, 10)
NOT_RANKED = -100.0
"""Score of what the first stage leaves out, as published."""


def retrieval_recall(
    scores: ArrayLike, picture_of_text: Sequence[int], ranks: Sequence[int] = RANKS, backward: ArrayLike | None = None
) -> dict[str, float]:
    """Recall in percent: texts of a picture (TR) and pictures of a text (IR), with their means.

    A picture counts by the best ranked of its texts. Among equal scores the right one is taken to come last.

    Args:
        scores: (I, T) of pictures against texts.
        picture_of_text: T indices of pictures; each picture has at least one text.
        ranks: k of R@k.
        backward: (T, I) for pictures of a text, where they are ranked by scores of their own; else `scores` serves.

    Returns:
        "TR@1", "IR@1", ..., "TR_mean", "IR_mean" and "mean".

    Raises:
        InputError: numbers of pictures or texts do not fit.
    """
    forward = np.asarray(scores, dtype=np.float64)
    owner = np.asarray(picture_of_text, dtype=np.int64)
    if forward.ndim != 2 or forward.shape[1] != len(owner) or not len(owner):
        raise InputError(f"scores must be (pictures, {len(owner)} texts), got {forward.shape}")
    missing = sorted(set(range(forward.shape[0])) - set(owner.tolist()))
    if missing or owner.max() >= forward.shape[0] or owner.min() < 0:
        raise InputError(f"each of {forward.shape[0]} pictures needs a text of its own; picture {missing[:1]} has none")
    other = forward.T if backward is None else np.asarray(backward, dtype=np.float64)
    if other.shape != forward.T.shape:
        raise InputError(f"backward scores must be {forward.T.shape}, got {other.shape}")
    texts = np.array([_rank(row, owner == place) for place, row in enumerate(forward)])
    pictures = np.array([_rank(row, np.arange(len(row)) == owner[place]) for place, row in enumerate(other)])
    numbers: dict[str, float] = {}
    for name, found in (("TR", texts), ("IR", pictures)):
        numbers |= {f"{name}@{k}": 100 * float((found < k).mean()) for k in ranks}
        numbers[f"{name}_mean"] = float(np.mean([numbers[f"{name}@{k}"] for k in ranks]))
    numbers["mean"] = (numbers["TR_mean"] + numbers["IR_mean"]) / 2
    return numbers


def _rank(scores: np.ndarray, right: np.ndarray) -> int:
    """How many wrong ones come before the best right one."""
    return int((scores[~right] >= scores[right].max()).sum())


def rerank(
    similarity: ArrayLike, keep: int, score: Callable[[int, np.ndarray], ArrayLike], chunk: int = 64
) -> np.ndarray:
    """Two stages: the best `keep` of each row by similarity get scores of the second stage, the others `NOT_RANKED`.

    Args:
        similarity: (Q, K) of the first stage.
        keep: candidates of the second stage (published: 256 on COCO, 128 on Flickr30k).
        score: takes a row's number and some candidates' numbers, gives their scores.
        chunk: candidates scored at a time.

    Returns:
        (Q, K); to be ranked by.

    Raises:
        InputError: keep is below 1.
    """
    first = np.asarray(similarity, dtype=np.float64)
    if keep < 1:
        raise InputError(f"the second stage needs at least one candidate, got keep={keep}")
    result = np.full(first.shape, NOT_RANKED)
    for row, values in enumerate(first):
        candidates = np.argsort(-values, kind="stable")[:keep]
        for start in range(0, len(candidates), chunk):
            some = candidates[start : start + chunk]
            result[row, some] = np.asarray(score(row, some), dtype=np.float64)
    return result
