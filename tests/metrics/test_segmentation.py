import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from ovdet.errors import InputError
from ovdet.metrics.segmentation import (
    EpisodeScores,
    LabelScores,
    at_size,
    fuse_soft_masks,
    overlap_counts,
    resized_soft,
)


def blocks(rng, size_hw=(20, 24)):
    return rng.random(size_hw) < rng.uniform(0.2, 0.8)


def test_counts_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    found, truth, judged = blocks(rng), blocks(rng), blocks(rng)
    wanted = [0, 0, 0, 0]
    for row in range(20):
        for column in range(24):
            if judged[row, column]:
                mine, theirs = found[row, column], truth[row, column]
                wanted[0] += mine and theirs
                wanted[1] += mine or theirs
                wanted[2] += not mine and not theirs
                wanted[3] += not mine or not theirs
    assert overlap_counts(found, truth, judged).tolist() == wanted
    with pytest.raises(InputError, match="of one size"):
        overlap_counts(found, truth.T)


def test_means_are_over_classes_of_summed_pixels():
    rng = np.random.default_rng(1)
    scores = EpisodeScores({0: "cat", 1: "dog", 2: "cow"})
    pixels = {0: ([], []), 1: ([], [])}
    for index in range(12):
        label = index % 3 // 2
        found, truth, judged = blocks(rng), blocks(rng), blocks(rng)
        own = scores.add(label, found, truth, judged)
        assert own == pytest.approx(jaccard_score(truth[judged], found[judged]))
        pixels[label][0].append(truth[judged])
        pixels[label][1].append(found[judged])
    ratios = [jaccard_score(np.concatenate(one), np.concatenate(other)) for one, other in pixels.values()]
    truth, found = (np.concatenate([p for own in pixels.values() for p in own[side]]) for side in (0, 1))
    result = scores.result()
    assert result["mIoU"] == pytest.approx(np.mean(ratios))
    assert result["FB-IoU"] == pytest.approx(jaccard_score(truth, found, average="macro"))
    rows = scores.per_class()
    assert [row["episodes"] for row in rows] == [8, 4, 0] and rows[2]["IoU"] is None
    assert rows[0]["IoU"] == pytest.approx(ratios[0], abs=1e-6) and scores.stamp["classes_scored"] == 2


def test_a_class_is_not_the_mean_of_its_pictures():
    """Two episodes: 10 of 10 pixels, and 0 of 90. Pixels first: 10 / 100; pictures first it would be 1 / 2."""
    scores = EpisodeScores({0: "thing"})
    one, other = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    one[:1], other[:9] = True, True
    assert scores.add(0, one, one) == 1.0 and scores.add(0, np.zeros((10, 10), bool), other) == 0.0
    assert scores.result()["mIoU"] == pytest.approx(0.1)
    # things: 10 of 100; all else: 90 + 10 of 90 + 100
    assert scores.result()["FB-IoU"] == pytest.approx((10 / 100 + 100 / 190) / 2)


def test_edge_cases_and_mistakes():
    scores = EpisodeScores({0: "thing"})
    with pytest.raises(InputError, match="no episode"):
        scores.result()
    with pytest.raises(InputError, match="class 5"):
        scores.add(5, np.zeros((2, 2), bool), np.zeros((2, 2), bool))
    assert scores.add(0, np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1.0


def test_a_scoring_size_is_torchs_nearest():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 9, (31, 47))
    for size_hw in ((400, 400), (7, 50), (31, 47)):
        tensor = torch.from_numpy(labels)[None, None].float()
        wanted = torch.nn.functional.interpolate(tensor, size_hw, mode="nearest")[0, 0].numpy()
        assert np.array_equal(at_size(labels, size_hw), wanted)
    scores = EpisodeScores({0: "thing"}, (400, 400))
    found, truth = blocks(rng, (20, 20)), blocks(rng, (20, 20))
    assert scores.add(0, found, truth) == pytest.approx(jaccard_score(truth.ravel(), found.ravel()))
    assert scores.stamp["scoring_size_hw"] == [400, 400]


def test_label_maps_are_scored_as_scikit_learn_does():
    rng = np.random.default_rng(3)
    scores = LabelScores(5)
    wanted, given = [], []
    for _ in range(4):
        truth = rng.choice([0, 1, 2, 3, 255], (16, 18))  # class 4 is never there
        found = np.where(rng.random((16, 18)) < 0.6, truth, rng.integers(0, 4, (16, 18)))
        found[found == 255] = 9  # no class
        scores.add(found, truth)
        wanted.append(truth[truth != 255])
        given.append(found[truth != 255])
    wanted, given = np.concatenate(wanted), np.concatenate(given)
    result = scores.result()
    assert result["aAcc"] == pytest.approx(accuracy_score(wanted, given))
    assert result["mAcc"] == pytest.approx(balanced_accuracy_score(wanted, given))
    ious = jaccard_score(wanted, given, average=None, labels=range(4))
    assert result["mIoU"] == pytest.approx(ious.mean())
    assert np.isnan(scores.per_class()[4]) and scores.per_class()[:4] == pytest.approx(ious)


def test_a_wrong_label_that_is_no_class_is_still_wrong():
    scores = LabelScores(2)
    truth = np.zeros((4, 4), int)
    found = truth.copy()
    found[0] = 255
    scores.add(found, truth)
    assert scores.result() == {"mIoU": 0.75, "mAcc": 0.75, "aAcc": 0.75}
    with pytest.raises(InputError, match="labels of the truth"):
        scores.add(found, truth + 7)
    with pytest.raises(InputError, match="of one size"):
        scores.add(found, truth[:2])
    with pytest.raises(InputError, match="no pixel"):
        LabelScores(2).result()


def test_soft_masks_become_one_label_map():
    soft = np.zeros((3, 2, 2), np.float32)
    soft[0], soft[2, 0, 0], soft[1, 1, 1] = 0.3, 0.9, 0.4
    assert fuse_soft_masks(soft).tolist() == [[2, 0], [0, 1]]
    assert fuse_soft_masks(soft, 0.35).tolist() == [[2, 255], [255, 1]]
    assert resized_soft(soft, (6, 8)).shape == (3, 6, 8)
