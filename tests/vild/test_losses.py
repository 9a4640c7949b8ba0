import math

import pytest
import torch
from torch.nn import functional as F

from ovdet.vild.losses import box_loss, classification_loss, distillation_loss


def test_pitfall_1_the_l1_is_summed_over_the_width():  # acceptance 2
    student, teacher = torch.randn(300, 512), torch.randn(300, 512)
    mean = (F.normalize(student, dim=1) - F.normalize(teacher, dim=1)).abs().mean()
    assert 0.5 * distillation_loss(student, teacher).item() == pytest.approx(256 * mean.item(), rel=1e-6)


def test_distance_of_random_unit_vectors():  # acceptance 2
    loss = distillation_loss(torch.randn(4000, 512), torch.randn(4000, 512)).item()
    assert 0.5 * loss == pytest.approx(12.77, abs=0.05)
    assert loss == pytest.approx(512 * 2 / math.sqrt(math.pi * 512), abs=0.1)  # E|N(0, 2/D)| times D


def test_equal_directions_cost_nothing():  # acceptance 2
    teacher = torch.randn(7, 512)
    assert distillation_loss(3 * teacher, teacher).item() == pytest.approx(0, abs=1e-4)


def test_no_regions_give_a_zero_with_a_gradient():
    student = torch.randn(0, 8, requires_grad=True)
    loss = distillation_loss(student, torch.randn(0, 8))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None


def test_distillation_gradient_by_finite_differences():
    student, teacher = torch.randn(2, 5), torch.randn(2, 5)
    student.requires_grad_()
    distillation_loss(student, teacher).backward()
    step, numeric = 1e-3, torch.zeros_like(student)
    with torch.no_grad():
        for index in range(student.numel()):
            nudge = torch.zeros(student.numel())
            nudge[index] = step
            nudge = nudge.view_as(student)
            higher, lower = (distillation_loss(student + sign * nudge, teacher) for sign in (1, -1))
            numeric.view(-1)[index] = (higher - lower) / (2 * step)
    torch.testing.assert_close(student.grad, numeric, atol=2e-3, rtol=2e-2)


def test_pitfall_3_novel_columns_do_not_compete():  # acceptance 4
    base = torch.ones(1203, dtype=torch.bool)
    base[torch.randperm(1203)[:337]] = False
    logits, labels = torch.zeros(4, 1204), torch.tensor([int(base.nonzero()[0]), 1203, 1203, 1203])
    masked = classification_loss(logits, labels, base).item()
    assert masked == pytest.approx(math.log(867), abs=1e-4)
    assert masked == pytest.approx(6.7650, abs=1e-4)
    everything = classification_loss(logits, labels, torch.ones_like(base)).item()
    assert everything == pytest.approx(7.0934, abs=1e-4)


def test_pitfall_3_novel_columns_do_not_learn():  # acceptance 4
    base = torch.tensor([True, False, True, False])
    logits = torch.randn(6, 5, requires_grad=True)
    classification_loss(logits, torch.tensor([0, 2, 4, 4, 0, 4]), base).backward()
    assert torch.equal(logits.grad[:, ~torch.cat([base, base.new_ones(1)])], torch.zeros(6, 2))
    assert (logits.grad[:, [0, 2, 4]] != 0).all()


def test_masking_equals_dropping_the_columns():
    base = torch.tensor([True, False, True, False])
    logits, labels = torch.randn(6, 5), torch.tensor([0, 2, 4, 4, 0, 4])
    dropped = F.cross_entropy(logits[:, [0, 2, 4]], torch.tensor([0, 1, 2, 2, 0, 2]))
    torch.testing.assert_close(classification_loss(logits, labels, base), dropped)


def test_background_is_never_masked():
    loss = classification_loss(torch.randn(3, 4), torch.tensor([3, 3, 3]), torch.zeros(3, dtype=torch.bool))
    assert loss.item() == pytest.approx(0, abs=1e-6)  # the only column left


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_box_loss_by_hand(beta):
    deltas, targets = torch.tensor([[0.0, 0.5, 2.0, -3.0]]), torch.zeros(1, 4)
    expected = 5.5 if beta == 0 else 0.125 + 1.5 + 2.5
    assert box_loss(deltas, targets, 10, beta).item() == pytest.approx(expected / 10)


def test_box_loss_without_objects_keeps_the_gradient_path():
    deltas = torch.randn(0, 4, requires_grad=True)
    loss = box_loss(deltas, torch.zeros(0, 4), 0, 1.0)
    loss.backward()
    assert loss.item() == 0
