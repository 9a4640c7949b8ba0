"""The bridge from mmengine's evaluation to `ovdet.metrics.segmentation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from ovdet.metrics.segmentation import EpisodeScores


class EpisodeIoU(BaseMetric):
    """mIoU and FB-IoU of one-shot episodes, in percent, at the size of the canvas.

    Takes what `TowerTraining` gives: "scores" (4,) counts of `overlap_counts`, and "label".

    Args:
        prefix: of the numbers' names: "prefix/mIoU".
    """

    default_prefix = "episodes"

    report: dict[str, Any]
    """After an evaluation: numbers of each class, and what was measured."""

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the counts of one batch."""
        self.results += [(sample["label"], np.asarray(sample["scores"].cpu(), np.int64)) for sample in data_samples]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """The two numbers."""
        labels = sorted({label for label, _ in results})
        scores = EpisodeScores({label: str(label) for label in labels})
        for label, counts in results:
            scores.add_counts(label, counts)
        self.report = {"per_class": scores.per_class(), "protocol": {**scores.stamp, "scoring_size_hw": "canvas"}}
        return {name: 100 * value for name, value in scores.result().items()}
