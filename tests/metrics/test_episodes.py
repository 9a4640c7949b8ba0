import numpy as np
import pytest
import torch

from ovdet.metrics.episodes import EpisodeIoU
from ovdet.metrics.segmentation import EpisodeScores, overlap_counts


def test_the_bridge_gives_the_scores_of_the_episodes():
    rng = np.random.default_rng(0)
    metric, wanted = EpisodeIoU(), EpisodeScores({3: "3", 8: "8"})
    for index in range(10):
        label = (3, 8)[index % 2]
        found, truth = rng.random((2, 9, 9)) < 0.5
        wanted.add(label, found, truth)
        counts = torch.from_numpy(overlap_counts(found, truth)).double()
        metric.process(None, [{"scores": counts, "label": label}])
    numbers = metric.evaluate(10)
    assert numbers["episodes/mIoU"] == pytest.approx(100 * wanted.result()["mIoU"])
    assert numbers["episodes/FB-IoU"] == pytest.approx(100 * wanted.result()["FB-IoU"])
    assert metric.report["per_class"] == wanted.per_class()
    assert metric.report["protocol"]["scoring_size_hw"] == "canvas"
