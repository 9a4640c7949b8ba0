import numpy as np
import pytest

from ovdet.errors import InputError
from ovdet.metrics.grounding import best_box_of_heat, grounding_accuracy, inclusive_iou, picked_right, plain_iou

RNG = np.random.default_rng(0)


def pixels(box):
    """The pixels of a box with whole corners, as a set."""
    x1, y1, x2, y2 = (int(value) for value in box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


@pytest.mark.parametrize("kind", [plain_iou, inclusive_iou])
def test_boxes_of_whole_pixels_by_counting(kind):
    corners = RNG.integers(0, 12, (300, 2, 2, 2))
    first, second = (np.concatenate([np.minimum(c[:, 0], c[:, 1]), np.maximum(c[:, 0], c[:, 1]) + 2], axis=1)
                     for c in (corners[:, 0], corners[:, 1]))  # fmt: skip
    found = kind(first, second)
    for a, b, iou in zip(first, second, found, strict=True):
        shared = pixels(a) & pixels(b)
        thin = len({x for x, _ in shared}) < 2 or len({y for _, y in shared}) < 2
        expected = 0 if kind is inclusive_iou and thin else len(shared) / len(pixels(a) | pixels(b))
        assert iou == pytest.approx(expected)


def test_known_values():
    a, b = [[0, 0, 10, 10]], [[5, 5, 15, 15]]
    assert inclusive_iou(a, b) == pytest.approx(1 / 7) and plain_iou(a, b) == pytest.approx(1 / 7)
    assert inclusive_iou([[3, 3, 4, 4]], [[3, 3, 4, 4]]) == 0 and plain_iou([[3, 3, 4, 4]], [[3, 3, 4, 4]]) == 1
    # of parts of pixels: 9.5 - 1 - 0 + 1 is 9.5, as wide as it is
    assert inclusive_iou([[0, 0, 9.5, 10]], [[0, 0, 10, 10]]) == pytest.approx(0.95)
    assert plain_iou([[0, 0, 0, 0]], [[0, 0, 0, 0]]) == 0


def test_the_two_kinds_part_at_thin_overlaps():
    thin = [[0, 0, 1, 10]]  # one pixel wide: its first and last column are the same
    assert inclusive_iou(thin, thin) == 0 and plain_iou(thin, thin) == 1


def test_accuracy_by_hand():
    truth = [[0, 0, 10, 10]] * 5
    found = [
        [0, 0, 10, 10],  # right
        [0, 0, 10, 5],  # IoU exactly one half: right
        [0, 0, 10, 4.99],  # wrong
        [20, 20, 30, 30],  # wrong
        [np.nan] * 4,  # not there: wrong
    ]
    numbers = grounding_accuracy(found, truth, [("val",), ("testA", "person"), ("testA",), ("val",), ()])
    assert numbers == {
        **{"all_plain": 40, "all_inclusive": 40, "all_sentences": 5},
        **{"val_plain": 50, "val_inclusive": 50, "val_sentences": 2},
        **{"testA_plain": 50, "testA_inclusive": 50, "testA_sentences": 2},
        **{"person_plain": 100, "person_inclusive": 100, "person_sentences": 1},
    }


def test_the_variants_differ_where_they_should():
    numbers = grounding_accuracy([[0, 0, 1, 8]], [[0, 0, 1, 8]])
    assert numbers["all_plain"] == 100 and numbers["all_inclusive"] == 0


def test_mistakes():
    with pytest.raises(InputError, match="no sentence"):
        grounding_accuracy([], [])
    with pytest.raises(InputError, match="got 2 and 1"):
        grounding_accuracy([[0, 0, 1, 1]] * 2, [[0, 0, 1, 1]])
    with pytest.raises(InputError, match="tags of 3"):
        grounding_accuracy([[0, 0, 1, 1]], [[0, 0, 1, 1]], [(), (), ()])


def test_picking_the_right_thing_with_a_loose_box():
    things = [[0, 0, 10, 10], [20, 0, 30, 10]]
    assert picked_right([15, 0, 40, 20], things[1], things)
    assert not picked_right([0, 0, 18, 20], things[1], things)
    assert not picked_right([50, 50, 60, 60], things[1], things)
    assert not picked_right([0, 0, 1, 1], [0, 0, 1, 1], [])


def test_heat_by_summing_pixels():
    heat = RNG.normal(size=(15, 20))
    boxes = np.array([[2.7, 3.2, 9.9, 8.1], [0, 0, 20, 15], [5, 5, 5.9, 9], [-3, -2, 4, 4], [15, 10, 30, 30]])
    best, scores = best_box_of_heat(heat, boxes, exponent=0.5)
    for (x1, y1, x2, y2), score in zip(boxes, scores, strict=True):
        inside = heat[max(int(y1), 0) : max(int(y2), 0), max(int(x1), 0) : max(int(x2), 0)].sum()
        assert score == pytest.approx(inside / ((x2 - x1) * (y2 - y1)) ** 0.5)
    assert best == scores.argmax()


def test_a_larger_exponent_prefers_smaller_boxes():
    heat = np.zeros((10, 10))
    heat[4:6, 4:6], heat[0, 0] = 1, 0.5
    small, large = [4, 4, 6, 6], [0, 0, 10, 10]
    assert best_box_of_heat(heat, [large, small], 0.0)[0] == 0
    assert best_box_of_heat(heat, [large, small], 0.5)[0] == 1
    with pytest.raises(InputError, match="at least one box"):
        best_box_of_heat(heat, [])
