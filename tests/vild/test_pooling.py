import pytest
import torch
from torchvision.ops import roi_align

from ovdet.vild.pooling import pool_regions, square_regions


@pytest.fixture
def rois():
    """Of three pictures, out of order; some reach far outside, one is a point."""
    boxes = torch.rand(40, 4) * 200 - 40
    boxes[:, 2:] = boxes[:, :2] + torch.rand(40, 2) * 150
    boxes[0, 2:] = boxes[0, :2]
    boxes[1] = torch.tensor([900.0, 900, 950, 950])
    return torch.cat([torch.randint(0, 3, (40, 1)).float(), boxes], dim=1)


@pytest.mark.parametrize(("side", "samples"), [(7, 2), (4, 2), (14, 1), (8, 3)])
def test_regions_are_those_of_roi_align(rois, side, samples):
    level = torch.randn(3, 5, 24, 20)
    expected = roi_align(level, rois, (side, side), 1 / 8, samples, True)
    torch.testing.assert_close(pool_regions(level, rois, 8, side, samples), expected, atol=2e-5, rtol=1e-4)


def test_gradients_are_those_of_roi_align(rois):
    level, other = (torch.randn(3, 5, 16, 16, requires_grad=True) for _ in range(2))
    other.data.copy_(level.data)
    weights = torch.randn(40, 5, 7, 7)
    (pool_regions(level, rois, 16, 7) * weights).sum().backward()
    (roi_align(other, rois, (7, 7), 1 / 16, 2, True) * weights).sum().backward()
    torch.testing.assert_close(level.grad, other.grad, atol=2e-5, rtol=1e-4)


def test_halves_round_values_but_misplace_nothing(rois):
    level = torch.randn(3, 5, 32, 32)
    expected = roi_align(level, rois, (7, 7), 1 / 8, 2, True)
    with torch.autocast("cpu", torch.bfloat16):
        got = pool_regions(level, rois, 8, 7)
    assert (got.float() - expected).abs().max() < 0.05


def test_no_regions():
    level = torch.randn(2, 5, 8, 8, requires_grad=True)
    pooled = pool_regions(level, torch.zeros(0, 5), 8, 7)
    assert pooled.shape == (0, 5, 7, 7)
    pooled.sum().backward()


def test_squares_are_about_the_longer_side():
    rois = torch.tensor([[1.0, 10, 20, 30, 30], [0, 0, 0, 4, 8]])
    expected = torch.tensor([[1.0, 5, 10, 35, 40], [0, -4, -2, 8, 10]])
    torch.testing.assert_close(square_regions(rois, 1.5), expected)
