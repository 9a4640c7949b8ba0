"""Focal losses through mmcv.ops, against their definition, torchvision and gradcheck."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmcv.ops import SigmoidFocalLoss, sigmoid_focal_loss, softmax_focal_loss


@pytest.fixture
def scene(random):
    """Logits (8, 5), targets (8,) of which two are background (5), weights (5,)."""
    targets = torch.tensor([0, 1, 4, 5, 2, 2, 5, 3])
    logits = random(8, 5) * 8 - 4
    return logits, targets.to(logits.device), random(5) + 0.5


def sigmoid_by_hand(logits, targets, gamma, alpha, weight):
    total = [[0.0] * logits.shape[1] for _ in range(len(logits))]
    for n, target in enumerate(targets.tolist()):
        for k in range(logits.shape[1]):
            p = 1 / (1 + math.exp(-logits[n, k].item()))
            if k == target:
                loss = -alpha * (1 - p) ** gamma * math.log(p)
            else:
                loss = -(1 - alpha) * p**gamma * math.log(1 - p)
            total[n][k] = loss * (1.0 if weight is None or target >= len(weight) else weight[target].item())
    return torch.tensor(total, dtype=logits.dtype)


@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_focal_loss(scene, gamma, alpha, weighted):
    logits, targets, weight = scene
    weight = weight if weighted else None
    expected = sigmoid_by_hand(logits, targets, gamma, alpha, weight)
    found = sigmoid_focal_loss(logits, targets, gamma, alpha, weight, "none")
    torch.testing.assert_close(found.cpu(), expected)
    for reduction, total in (("sum", expected.sum()), ("mean", expected.sum() / len(logits))):
        torch.testing.assert_close(SigmoidFocalLoss(gamma, alpha, weight, reduction)(logits, targets).cpu(), total)


def test_sigmoid_focal_loss_is_torchvisions(scene):
    logits, targets, _ = scene
    one_hot = F.one_hot(targets, 6)[:, :5].to(logits.dtype)
    expected = torchvision.ops.sigmoid_focal_loss(logits, one_hot, 0.25, 2.0, "sum")
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, 2.0, 0.25, None, "sum"), expected)


@pytest.mark.parametrize("gamma", [2.0, 0.0, 0.5])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_of_sigmoid_focal_loss(scene, gamma, reduction, weighted):
    logits, targets, weight = scene
    arguments = (targets, gamma, 0.25, weight if weighted else None, reduction)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, *arguments), logits)


def _softmax_loss(arguments, reduction, logits):
    return softmax_focal_loss(logits, *arguments, reduction)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.0, 1.0), (0.5, 0.7)])
def test_softmax_focal_loss(scene, gamma, alpha, weighted):
    logits, targets, weight = scene
    targets = torch.where(targets == 5, -1, targets)  # rows that do not count
    p = logits.softmax(1)[torch.arange(8), targets.clamp(min=0)]
    expected = -alpha * (1 - p) ** gamma * p.log() * (targets >= 0)
    if weighted:
        expected = expected * weight[targets.clamp(min=0)]
    arguments = (targets, gamma, alpha, weight if weighted else None)
    torch.testing.assert_close(softmax_focal_loss(logits, *arguments, "none"), expected)
    torch.testing.assert_close(softmax_focal_loss(logits, *arguments, "mean"), expected.sum() / 8)
    logits.requires_grad_()
    for reduction in ("mean", "sum"):
        assert torch.autograd.gradcheck(partial(_softmax_loss, arguments, reduction), logits)


def test_extreme_logits_stay_finite(device):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], device=device, requires_grad=True)
    targets = torch.tensor([0, 0], device=device)
    for function, worst in ((sigmoid_focal_loss, 0.25 * 200 + 0.75 * 200), (softmax_focal_loss, 0.0)):
        for gamma in (2.0, 0.0, 0.5):
            loss = function(logits, targets, gamma, 0.25, None, "sum")
            (grad,) = torch.autograd.grad(loss, logits)
            assert loss.isfinite() and grad.isfinite().all()
            assert loss.item() >= worst  # softmax arrives as a probability of 0, of which the log is bounded


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(scene, dtype):
    logits, targets, _ = scene
    low = logits.to(dtype).requires_grad_()
    loss = sigmoid_focal_loss(low, targets, 2.0, 0.25, None, "none")
    loss.sum().backward()
    assert loss.dtype == low.grad.dtype == dtype
    torch.testing.assert_close(
        loss, sigmoid_focal_loss(low.detach().float(), targets, 2.0, 0.25, None, "none").to(dtype)
    )
