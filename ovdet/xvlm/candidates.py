"""Boxes for a sentence to choose among: what they must be, which are of one thing, and whether several are meant.

Whether a sentence means one thing, or all that it is true of, is told by the look of its (English) words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from ovdet.errors import InputError
from ovdet.xvlm.tokens import clean_sentence

SEVERAL = 3.0
"""How much less it counts, where several things are meant, that a candidate fits worse than the best one."""

SAME_THING = 0.3
"""Overlap above which two candidates are taken for one thing."""

_OPENINGS = frozenset(
    "a an all any both each every everything several some many two three four five six seven eight nine ten".split()
)
"""A sentence that begins with one of these is asked for all it is true of."""

_ARTICLES = frozenset("the these those this that my his her their our your".split())

_LINKS = frozenset(
    "to on in at of from by with without near next beside behind between above below under over inside outside around "
    "along across against among that which who whose is are has have can".split()
)
"""What follows one of these tells which things are meant, and not what."""

_PLURALS = frozenset("people men women children mice geese teeth feet fish sheep deer bison".split())
_PAIRS = frozenset(
    "scissors glasses sunglasses eyeglasses goggles trousers pants jeans shorts pliers tweezers binoculars "
    "headphones stairs news".split()
)
"""One thing each, though they look like a plural."""


def check_candidates(candidates_xyxy: np.ndarray) -> np.ndarray:
    """Candidates as (R, 4) float32.

    Raises:
        InputError: they are no boxes.
    """
    boxes = np.asarray(candidates_xyxy, dtype=np.float32)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise InputError(f"candidates_xyxy must be (R, 4) finite numbers, got {boxes.shape}")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise InputError("candidates_xyxy must have x1 <= x2 and y1 <= y2; convert from cxcywh or xywh first")
    return boxes


def distinct(boxes_xyxy: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """Indices of the boxes that reach a score and do not overlap much with a better one, best first."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    kept = nms(torch.from_numpy(boxes_xyxy[order]), torch.from_numpy(scores[order]), SAME_THING)
    return np.asarray(order[np.sort(kept.numpy())])


def tolerances(sentences: Sequence[str]) -> Tensor:
    """By how much differences between candidates are divided for each of K sentences, (K,)."""
    return torch.tensor([SEVERAL if means_several(text) else 1.0 for text in sentences])


def means_several(sentence: str) -> bool:
    """Is a sentence true of any number of things: "dogs", "all dogs left of the pizza", "a dog", but not "the dog"?

    Raises:
        InputError: it has no word.
    """
    words = clean_sentence(sentence).split(" ")
    return words[0] in _OPENINGS or _is_plural(_head(words))


def _head(words: list[str]) -> str:
    """The word that says what is meant: the last one before anything that says which of them."""
    start = 1 if words[0] in _ARTICLES else 0
    for place in range(start + 1, len(words)):
        side = words[place] in ("left", "right") and words[place + 1 : place + 2] == ["of"]
        if words[place] in _LINKS or side or words[place].endswith("ing"):
            return words[place - 1]
    return words[-1]


def _is_plural(word: str) -> bool:
    looks_so = len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word in _PLURALS or (looks_so and word not in _PAIRS)
