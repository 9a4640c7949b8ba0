from itertools import product

import numpy as np
import pytest

from ovdet.errors import InputError
from ovdet.metrics.panoptic import PanopticScores

THINGS = {0: True, 1: True, 2: False}


def by_definition(found, found_classes, truth, true_classes, crowds):
    """PQ of each class: all pairs of segments, masks in hand."""
    numbers = {label: [0.0, 0, 0, 0] for label in THINGS}
    void = truth == 0
    hit_found, hit_true = set(), set()
    for mine, theirs in product(found_classes, true_classes):
        a, b = found == mine, truth == theirs
        if theirs in crowds or found_classes[mine] != true_classes[theirs] or not a.any() or not b.any():
            continue
        iou = (a & b).sum() / ((a & ~void) | b).sum()
        if iou > 0.5:
            numbers[true_classes[theirs]][0] += iou
            numbers[true_classes[theirs]][1] += 1
            hit_found.add(mine)
            hit_true.add(theirs)
    for theirs, label in true_classes.items():
        numbers[label][3] += theirs not in hit_true and theirs not in crowds and bool((truth == theirs).any())
    for mine, label in found_classes.items():
        a = found == mine
        crowd = np.isin(truth, [c for c in crowds if true_classes[c] == label])
        excused = (a & (void | crowd)).sum() > 0.5 * a.sum()
        numbers[label][2] += bool(a.any()) and mine not in hit_found and not excused
    return numbers


def scene(rng):
    """Blocks of 4 x 4 pixels, each with some segment; answers agree with the truth most of the time."""
    coarse = rng.integers(0, 7, (6, 6))
    other = np.where(rng.random((6, 6)) < 0.75, coarse, rng.integers(0, 7, (6, 6)))
    truth, found = (np.kron(one, np.ones((4, 4), int)) for one in (coarse, other))
    true_classes = {segment: int(rng.integers(0, 3)) for segment in range(1, 7)}
    found_classes = {
        segment: label if rng.random() < 0.9 else int(rng.integers(0, 3)) for segment, label in true_classes.items()
    }
    return found, found_classes, truth, true_classes, [int(rng.integers(1, 7))]


def test_random_scenes_against_the_definition():
    rng = np.random.default_rng(0)
    scores = PanopticScores(THINGS)
    total = {label: np.zeros(4) for label in THINGS}
    for _ in range(60):
        drawn = scene(rng)
        scores.add(*drawn)
        for label, row in by_definition(*drawn).items():
            total[label] += row
    rows = {row["label"]: row for row in scores.per_class()}
    for label, (iou, matched, false, missed) in total.items():
        assert matched > 10 and false > 3 and missed > 3
        assert rows[label]["PQ"] == pytest.approx(iou / (matched + false / 2 + missed / 2))
        assert rows[label]["SQ"] == pytest.approx(iou / matched)
        assert rows[label]["PQ"] == pytest.approx(rows[label]["SQ"] * rows[label]["RQ"])
    result = scores.result()
    assert result["PQ"] == pytest.approx(np.mean([row["PQ"] for row in rows.values()]))
    assert result["PQ_things"] == pytest.approx((rows[0]["PQ"] + rows[1]["PQ"]) / 2)
    assert result["PQ_stuff"] == pytest.approx(rows[2]["PQ"])


def test_a_picture_worked_by_hand():
    """Class 0: IoU 8 / 12 matched; class 1: one missed, one false: PQ (2/3 + 0) / 2."""
    truth, found = np.full((4, 8), 9), np.full((4, 8), 9)
    truth[:2, :5], found[:2, 1:6] = 1, 5  # 10 and 10 pixels, 8 in common
    truth[2:, :2], found[2:, 6:] = 2, 6
    classes = {1: 0, 2: 1, 9: 2}
    scores = PanopticScores(THINGS)
    scores.add(found, {5: 0, 6: 1, 9: 2}, truth, classes)
    rows = scores.per_class()
    assert rows[0]["PQ"] == pytest.approx(8 / 12) and rows[1] == {"label": 1, "PQ": 0.0, "SQ": 0.0, "RQ": 0.0}
    assert scores.result()["PQ_things"] == pytest.approx(1 / 3)


def test_what_lies_in_void_or_a_crowd_is_not_false():
    truth, found = np.zeros((4, 8), int), np.zeros((4, 8), int)
    truth[:, 4:] = 3
    found[:2, :4], found[2:, :4], found[:2, 4:], found[2:, 4:] = 1, 2, 4, 5
    scores = PanopticScores(THINGS)
    scores.add(found, {1: 0, 2: 1, 4: 0, 5: 1}, truth, {3: 0}, crowds=[3])
    assert scores.false == {0: 0, 1: 1, 2: 0}, "the crowd is of class 0: a thing of class 1 in it is false"
    assert not any(scores.missed.values())


def test_mistakes_are_told():
    scores = PanopticScores(THINGS)
    with pytest.raises(InputError, match="no segment"):
        scores.result()
    with pytest.raises(InputError, match="of one size"):
        scores.add(np.zeros((2, 2), int), {}, np.zeros((3, 2), int), {})
    with pytest.raises(InputError, match="found segment 7 is of an unknown class None"):
        scores.add(np.full((2, 2), 7), {}, np.zeros((2, 2), int), {})
    with pytest.raises(InputError, match="true segment 7 is of an unknown class 5"):
        scores.add(np.zeros((2, 2), int), {}, np.full((2, 2), 7), {7: 5})
