"""What is marked, out of a detector's masks: those that look like the example, and that the network paints.

A narrow network tells well where a thing ends and badly whether it is the thing at all: in pictures without it,
something like it is painted. A detector whose names come from crops knows the look of many names, and one example's
crop can stand for a name. Either alone is weaker than both.
"""

from __future__ import annotations

import math

import numpy as np

from ovdet.ops.masks import boxes_xyxy_of_masks, encode_masks
from ovdet.results import Detections
from ovdet.seggpt.postprocess import MaskRules, things, tidy
from ovdet.seggpt.predict import Prompt, SoftMaps

AGREEMENT, EVEN = 2.0, 0.25
"""What the mean of the soft map inside a candidate adds to the logit of its score: AGREEMENT x (mean - EVEN). With
`SURE_ENOUGH`, chosen on validation episodes (docs/seggpt.md)."""

SURE_ENOUGH = 0.25
"""From this score on a candidate is taken, where a call names no threshold."""

LOWEST = 0.05
"""Score of the detector below which a candidate is not looked at: no agreement brings it to `SURE_ENOUGH`."""

MOST = 50
"""Candidates of a picture."""

SMALL_PART = 0.25
"""Of the largest part's area: smaller parts of an example's mask are cut-off bits, not things of their own."""


def things_of_example(mask: np.ndarray) -> np.ndarray:
    """Boxes of the things that the mask of an example shows, (N, 4) pixels, N at least 1.

    Args:
        mask: (H, W) bool, not empty.
    """
    parts = list(things(mask, MOST))  # the largest comes first
    large = [part for part in parts if part.sum() >= SMALL_PART * parts[0].sum()]
    return np.concatenate([boxes_xyxy_of_masks(part[None]) for part in large])


def choose(
    soft_maps: SoftMaps,
    candidates: Detections,
    prompt: Prompt,
    rules: MaskRules | None = None,
    max_dets: int = 100,
    name: str = "seggpt",
) -> Detections:
    """Masks of one picture out of a detector's, by the network's opinion of them.

    Args:
        soft_maps: of the network, K classes.
        candidates: of the detector, with masks; labels index the prompt's names.
        prompt: whose mode says what an answer is: "semantic" joins the candidates of a class, "similar" gives each,
            "instance" the surest.
        rules: `threshold` is of the score here; the others as everywhere.
        max_dets: masks kept, surest first.
        name: shown in the result.

    Returns:
        `Detections` with masks; the score is the detector's after it was raised or lowered.
    """
    rules = rules or MaskRules()
    threshold = SURE_ENOUGH if rules.threshold is None else rules.threshold
    scores = _agreed_scores(soft_maps, candidates)
    taken = np.zeros(soft_maps.place.size_hw, bool)
    of_class: dict[int, list[tuple[float, np.ndarray]]] = {}
    for row in np.argsort(-scores, kind="stable"):
        if scores[row] < threshold:
            break
        whole = _mask(candidates, row)
        mask = whole & ~taken if rules.exclusive else whole
        if 2 * mask.sum() <= whole.sum():  # most of it is something surer, or it is empty
            continue
        taken |= mask
        of_class.setdefault(int(candidates.labels[row]), []).append((float(scores[row]), mask))
    found = []
    for label, chosen in of_class.items():
        if prompt.mode == "semantic":
            chosen = [(chosen[0][0], np.logical_or.reduce([mask for _, mask in chosen]))]
        elif prompt.mode == "instance":
            chosen = chosen[:1]
        tidied = [(score, label, tidy(mask, rules)) for score, mask in chosen]
        found += [each for each in tidied if each[2].any()]
    found = sorted(found, key=lambda each: -each[0])[:max_dets]
    return Detections(
        np.array([boxes_xyxy_of_masks(mask[None])[0] for *_, mask in found], np.float32).reshape(-1, 4),
        np.array([score for score, *_ in found], np.float32),
        np.array([label for _, label, _ in found], np.int64),
        prompt.names,
        soft_maps.place.size_hw,
        tuple(encode_masks(mask[None])[0] for *_, mask in found),
        model=name,
    )


def _agreed_scores(soft_maps: SoftMaps, candidates: Detections) -> np.ndarray:
    """(N,) of `agreed`; -1 for a candidate without a pixel."""
    scores = np.full(len(candidates), -1.0)
    for label, soft in enumerate(soft_maps):
        for row in np.flatnonzero(candidates.labels == label):
            inside = soft[_mask(candidates, row)]
            if inside.size:
                scores[row] = agreed(float(candidates.scores[row]), float(inside.mean(dtype=np.float64)))
    return scores


def _mask(candidates: Detections, row: int) -> np.ndarray:
    """(H, W) bool; one at a time, since all of a large photograph would fill the memory."""
    mask: np.ndarray = candidates[[row]].masks[0]
    return mask


def agreed(score: float, inside: float) -> float:
    """The detector's score after the network was heard.

    Args:
        score: of the detector, 0 to 1.
        inside: mean of the soft map within the candidate, 0 to 1.
    """
    score = min(max(score, 1e-6), 1 - 1e-6)
    return 1 / (1 + (1 - score) / score * math.exp(-AGREEMENT * (inside - EVEN)))
