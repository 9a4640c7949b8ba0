import math

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou

from ovdet.xvlm.losses import (
    box_losses,
    contrastive_loss,
    gather_rows,
    generalised_iou,
    hard_negatives,
    masked_word_loss,
    matching_loss,
)


def units(rows, width=4, seed=0):
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def softmax_by_hand(row):
    shares = [math.exp(value) for value in row]
    return [share / sum(shares) for share in shares]


def test_contrast_of_orthogonal_pairs_has_a_closed_form():
    vectors = torch.eye(3)
    expected = -math.log(math.e**2 / (math.e**2 + 2))
    assert contrastive_loss(vectors, vectors, 0.5).item() == pytest.approx(expected, abs=1e-6)


def test_contrast_is_the_mean_over_rows_and_columns_done_by_hand():
    images, texts = units(4), units(4, seed=1)
    ids = [5, 6, 5, 7]
    cosines = [[float(a @ b) / 0.07 for b in texts] for a in images]
    columns = [list(column) for column in zip(*cosines, strict=True)]
    plain = sum(-math.log(softmax_by_hand(table[k])[k]) for table in (cosines, columns) for k in range(4)) / 8
    assert contrastive_loss(images, texts, 0.07).item() == pytest.approx(plain, abs=1e-4)
    shared = 0.0
    for table in (cosines, columns):
        for k in range(4):
            same = [j for j in range(4) if ids[j] == ids[k]]
            shared += sum(-math.log(softmax_by_hand(table[k])[j]) for j in same) / len(same)
    assert contrastive_loss(images, texts, 0.07, torch.tensor(ids)).item() == pytest.approx(shared / 8, abs=1e-4)


def test_contrast_has_the_numerical_gradient():
    images, texts = units(3).double().requires_grad_(), units(3, seed=1).double().requires_grad_()
    heat = torch.tensor(0.3, dtype=torch.double, requires_grad=True)
    for ids in (None, torch.tensor([1, 1, 2])):
        numeric = []
        for place in range(4):
            step = torch.zeros(3, 4, dtype=torch.double)
            step[0, place] = 1e-3
            ends = [contrastive_loss(images + sign * step, texts, heat, ids).item() for sign in (1, -1)]
            numeric.append((ends[0] - ends[1]) / 2e-3)
        grad, at_heat = torch.autograd.grad(contrastive_loss(images, texts, heat, ids), [images, heat])
        torch.testing.assert_close(grad[0].float(), torch.tensor(numeric), atol=2e-3, rtol=2e-3)
        assert at_heat.abs() > 0


def test_negatives_are_wrong_and_drawn_by_likeness():
    images, texts = units(4), units(4, seed=1)
    torch.manual_seed(0)
    counts_texts, counts_images = torch.zeros(4, 4), torch.zeros(4, 4)
    draws = 500
    for _ in range(draws):
        wrong = hard_negatives(images, texts, 0.5)
        assert (wrong.texts != wrong.images).all() and len(wrong.texts) == 8
        assert wrong.texts[:4].tolist() == wrong.images[4:].tolist() == [0, 1, 2, 3]
        counts_texts[range(4), wrong.images[:4]] += 1
        counts_images[range(4), wrong.texts[4:]] += 1
    for counts, table in ((counts_texts, texts @ images.T), (counts_images, images @ texts.T)):
        expected = (table / 0.5).softmax(1) + 1e-5
        expected.fill_diagonal_(0)
        torch.testing.assert_close(counts / draws, expected / expected.sum(1, keepdim=True), atol=0.09, rtol=0)


def test_the_first_draws_are_the_pictures_of_the_texts():
    images, texts = units(5), units(5, seed=1)
    torch.manual_seed(4)
    weights = ((texts @ images.T) / 0.07).softmax(1) + 1e-5
    by_hand = [torch.multinomial(weights[k].masked_fill(torch.eye(5).bool()[k], 0), 1).item() for k in range(5)]
    torch.manual_seed(4)
    assert hard_negatives(images, texts, 0.07).images[:5].tolist() == by_hand


def test_texts_of_the_same_picture_are_never_wrong_and_rows_without_strangers_are_left_out():
    vectors = units(4)
    ids = torch.tensor([1, 1, 2, 2])
    for seed in range(20):
        torch.manual_seed(seed)
        wrong = hard_negatives(vectors, vectors, 0.01, ids)
        assert (ids[wrong.texts] != ids[wrong.images]).all()
    none = hard_negatives(vectors, vectors, 0.07, torch.ones(4, dtype=torch.long))
    assert len(none.texts) == len(none.images) == 0
    assert len(hard_negatives(vectors[:1], vectors[:1], 0.07).texts) == 0


