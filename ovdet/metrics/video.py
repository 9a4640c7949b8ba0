"""Video object segmentation: region similarity J and contour accuracy F (DAVIS, Perazzi et al. 2016; 2017 protocol).

The rules are those of the official davis2017-evaluation: contours half a pixel towards the origin, a tolerance of
0.008 of the picture's diagonal, the first and the last frame left out, objects weighing equally.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from ovdet.errors import InputError

TOLERANCE = 0.008
"""Of the diagonal, rounded up to pixels: how far apart two contours may be and still meet."""
_BINS = 4
"""Parts of a clip; decay is the first part's mean less the last one's."""


def region_similarity(found: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """J: intersection over union; 1 where there is nothing and nothing was found.

    Args:
        found: (H, W) bool.
        truth: (H, W) bool.
        void: (H, W) bool, pixels that count nowhere.
    """
    found, truth = _without(found, void), _without(truth, void)
    union = int((found | truth).sum())
    return 1.0 if union == 0 else float((found & truth).sum() / union)


def contour(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ from their right, lower or lower right neighbour."""
    right, below, both = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1], below[:-1], both[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edge = (mask ^ right) | (mask ^ below) | (mask ^ both)
    edge[-1] = mask[-1] ^ right[-1]
    edge[:, -1] = mask[:, -1] ^ below[:, -1]
    edge[-1, -1] = False
    return edge


def contour_accuracy(
    found: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None, tolerance: float = TOLERANCE
) -> float:
    """F: harmonic mean of the shares of either contour that lie near the other.

    Args:
        found: (H, W) bool.
        truth: (H, W) bool.
        void: (H, W) bool, pixels that belong to neither mask.
        tolerance: share of the diagonal if below 1, else pixels.
    """
    reach = tolerance if tolerance >= 1 else np.ceil(tolerance * np.linalg.norm(truth.shape))
    mine, theirs = contour(_without(found, void)), contour(_without(truth, void))
    if not mine.any() or not theirs.any():
        return float(mine.any() == theirs.any())
    precision = (mine & _widened(theirs, int(reach))).sum() / mine.sum()
    recall = (theirs & _widened(mine, int(reach))).sum() / theirs.sum()
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


@dataclass(frozen=True)
class ClipScores:
    """J and F of each object in each judged frame of one clip; T frames, O objects.

    Attributes:
        region: (O, T) J.
        outline: (O, T) F.
    """

    region: np.ndarray
    outline: np.ndarray


def clip_scores(
    found: Sequence[np.ndarray], truth: Sequence[np.ndarray], objects: Sequence[int], void_label: int = 255
) -> ClipScores:
    """Score the label maps of one clip; hand over the frames that count (DAVIS: all but the first and the last).

    Args:
        found: T label maps (H, W), 0 is nothing.
        truth: T label maps, `void_label` counts nowhere.
        objects: labels of the objects; DAVIS takes 1 to the largest one in the first frame.
        void_label: see `truth`.

    Raises:
        InputError: the numbers of frames or the sizes differ, there is no frame or no object, or an answer has an
            object that the clip has not.
    """
    if not objects or not truth or len(found) != len(truth):
        raise InputError(f"a clip wants objects and as many answers as frames, got {len(found)} for {len(truth)}")
    scores = np.zeros((2, len(objects), len(truth)))
    for frame, (mine, theirs) in enumerate(zip(found, truth, strict=True)):
        if mine.shape != theirs.shape:
            raise InputError(f"frame {frame}: the answer is {mine.shape}, the truth {theirs.shape}; give full size")
        strange = sorted(set(np.unique(mine).tolist()) - {0, *objects})
        if strange:
            raise InputError(f"frame {frame}: the answer has an object {strange[0]}, the clip has {list(objects)}")
        void = theirs == void_label
        for row, label in enumerate(objects):
            scores[0, row, frame] = region_similarity(mine == label, theirs == label, void)
            scores[1, row, frame] = contour_accuracy(mine == label, theirs == label, void)
    return ClipScores(scores[0], scores[1])


def statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over frames, recall (share above 0.5), and decay from the first quarter to the last, of (T,) scores."""
    ids = (np.round(np.linspace(1, len(values), _BINS + 1) + 1e-10) - 1).astype(int)
    parts = [values[ids[part] : ids[part + 1] + 1] for part in range(_BINS)]
    return float(values.mean()), float((values > 0.5).mean()), float(parts[0].mean() - parts[-1].mean())


@dataclass
class VideoScores:
    """J&F of a data set: means over objects, whatever clip they are in."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    """"clip_object" -> J_mean, J_recall, J_decay and the same of F."""

    def add(self, name: str, scores: ClipScores, objects: Sequence[int]) -> None:
        """Count one clip.

        Raises:
            InputError: an object comes twice.
        """
        for row, label in enumerate(objects):
            key = f"{name}_{label}"
            if key in self.rows:
                raise InputError(f"object {label} of clip {name} was scored already")
            numbers: dict[str, float] = {}
            for letter, values in (("J", scores.region[row]), ("F", scores.outline[row])):
                mean, recall, decay = statistics(values)
                numbers |= {f"{letter}_mean": mean, f"{letter}_recall": recall, f"{letter}_decay": decay}
            self.rows[key] = numbers

    def result(self) -> dict[str, float]:
        """Numbers in [0, 1]: "J&F", and J and F each with "_mean", "_recall" and "_decay".

        Raises:
            InputError: nothing was scored.
        """
        if not self.rows:
            raise InputError("no clip was scored")
        names = next(iter(self.rows.values()))
        means = {name: float(np.mean([row[name] for row in self.rows.values()])) for name in names}
        return {"J&F": (means["J_mean"] + means["F_mean"]) / 2, **means}


def seen_unseen(rows: Mapping[str, Mapping[str, float]], seen: Mapping[str, bool]) -> dict[str, float]:
    """YouTube-VOS's overall score G: the mean of J and F over seen and over unseen categories.

    Args:
        rows: of `VideoScores`.
        seen: "clip_object" -> is its category in the training data?

    Returns:
        "G", "J_seen", "F_seen", "J_unseen", "F_unseen".

    Raises:
        InputError: an object is of neither side, or a side is empty.
    """
    unknown = sorted(set(rows) - set(seen))
    if unknown:
        raise InputError(f"nobody says whether the category of {unknown[0]} was seen in training")
    numbers = {}
    for side, flag in (("seen", True), ("unseen", False)):
        own = [row for key, row in rows.items() if seen[key] is flag]
        if not own:
            raise InputError(f"there is no object of an {side} category: G is not defined")
        for letter in "JF":
            numbers[f"{letter}_{side}"] = float(np.mean([row[f"{letter}_mean"] for row in own]))
    return {"G": float(np.mean(list(numbers.values()))), **numbers}


def _without(mask: np.ndarray, void: np.ndarray | None) -> np.ndarray:
    mask = mask.astype(bool)
    return mask if void is None else mask & ~void


def _widened(mask: np.ndarray, reach: int) -> np.ndarray:
    """All pixels at most `reach` from one of the mask."""
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (rows**2 + columns**2 <= reach**2).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disk) > 0
