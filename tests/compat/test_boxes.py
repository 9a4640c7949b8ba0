"""nms and its relatives through mmcv.ops, against loops over pairs of boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms


def iou(a, b, offset=0.0, of_first=False):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a, area_b = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    base = area_a if of_first else area_a + area_b - width * height
    return width * height / base if base else 0.0


def nms_by_hand(boxes, scores, threshold, offset=0.0):
    """Indices kept, best first, and for each what it suppressed, best first."""
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept, groups = [], []
    while order:
        best = order.pop(0)
        kept.append(best)
        groups.append([best, *(i for i in order if iou(boxes[best], boxes[i], offset) > threshold)])
        order = [i for i in order if i not in groups[-1]]
    return kept, groups


def soft_nms_by_hand(boxes, scores, method, threshold, sigma, min_score, offset):
    """Pairs of index and decayed score, in the order they are picked."""
    left = dict(enumerate(scores))
    picked = []
    while left:
        best = max(left, key=left.__getitem__)
        picked.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == "gaussian":
                left[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 0.0 if method == "naive" else 1 - overlap
            if left[i] < min_score:
                del left[i]
    return picked


@pytest.fixture
def scene(random):
    """Overlapping boxes (60, 4), pixels, and their scores (60,): no ties."""
    corner, size = random(60, 2) * 60, random(60, 2) * 30 + 3
    return torch.cat([corner, corner + size], dim=1).float(), random(60).float()


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms(scene, threshold, offset):
    boxes, scores = scene
    dets, kept = nms(boxes, scores, threshold, offset=offset)
    expected, _ = nms_by_hand(boxes.tolist(), scores.tolist(), threshold, offset)
    assert kept.tolist() == expected
    assert 0 < len(expected) < len(boxes)
    torch.testing.assert_close(dets, torch.cat([boxes[kept], scores[kept, None]], dim=1), rtol=0, atol=0)
    assert kept.device == boxes.device


def test_nms_filters_limits_and_takes_numpy(scene):
    boxes, scores = scene
    expected, _ = nms_by_hand(boxes.tolist(), scores.tolist(), 0.5)
    good = [i for i in expected if scores[i] > 0.4]
    assert nms(boxes, scores, 0.5, score_threshold=0.4)[1].tolist() == good
    assert nms(boxes, scores, 0.5, max_num=3)[1].tolist() == expected[:3]
    dets, kept = nms(boxes.cpu().numpy(), scores.cpu().numpy(), 0.5)
    assert isinstance(dets, np.ndarray) and kept.tolist() == expected


def test_nms_of_nothing_and_of_empty_boxes(device):
    dets, kept = nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert dets.shape == (0, 5) and kept.shape == (0,)
    points = torch.tensor([[5.0, 5, 5, 5]] * 3, device=device)
    assert nms(points, torch.tensor([0.1, 0.3, 0.2], device=device), 0.5)[1].tolist() == [1, 2, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nms_in_other_precisions(scene, dtype):
    boxes, scores = (tensor.to(dtype) for tensor in scene)
    scores = torch.linspace(0.1, 0.9, len(boxes), device=boxes.device).to(dtype).unique()[:50]
    boxes = boxes[: len(scores)]
    dets, kept = nms(boxes, scores, 0.5)
    assert kept.tolist() == nms_by_hand(boxes.float().tolist(), scores.float().tolist(), 0.5)[0]
    assert dets.dtype == dtype


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("offset", [0, 1])
def test_soft_nms(scene, method, offset):
    boxes, scores = scene
    settings = {"iou_threshold": 0.3, "sigma": 0.4, "min_score": 0.05}
    dets, kept = soft_nms(boxes, scores, method=method, offset=offset, **settings)
    expected = soft_nms_by_hand(boxes.tolist(), scores.tolist(), method, 0.3, 0.4, 0.05, offset)
    assert kept.tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(dets[:, 4].tolist(), [score for _, score in expected], rtol=1e-5)
    torch.testing.assert_close(dets[:, :4], boxes[kept], rtol=0, atol=0)
    assert dets.device == kept.device == boxes.device
    assert 5 < len(expected) < len(boxes)


def test_what_is_being_trained_can_be_suppressed(scene):
    boxes, scores = (tensor.clone().requires_grad_() for tensor in scene)
    expected = soft_nms(*scene)
    for found, wanted in zip(soft_nms(boxes, scores), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted)
    torch.testing.assert_close(scores.detach(), scene[1], rtol=0, atol=0)  # the input is left alone
    assert nms(boxes, scores, 0.5)[1].tolist() == nms(*scene, 0.5)[1].tolist()


def test_soft_nms_of_few(device):
    box = torch.tensor([[0.0, 0, 9, 9]], device=device)
    dets, kept = soft_nms(box[:0], box[:0, 0])
    assert dets.shape == (0, 5) and kept.tolist() == []
    dets, kept = soft_nms(box, torch.tensor([0.25], device=device))
    assert dets.tolist() == [[0, 0, 9, 9, 0.25]] and kept.tolist() == [0]


def test_naive_soft_nms_is_nms(scene):
    boxes, scores = scene
    assert soft_nms(boxes, scores, 0.4, method="naive")[1].tolist() == nms(boxes, scores, 0.4)[1].tolist()


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_nms_match(scene, threshold):
    boxes, scores = scene
    dets = torch.cat([boxes, scores[:, None]], dim=1)
    groups = [group.tolist() for group in nms_match(dets, threshold)]
    assert groups == nms_by_hand(boxes.tolist(), scores.tolist(), threshold)[1]
    assert sorted(i for group in groups for i in group) == list(range(len(boxes)))
    from_numpy = nms_match(dets.cpu().numpy(), threshold)
    assert [group.tolist() for group in from_numpy] == groups


def test_nms_match_counts_an_overlap_of_exactly_the_threshold(device):
    half = [[0.0, 0, 2, 2, 0.9], [0, 0, 2, 1, 0.8]]
    assert [g.tolist() for g in nms_match(torch.tensor(half, device=device), 0.5)] == [[0, 1]]
    assert nms(torch.tensor(half)[:, :4], torch.tensor([0.9, 0.8]), 0.5)[1].tolist() == [0, 1]
    assert nms_match(torch.zeros(0, 5, device=device), 0.5) == []


@pytest.mark.parametrize("split", [10_000, 10])
@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_batched_nms_keeps_classes_apart_below_and_above_its_split_threshold(scene, split, kind):
    boxes, scores = scene
    classes = torch.arange(len(boxes), device=boxes.device) % 4
    found = []
    for label in range(4):
        members = (classes == label).nonzero()[:, 0].tolist()
        some = [boxes[i].tolist() for i in members], [scores[i].item() for i in members]
        if kind == "nms":
            found += [(members[i], some[1][i]) for i in nms_by_hand(*some, 0.3)[0]]
        else:
            found += [(members[i], s) for i, s in soft_nms_by_hand(*some, "linear", 0.3, 0.5, 1e-3, 0)]
    expected = sorted(found, key=lambda pair: -pair[1])
    dets, kept = batched_nms(boxes, scores, classes, {"type": kind, "iou_threshold": 0.3, "split_thr": split})
    assert kept.tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(dets[:, 4].tolist(), [s for _, s in expected], rtol=1e-4)
    torch.testing.assert_close(dets[:, :4], boxes[kept], rtol=0, atol=0)


def test_batched_nms_class_agnostic_limited_and_skipped(scene):
    boxes, scores = scene
    classes = torch.arange(len(boxes), device=boxes.device) % 4
    everything = {"type": "nms", "iou_threshold": 0.3}
    expected, _ = nms_by_hand(boxes.tolist(), scores.tolist(), 0.3)
    assert batched_nms(boxes, scores, classes, everything, class_agnostic=True)[1].tolist() == expected
    limited = batched_nms(boxes, scores, classes, {**everything, "split_thr": 10, "max_num": 5})[1]
    assert limited.tolist() == batched_nms(boxes, scores, classes, everything)[1][:5].tolist()
    assert batched_nms(boxes, scores, classes, None)[1].tolist() == scores.argsort(descending=True).tolist()


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("offset", [0, 1])
def test_bbox_overlaps(scene, mode, offset):
    first, second = scene[0][:7], scene[0][7:12]
    table = bbox_overlaps(first, second, mode=mode, offset=offset)
    by_hand = [[iou(a, b, offset, mode == "iof") for b in second.tolist()] for a in first.tolist()]
    np.testing.assert_allclose(table.tolist(), by_hand, rtol=1e-5)
    rows = bbox_overlaps(first[:5], second, mode=mode, aligned=True, offset=offset)
    np.testing.assert_allclose(rows.tolist(), np.diag(np.array(by_hand)[:5]), rtol=1e-5)
