import numpy as np
import pytest
import torch

from ovdet.seggpt.losses import painting_loss, pixels_of


def by_patches(painted, paintings, masked, valid, beta=0.01):
    """The published loss, patch by patch and pixel by pixel, in double precision."""
    count, _, height, width = painted.shape
    rows, columns = masked.shape[1:]
    h, w = height // rows, width // columns
    total = weight = 0.0
    for n in range(count):
        for row in range(rows):
            for column in range(columns):
                if not masked[n % len(masked), row, column]:
                    continue
                area = (n, slice(None), slice(row * h, (row + 1) * h), slice(column * w, (column + 1) * w))
                away = np.abs(painted[area] - paintings[area]).astype(np.float64)
                loss = np.where(away < beta, 0.5 * away**2 / beta, away - 0.5 * beta)
                judged = valid[(n, *area[2:])][None].repeat(3, axis=0)
                total, weight = total + (loss * judged).sum(), weight + judged.sum()
    return total / weight


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    painted = rng.normal(size=(3, 3, 16, 8)).astype(np.float32)
    paintings = painted + rng.normal(size=painted.shape).astype(np.float32) * rng.choice([0.005, 1.0], painted.shape)
    return painted, paintings.astype(np.float32), rng.random((3, 4, 2)) < 0.5, rng.random((3, 16, 8)) < 0.8


def test_the_loss_is_that_of_hidden_judged_pixels(batch):
    painted, paintings, masked, valid = batch
    tensors = [torch.from_numpy(one) for one in batch]
    assert painting_loss(*tensors).item() == pytest.approx(by_patches(*batch), rel=1e-5)
    everything = np.ones_like(valid)
    assert painting_loss(*tensors[:3]).item() == pytest.approx(
        by_patches(painted, paintings, masked, everything), rel=1e-5
    )
    shared = painting_loss(*tensors[:2], tensors[2][:1], tensors[3]).item()
    assert shared == pytest.approx(by_patches(painted, paintings, masked[:1], valid), rel=1e-5)


def test_what_is_seen_or_not_judged_gives_no_gradient(batch):
    painted, paintings, masked, valid = (torch.from_numpy(one) for one in batch)
    painted.requires_grad_(True)
    painting_loss(painted, paintings, masked, valid).backward()
    hidden = pixels_of(masked, (16, 8)) & valid
    moved = painted.grad.abs().amax(dim=1) > 0
    assert not (moved & ~hidden).any() and moved.sum() > 0.9 * hidden.sum()


def test_nothing_to_learn_is_a_loss_of_zero_with_a_gradient_path(batch):
    painted, paintings, masked, valid = (torch.from_numpy(one) for one in batch)
    painted.requires_grad_(True)
    for arguments in ((torch.zeros_like(masked), valid), (masked, torch.zeros_like(valid))):
        loss = painting_loss(painted, paintings, *arguments)
        loss.backward()
        assert loss.item() == 0 and torch.isfinite(painted.grad).all()


def test_patches_must_divide_the_picture():
    with pytest.raises(ValueError, match="do not divide"):
        pixels_of(torch.zeros(1, 3, 3, dtype=torch.bool), (16, 8))
