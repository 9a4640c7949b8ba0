import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdet.vild import select
from ovdet.vild.select import best_candidates, select_detections


def overlap(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def brute_force(boxes, scores, threshold, iou, most) -> list[tuple[int, int]]:
    """Greedy suppression, class by class, in plain Python."""
    kept = []
    for label in range(scores.shape[1]):
        chosen: list[int] = []
        for row in np.argsort(-scores[:, label], kind="stable"):
            if scores[row, label] > threshold and all(overlap(boxes[row], boxes[other]) <= iou for other in chosen):
                chosen.append(int(row))
        kept += [(row, label) for row in chosen]
    return sorted(kept, key=lambda pair: -scores[pair])[:most]


def random_boxes(count: int, generator) -> np.ndarray:
    corner = generator.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + generator.uniform(10, 50, (count, 2))], axis=1).astype(np.float32)


def run(boxes, scores, **limits):
    tensor = torch.from_numpy(scores)
    return select_detections(torch.from_numpy(boxes), lambda rows: tensor[rows], scores.shape[1], **limits)


@pytest.mark.parametrize("most", [5, 40, 300])
def test_suppression_on_shared_boxes_by_brute_force(most):  # acceptance 15: 20 boxes x 30 classes
    generator = np.random.default_rng(3)
    boxes, scores = random_boxes(20, generator), generator.random((20, 30), dtype=np.float32)
    positions, kept, labels = run(boxes, scores, score_thr=0.1, nms_iou=0.5, max_dets=most)
    assert list(zip(positions.tolist(), labels.tolist(), strict=True)) == brute_force(boxes, scores, 0.1, 0.5, most)
    assert torch.equal(kept, torch.from_numpy(scores)[positions, labels])


@pytest.mark.parametrize("seed", range(5))
def test_suppression_does_not_depend_on_a_classs_place(seed):  # acceptance 16: small boxes far from the origin
    generator = np.random.default_rng(seed)
    corner = 1200 + generator.uniform(0, 20, (30, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(4, 10, (30, 2))], axis=1).astype(np.float32)
    column = generator.random(30, dtype=np.float32)
    expected = [row for row, _ in brute_force(boxes.tolist(), column[:, None], 0.0, 0.5, 30)]
    for label in (0, 9_999):
        scores = np.zeros((30, 10_000), dtype=np.float32)
        scores[:, label] = column
        assert run(boxes, scores, score_thr=0.0, nms_iou=0.5, max_dets=30)[0].tolist() == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), block=st.integers(1, 200), first=st.integers(1, 50), most=st.integers(1, 60))
def test_the_prefilter_never_changes_the_answer(seed, block, first, most):  # acceptance 15
    generator = np.random.default_rng(seed)
    centre = random_boxes(1, generator)  # crowded: much is suppressed, so that the first candidates do not suffice
    boxes = (centre + generator.normal(0, 3, (20, 4))).astype(np.float32)
    scores = generator.random((20, 7), dtype=np.float32)
    expected = brute_force(boxes, scores, 0.05, 0.5, most)
    old = select.BLOCK_SCORES, select.FIRST_CANDIDATES
    try:
        select.BLOCK_SCORES, select.FIRST_CANDIDATES = block, first
        positions, _, labels = run(boxes, scores, score_thr=0.05, nms_iou=0.5, max_dets=most)
    finally:
        select.BLOCK_SCORES, select.FIRST_CANDIDATES = old
    assert list(zip(positions.tolist(), labels.tolist(), strict=True)) == expected


def test_pitfall_5_small_scores_survive():  # acceptance 15: 0 against 1e-4, and against mmdet's 0.05
    generator = np.random.default_rng(0)
    boxes, scores = random_boxes(50, generator), generator.uniform(2e-4, 0.04, (50, 40)).astype(np.float32)
    at = {t: run(boxes, scores, score_thr=t, nms_iou=0.5, max_dets=300) for t in (0.0, 1e-4, 0.05)}
    assert len(at[0.0][0]) == 300
    assert all(torch.equal(a, b) for a, b in zip(at[0.0], at[1e-4], strict=True))
    assert len(at[0.05][0]) == 0


def test_scores_are_asked_for_in_blocks_that_bound_memory():
    asked = []

    def score_rows(rows: slice) -> torch.Tensor:
        asked.append((rows.stop - rows.start) * 10_000)
        return torch.rand(rows.stop - rows.start, 10_000)

    boxes = torch.rand(1000, 4) * 50
    boxes[:, 2:] += boxes[:, :2] + 5
    positions, scores, labels = select_detections(boxes, score_rows, 10_000, score_thr=1e-4, nms_iou=0.5, max_dets=300)
    assert max(asked) <= select.BLOCK_SCORES
    assert sum(asked) == 10_000_000
    assert len(positions) == len(scores) == len(labels) == 300
    assert (scores.diff() <= 0).all()


@pytest.mark.parametrize(("count", "classes"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_to_choose_from(count, classes):
    positions, scores, labels = select_detections(
        torch.rand(count, 4),
        lambda rows: torch.rand(max(rows.stop - rows.start, 0), classes),
        classes,
        score_thr=0.0,
        nms_iou=0.5,
        max_dets=10,
    )
    assert len(positions) == len(scores) == len(labels) == 0


def test_candidates_are_the_best_of_all():
    scores = torch.rand(40, 9)
    positions, best, labels, cut_off = best_candidates(40, lambda rows: scores[rows], 9, 0.5, 30)
    torch.testing.assert_close(best, scores.flatten().sort(descending=True).values[:30])
    assert torch.equal(scores[positions, labels], best)
    assert cut_off
