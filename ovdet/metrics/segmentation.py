"""How well masks and label maps agree: episodes (mIoU, FB-IoU) and whole label maps (mIoU, accuracies)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ovdet.errors import InputError


def overlap_counts(found: np.ndarray, truth: np.ndarray, judged: np.ndarray | None = None) -> np.ndarray:
    """Pixels in common and in all, of the thing and of all else.

    Args:
        found: (H, W) bool.
        truth: (H, W) bool.
        judged: (H, W) bool; the others count nowhere. None: all are judged.

    Returns:
        (4,) int64: intersection and union of the thing, intersection and union of the rest.

    Raises:
        InputError: the sizes differ.
    """
    if found.shape != truth.shape or (judged is not None and judged.shape != truth.shape):
        raise InputError(f"found, truth and judged must be of one size, got {found.shape} and {truth.shape}")
    judged = np.ones(truth.shape, bool) if judged is None else judged
    found, truth = found.astype(bool) & judged, truth.astype(bool) & judged
    intersection, union = int((found & truth).sum()), int((found | truth).sum())
    total = int(judged.sum())
    return np.asarray([intersection, union, total - union, total - intersection], np.int64)


class EpisodeScores:
    """mIoU and FB-IoU as HSNet and its followers take them: pixels are summed over a class's episodes first.

    mIoU is the mean over classes of summed intersection / summed union. FB-IoU is the mean of two ratios, of the
    things and of all else, each summed over all episodes. It is high even for bad answers, as most pixels are
    nobody's.

    Args:
        names: class number -> name; an episode of another class is refused.
        scoring_size: (H, W) that truth and answer are brought to by the nearest pixel before they are compared
            (HSNet's default: 400 x 400); None scores at the size of the query.
    """

    def __init__(self, names: Mapping[int, str], scoring_size: tuple[int, int] | None = None) -> None:
        self.names, self.scoring_size = dict(names), scoring_size
        self.counts = {label: np.zeros(4, np.int64) for label in self.names}
        self.episodes = dict.fromkeys(self.names, 0)

    def add(self, label: int, found: np.ndarray, truth: np.ndarray, judged: np.ndarray | None = None) -> float:
        """Count one episode; gives its own IoU (1 where there is nothing and nothing was found).

        Raises:
            InputError: the class is unknown, or the sizes differ.
        """
        if label not in self.names:
            raise InputError(f"episode of class {label}, which is none of the {len(self.names)} of this fold")
        if self.scoring_size is not None:
            found, truth = (at_size(one, self.scoring_size) for one in (found, truth))
            judged = None if judged is None else at_size(judged, self.scoring_size)
        return self.add_counts(label, overlap_counts(found, truth, judged))

    def add_counts(self, label: int, counts: np.ndarray) -> float:
        """The same with the counts of `overlap_counts`."""
        self.counts[label] += counts
        self.episodes[label] += 1
        return 1.0 if counts[1] == 0 else float(counts[0] / counts[1])

    def result(self) -> dict[str, float]:
        """Numbers in [0, 1], over classes that had an episode: "mIoU" and "FB-IoU".

        Raises:
            InputError: there was no episode.
        """
        seen = [label for label, count in self.episodes.items() if count]
        if not seen:
            raise InputError("no episode was scored")
        ratios = [_ratio(self.counts[label][0], self.counts[label][1]) for label in seen]
        total = np.sum([self.counts[label] for label in seen], axis=0)
        fb_iou = (_ratio(total[0], total[1]) + _ratio(total[2], total[3])) / 2
        return {"mIoU": float(np.mean(ratios)), "FB-IoU": float(fb_iou)}

    def per_class(self) -> list[dict[str, Any]]:
        """Numbers of each class: name, episodes, IoU (None where there was no episode)."""
        return [
            {
                "label": label,
                "name": name,
                "episodes": self.episodes[label],
                "IoU": round(_ratio(*self.counts[label][:2]), 6) if self.episodes[label] else None,
            }
            for label, name in self.names.items()
        ]

    @property
    def stamp(self) -> dict[str, Any]:
        """What a result says of its metric."""
        size = "size of the query" if self.scoring_size is None else list(self.scoring_size)
        return {
            "metric": "mIoU: mean over classes of summed intersection / summed union; FB-IoU: mean of things and rest",
            "scoring_size_hw": size,
            "classes_scored": sum(count > 0 for count in self.episodes.values()),
        }


def at_size(mask: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A mask or label map of another size, by the nearest pixel as torch's `interpolate(mode="nearest")` takes it."""
    rows = np.minimum(np.arange(size_hw[0]) * mask.shape[0] // size_hw[0], mask.shape[0] - 1)
    columns = np.minimum(np.arange(size_hw[1]) * mask.shape[1] // size_hw[1], mask.shape[1] - 1)
    return mask[rows[:, None], columns[None]]


class LabelScores:
    """mIoU, mean class accuracy and pixel accuracy of label maps, from one confusion matrix.

    Args:
        classes: K; labels are 0..K-1.
        ignored: label of the truth that counts nowhere.
    """

    def __init__(self, classes: int, ignored: int = 255) -> None:
        if classes < 1:
            raise InputError(f"classes must be at least 1, got {classes}")
        self.classes, self.ignored = classes, ignored
        self.confusion = np.zeros((classes, classes + 1), np.int64)  # truth x found, the last column is no class

    def add(self, found: np.ndarray, truth: np.ndarray) -> None:
        """Count one picture.

        Args:
            found: (H, W) int; labels outside of 0..K-1 are no class: wrong wherever they are judged.
            truth: (H, W) int, 0..K-1 or the ignored label.

        Raises:
            InputError: the sizes differ, or the truth has another label.
        """
        if found.shape != truth.shape:
            raise InputError(f"found and truth must be of one size, got {found.shape} and {truth.shape}")
        judged = truth != self.ignored
        wanted, given = truth[judged].astype(np.int64), found[judged].astype(np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.classes:
            raise InputError(f"labels of the truth must be 0..{self.classes - 1} or {self.ignored}, got {wanted.max()}")
        given = np.where((given >= 0) & (given < self.classes), given, self.classes)
        rows = np.bincount(wanted * (self.classes + 1) + given, minlength=self.confusion.size)
        self.confusion += rows.reshape(self.confusion.shape)

    def per_class(self) -> np.ndarray:
        """(K,) float IoU; nan for a class that is neither in the truth nor found."""
        hit = np.diag(self.confusion)
        union = self.confusion.sum(axis=1) + self.confusion[:, : self.classes].sum(axis=0) - hit
        return np.divide(hit, union, out=np.full(self.classes, np.nan), where=union > 0)

    def result(self) -> dict[str, float]:
        """Numbers in [0, 1]: "mIoU", "mAcc" (over classes in the truth) and "aAcc" (over pixels).

        Raises:
            InputError: nothing was judged.
        """
        total = int(self.confusion.sum())
        if not total:
            raise InputError("no pixel was judged")
        hit, wanted = np.diag(self.confusion), self.confusion.sum(axis=1)
        return {
            "mIoU": float(np.nanmean(self.per_class())),
            "mAcc": float(np.mean(hit[wanted > 0] / wanted[wanted > 0])),
            "aAcc": float(hit.sum() / total),
        }


def fuse_soft_masks(soft: np.ndarray, threshold: float | None = None, nothing: int = 255) -> np.ndarray:
    """One label map out of a soft mask for each class: the best class of each pixel (ours; no paper says how).

    Args:
        soft: (K, H, W) in [0, 1].
        threshold: pixels whose best class is below it are `nothing`; None gives every pixel a class (ADE20K).
        nothing: label of no class.

    Returns:
        (H, W) int64.
    """
    best = soft.argmax(axis=0)
    return best if threshold is None else np.where(soft.max(axis=0) >= threshold, best, nothing)


def resized_soft(soft: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(K, h, w) float32 soft masks at another size, bilinear."""
    return np.stack([cv2.resize(one, size_hw[::-1], interpolation=cv2.INTER_LINEAR) for one in soft])


def _ratio(part: float, whole: float) -> float:
    """Share; 1 where there is nothing of it and nothing was found."""
    return 1.0 if whole == 0 else float(part) / float(whole)
