import numpy as np
import pytest

from ovdet.errors import InputError
from ovdet.metrics.video import (
    VideoScores,
    clip_scores,
    contour,
    contour_accuracy,
    region_similarity,
    seen_unseen,
    statistics,
)


def square(side, top, left, size_hw=(60, 80)):
    mask = np.zeros(size_hw, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def blobs(rng, size_hw=(24, 30)):
    coarse = rng.random((size_hw[0] // 3 + 1, size_hw[1] // 3 + 1)) < 0.4
    return np.kron(coarse, np.ones((3, 3), bool))[: size_hw[0], : size_hw[1]].astype(bool)


def contour_by_loop(mask):
    """A pixel is on the contour if its right, lower or lower right neighbour is another; beyond the edge, none is."""
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if y == height - 1:
                neighbours = [(y, x + 1)]
            if x == width - 1:
                neighbours = [(y + 1, x)]
            inside = [one for one in neighbours if one[0] < height and one[1] < width]
            edge[y, x] = any(mask[one] != mask[y, x] for one in inside)
    return edge


def accuracy_by_loop(found, truth, reach):
    """Distances between all pairs of contour pixels."""
    mine, theirs = np.argwhere(contour_by_loop(found)), np.argwhere(contour_by_loop(truth))
    if not len(mine) or not len(theirs):
        return float(len(mine) == len(theirs))
    apart = np.sqrt(((mine[:, None] - theirs[None]) ** 2).sum(axis=2))
    precision, recall = (apart.min(axis=1) <= reach).mean(), (apart.min(axis=0) <= reach).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def test_contours_and_their_accuracy_against_all_pairs_of_pixels():
    rng = np.random.default_rng(0)
    for _ in range(10):
        found, truth = blobs(rng), blobs(rng)
        assert np.array_equal(contour(truth), contour_by_loop(truth))
        for tolerance, reach in ((1, 1), (2, 2), (3, 3), (0.008, 1), (0.1, 4)):  # the diagonal is 38.4
            assert contour_accuracy(found, truth, tolerance=tolerance) == pytest.approx(
                accuracy_by_loop(found, truth, reach)
            )


def test_a_shifted_square_has_a_closed_form():
    """Side n shifted by d: J = (n - d) / (n + d); contours meet entirely as long as d is within the tolerance."""
    truth = square(30, 10, 10)
    for shift in (0, 1, 3, 10, 30, 40):
        found = square(30, 10, 10 + shift)
        assert region_similarity(found, truth) == pytest.approx(max(0, 30 - shift) / (30 + min(shift, 30)))
    assert contour_accuracy(square(30, 10, 11), truth) == 1.0  # tolerance of 60 x 80: ceil(0.8) = 1 pixel
    for shift in (2, 5):
        # The two horizontal sides still meet but for `shift - 1` pixels of their 31 at one end, the vertical ones not.
        found = square(30, 10, 10 + shift)
        assert contour_accuracy(found, truth) == pytest.approx(accuracy_by_loop(found, truth, 1))
        assert 0.4 < contour_accuracy(found, truth) < 0.6
    assert contour_accuracy(square(10, 45, 65), square(10, 2, 2)) == 0.0


def test_empty_masks():
    nothing, thing = np.zeros((60, 80), bool), square(10, 5, 5)
    assert region_similarity(nothing, nothing) == contour_accuracy(nothing, nothing) == 1.0
    assert region_similarity(thing, nothing) == contour_accuracy(thing, nothing) == 0.0
    assert region_similarity(nothing, thing) == contour_accuracy(nothing, thing) == 0.0
    everything = np.ones((60, 80), bool)
    assert contour_accuracy(everything, everything) == 1.0, "there is no contour along the picture's edge"


def test_void_pixels_count_nowhere():
    truth, found = square(20, 10, 10), square(20, 10, 20)
    void = square(60, 0, 20)  # all columns from 20 on
    void[:, 20:] = True
    assert region_similarity(found, truth, void) == 0.0 and region_similarity(truth, truth, void) == 1.0
    assert region_similarity(square(20, 10, 10) | square(5, 40, 60), truth, void) == 1.0


def test_statistics_are_means_shares_and_the_loss_from_first_to_last_quarter():
    values = np.linspace(1.0, 0.0, 41)
    mean, recall, decay = statistics(values)
    # quarters of 41 frames share their ends: frames 0-10 and 30-40
    assert mean == pytest.approx(0.5) and recall == pytest.approx(20 / 41)
    assert decay == pytest.approx(values[:11].mean() - values[30:].mean()) == pytest.approx(0.75)
    assert statistics(np.full(5, 0.8)) == (pytest.approx(0.8), 1.0, pytest.approx(0.0))


def test_objects_weigh_equally_whatever_clip_they_are_in():
    scores = VideoScores()
    truth = [np.where(square(20, 10, 10), 1, 0) + np.where(square(20, 10, 50), 2, 0) for _ in range(6)]
    half = [np.where(square(20, 10, 10), 1, 0) + np.where(square(20, 10, 60), 2, 0) for _ in range(6)]
    scores.add("two", clip_scores(half, truth, [1, 2]), [1, 2])
    alone = [np.where(label == 1, 1, 0) for label in truth]
    scores.add("one", clip_scores(alone, alone, [1]), [1])
    result = scores.result()
    assert result["J_mean"] == pytest.approx((1 + 10 / 30 + 1) / 3)
    outline = contour_accuracy(square(20, 10, 60), square(20, 10, 50))
    assert result["F_mean"] == pytest.approx((2 + outline) / 3)
    assert result["J&F"] == pytest.approx((result["J_mean"] + result["F_mean"]) / 2)
    assert result["J_recall"] == pytest.approx(2 / 3) and result["J_decay"] == pytest.approx(0)
    assert set(scores.rows) == {"two_1", "two_2", "one_1"}
    with pytest.raises(InputError, match="scored already"):
        scores.add("one", clip_scores(alone, alone, [1]), [1])
    with pytest.raises(InputError, match="no clip"):
        VideoScores().result()


def test_void_labels_of_a_clip():
    truth = np.where(square(20, 10, 10), 1, 0)
    truth[square(20, 10, 40)] = 255
    found = np.where(square(20, 10, 10) | square(20, 10, 40), 1, 0)
    assert clip_scores([found], [truth], [1]).region[0, 0] == 1.0


def test_g_is_the_mean_of_four():
    rows = {f"a_{n}": {"J_mean": 0.1 * n, "F_mean": 0.2 * n} for n in range(1, 5)}
    seen = {"a_1": True, "a_2": True, "a_3": True, "a_4": False}
    result = seen_unseen(rows, seen)
    assert result["J_seen"] == pytest.approx(0.2) and result["F_unseen"] == pytest.approx(0.8)
    assert result["G"] == pytest.approx((0.2 + 0.4 + 0.4 + 0.8) / 4)
    with pytest.raises(InputError, match="nobody says"):
        seen_unseen(rows, {"a_1": True})
    with pytest.raises(InputError, match="no object of an unseen"):
        seen_unseen(rows, dict.fromkeys(rows, True))


def test_mistakes_are_told():
    truth = [np.where(square(20, 10, 10), 1, 0)] * 3
    with pytest.raises(InputError, match="as many answers as frames, got 2 for 3"):
        clip_scores(truth[:2], truth, [1])
    with pytest.raises(InputError, match="has an object 4"):
        clip_scores([truth[0] * 4] * 3, truth, [1])
    with pytest.raises(InputError, match="frame 0: the answer is"):
        clip_scores([truth[0][:30]] * 3, truth, [1])
