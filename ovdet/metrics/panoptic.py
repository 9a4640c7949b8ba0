"""Panoptic quality (Kirillov et al. 2019) with COCO's rules for void and crowd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ovdet.errors import InputError

VOID = 0
"""Segment id of pixels that belong to no segment."""


@dataclass
class PanopticScores:
    """PQ of a data set.

    A found segment and a true one of the same class match if they share more than half of their union, void left
    out. Found segments that lie mostly in void, or in a crowd of their class, are not counted as false.

    Attributes:
        things: class -> is it a thing (else stuff)?
    """

    things: Mapping[int, bool]
    iou: dict[int, float] = field(default_factory=dict)
    matched: dict[int, int] = field(default_factory=dict)
    false: dict[int, int] = field(default_factory=dict)
    missed: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label in self.things:
            self.iou[label] = 0.0
            self.matched[label] = self.false[label] = self.missed[label] = 0

    def add(
        self,
        found: np.ndarray,
        found_classes: Mapping[int, int],
        truth: np.ndarray,
        true_classes: Mapping[int, int],
        crowds: Sequence[int] = (),
    ) -> None:
        """Count one picture.

        Args:
            found: (H, W) int, segment id of each pixel, `VOID` where nothing is found.
            found_classes: segment id -> class.
            truth: (H, W) int.
            true_classes: segment id -> class.
            crowds: ids of true segments that are crowds.

        Raises:
            InputError: the sizes differ, or a segment's class is not stated or unknown.
        """
        if found.shape != truth.shape:
            raise InputError(f"found and truth must be of one size, got {found.shape} and {truth.shape}")
        mine_of, theirs_of = self._areas("found", found, found_classes), self._areas("true", truth, true_classes)
        shared = _shared(found, truth)
        taken_found, taken_true = set(), set()
        for (mine, theirs), area in shared.items():
            if VOID in (mine, theirs) or theirs in crowds or found_classes[mine] != true_classes[theirs]:
                continue
            union = mine_of[mine] + theirs_of[theirs] - area - shared.get((mine, VOID), 0)
            if area / union > 0.5:
                label = true_classes[theirs]
                self.iou[label] += area / union
                self.matched[label] += 1
                taken_found.add(mine)
                taken_true.add(theirs)
        for theirs in theirs_of.keys() - taken_true - {VOID, *crowds}:
            self.missed[true_classes[theirs]] += 1
        for mine in mine_of.keys() - taken_found - {VOID}:
            label = found_classes[mine]
            excused = shared.get((mine, VOID), 0)
            excused += sum(shared.get((mine, crowd), 0) for crowd in crowds if true_classes[crowd] == label)
            if excused / mine_of[mine] <= 0.5:
                self.false[label] += 1

    def _areas(self, what: str, ids: np.ndarray, classes: Mapping[int, int]) -> dict[int, int]:
        """Segment id -> pixels, after checking that each segment has a known class."""
        segments, counts = np.unique(ids, return_counts=True)
        for segment in segments.tolist():
            if segment != VOID and classes.get(segment) not in self.things:
                raise InputError(f"the {what} segment {segment} is of an unknown class {classes.get(segment)!r}")
        return dict(zip(segments.tolist(), counts.tolist(), strict=True))

    def per_class(self) -> list[dict[str, Any]]:
        """Numbers of each class in [0, 1]: "PQ", "SQ" and "RQ", None where it neither is nor was found."""
        rows = []
        for label in self.things:
            matched, false, missed = self.matched[label], self.false[label], self.missed[label]
            weight = matched + 0.5 * false + 0.5 * missed
            row: dict[str, Any] = {"label": label, "PQ": None, "SQ": None, "RQ": None}
            if weight:
                row["PQ"], row["RQ"] = self.iou[label] / weight, matched / weight
                row["SQ"] = self.iou[label] / matched if matched else 0.0
            rows.append(row)
        return rows

    def result(self) -> dict[str, float]:
        """Means over classes that occur: "PQ", "SQ", "RQ", and those of things and stuff where there are any.

        Raises:
            InputError: nothing was counted.
        """
        rows = [row for row in self.per_class() if row["PQ"] is not None]
        if not rows:
            raise InputError("no segment was scored")
        numbers = {}
        for end, own in (
            ("", rows),
            ("_things", [row for row in rows if self.things[row["label"]]]),
            ("_stuff", [row for row in rows if not self.things[row["label"]]]),
        ):
            if own:
                numbers |= {f"{name}{end}": float(np.mean([row[name] for row in own])) for name in ("PQ", "SQ", "RQ")}
        return numbers


def _shared(found: np.ndarray, truth: np.ndarray) -> dict[tuple[int, int], int]:
    """(found id, true id) -> pixels that have both."""
    pairs, counts = np.unique(np.stack([found.reshape(-1), truth.reshape(-1)]), axis=1, return_counts=True)
    return {(int(mine), int(theirs)): int(n) for mine, theirs, n in zip(*pairs, counts, strict=True)}