def test_matching_counts_every_pair_alike():
    right, wrong = torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    by_hand = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2)), math.log(1 + math.exp(0.5))]
    assert matching_loss(right, wrong).item() == pytest.approx(sum(by_hand) / 3, abs=1e-6)
    assert matching_loss(right, wrong[:0]).item() == pytest.approx(by_hand[0], abs=1e-6)


def test_words_are_averaged_over_those_of_the_batch():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([[1, -100, -100], [4, 0, 2]])
    by_hand = [
        -math.log(softmax_by_hand(logits[k, m].tolist())[targets[k, m]])
        for k in range(2)
        for m in range(3)
        if targets[k, m] >= 0
    ]
    assert masked_word_loss(logits, targets).item() == pytest.approx(sum(by_hand) / 4, abs=1e-5)
    nothing = masked_word_loss(logits, torch.full((2, 3), -100))
    nothing.backward()
    assert nothing.item() == 0 and logits.grad.abs().sum() == 0


def test_giou_is_that_of_torchvision():
    boxes = torch.rand(200, 2, 4, generator=torch.Generator().manual_seed(0))
    first, second = boxes[:, 0], boxes[:, 1]
    corners = [box_convert(each, "cxcywh", "xyxy") for each in (first, second)]
    torch.testing.assert_close(
        generalised_iou(first, second), generalized_box_iou(*corners).diagonal(), atol=1e-6, rtol=0
    )


def test_giou_of_known_boxes():
    whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    quarter = torch.tensor([[0.25, 0.25, 0.5, 0.5]])
    apart = torch.tensor([[0.75, 0.75, 0.5, 0.5]])
    point = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert generalised_iou(whole, quarter).item() == 0.25
    assert generalised_iou(quarter, apart).item() == -0.5
    assert generalised_iou(point, point).item() == 0


def test_box_losses_count_regions_only():
    predicted = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1.0, 1.0]])
    target = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.2, 0.3, 0.4], [0.9, 0.9, 0.1, 0.1]])
    distance, overlap = box_losses(predicted, target, torch.tensor([0, 0, 1]))
    assert distance.item() == pytest.approx(0.1) and overlap.item() == pytest.approx(0.25)
    distance, overlap = box_losses(predicted[:2], target[:2])
    assert distance.item() == pytest.approx(0.1) and overlap.item() == pytest.approx(0.25)


def test_box_losses_of_pictures_alone_are_zero_and_not_nan():
    predicted = torch.rand(3, 4, requires_grad=True)
    distance, overlap = box_losses(predicted, torch.rand(3, 4), torch.ones(3, dtype=torch.bool))
    (distance + overlap).backward()
    assert distance.item() == overlap.item() == 0
    assert predicted.grad.abs().sum() == 0


def test_box_losses_have_the_numerical_gradient_also_without_area():
    target = torch.tensor([[0.4, 0.5, 0.3, 0.2], [0.6, 0.6, 0.2, 0.5]])
    start = torch.tensor([[0.45, 0.5, 0.25, 0.3], [0.2, 0.3, 0.1, 0.1]], requires_grad=True)
    sum(box_losses(start, target)).backward()
    for row in range(2):
        for place in range(4):
            step = torch.zeros(2, 4)
            step[row, place] = 2e-3
            ends = [sum(box_losses(start.detach() + sign * step, target)).item() for sign in (1, -1)]
            assert start.grad[row, place].item() == pytest.approx((ends[0] - ends[1]) / 4e-3, abs=0.02)
    flat = torch.zeros(1, 4, requires_grad=True)
    sum(box_losses(flat, torch.zeros(1, 4))).backward()
    assert flat.grad.isfinite().all()


def test_rows_of_all_ranks_with_gradients_of_our_own(monkeypatch):
    """Rank 1 of 2: the other's rows come first, and take no gradient from here."""
    other = torch.full((2, 3), 7.0)

    def all_gather(parts, rows):
        parts[0].copy_(other.to(rows.dtype))
        parts[1].copy_(rows)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "all_gather", all_gather)
    rows = torch.randn(2, 3, requires_grad=True)
    found = gather_rows(rows)
    torch.testing.assert_close(found, torch.cat([other, rows]))
    weights = torch.arange(12.0).view(4, 3)
    (found * weights).sum().backward()
    torch.testing.assert_close(rows.grad, weights[2:])


def test_rows_of_one_rank_are_themselves():
    rows = torch.randn(2, 3)
    assert gather_rows(rows) is rows
