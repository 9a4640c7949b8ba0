"""RoIAlign and RoIPool through mmcv.ops, against loops over samples and cells, and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from mmcv.ops import RoIAlign, RoIPool, roi_align, roi_pool


def bilinear(plane, y, x):
    """Value of an (H, W) list of lists at a place whose integers are cell centres; 0 beyond one cell outside."""
    height, width = len(plane), len(plane[0])
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = plane[top][left] * (1 - fx) + plane[top][right] * fx
    lower = plane[bottom][left] * (1 - fx) + plane[bottom][right] * fx
    return upper * (1 - fy) + lower * fy


def roi_align_by_hand(features, rois, size, scale, sampling, mode, aligned):
    shift = 0.5 if aligned else 0.0
    result = torch.zeros(len(rois), features.shape[1], *size, dtype=features.dtype)
    for n, (image, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (corner * scale - shift for corner in corners)
        width, height = right - left, bottom - top
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        down = sampling or math.ceil(height / size[0])
        across = sampling or math.ceil(width / size[1])
        for c in range(features.shape[1]):
            plane = features[int(image), c].tolist()
            for i in range(size[0]):
                for j in range(size[1]):
                    values = [
                        bilinear(
                            plane,
                            top + (i + (a + 0.5) / down) * height / size[0],
                            left + (j + (b + 0.5) / across) * width / size[1],
                        )
                        for a in range(down)
                        for b in range(across)
                    ]
                    result[n, c, i, j] = max(values) if mode == "max" else sum(values) / len(values)
    return result


@pytest.fixture
def scene(random):
    """Features (2, 3, 11, 13) and regions (6, 5) in pixels at scale 1/4, some across the border."""
    features = random(2, 3, 11, 13) - 0.5
    corner, size = random(6, 2) * 36 - 4, random(6, 2) * 24 + 1
    image = torch.tensor([[0], [1], [1], [0], [1], [0]], dtype=features.dtype, device=features.device)
    return features, torch.cat([image, corner, corner + size], dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align(scene, aligned, sampling, mode):
    features, rois = scene
    found = roi_align(features, rois, (3, 2), 0.25, sampling, mode, aligned)
    expected = roi_align_by_hand(features, rois, (3, 2), 0.25, sampling, mode, aligned)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-9, atol=1e-9)


def test_roi_align_of_a_ramp_is_its_value_at_the_centre_of_the_bin(device):
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    ramp = (2 * x + 5 * y + 1)[None, None].to(device)  # the cell (0, 0) has its centre at pixel (0.5, 0.5)
    roi = torch.tensor([[0, 4.0, 3, 16, 9]], device=device)
    found = RoIAlign((2, 3), aligned=True)(ramp, roi)[0, 0].cpu()
    at_y, at_x = torch.tensor([4.5, 7.5])[:, None] - 0.5, torch.tensor([6.0, 10, 14]) - 0.5
    torch.testing.assert_close(found, 2 * at_x + 5 * at_y + 1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_gradient_of_roi_align(scene, aligned, sampling, mode):
    features, rois = scene
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: roi_align(f, rois, (3, 2), 0.25, sampling, mode, aligned), features)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_of_no_regions(device, mode):
    features = torch.rand(1, 2, 4, 4, device=device, requires_grad=True)
    pooled = roi_align(features, torch.zeros(0, 5, device=device), 7, 1.0, 0, mode, True)
    assert pooled.shape == (0, 2, 7, 7)
    pooled.sum().backward()
    assert features.grad.abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_in_half_precision(scene, dtype, mode):
    features, rois = scene[0].to(dtype).requires_grad_(), scene[1].float()
    exact = scene[0].to(dtype).float().requires_grad_()
    found = roi_align(features, rois, 2, 0.25, 2, mode, True)
    wanted = roi_align(exact, rois, 2, 0.25, 2, mode, True)
    found.sum().backward()
    wanted.sum().backward()
    assert found.dtype == features.grad.dtype == dtype
    torch.testing.assert_close(found, wanted.to(dtype))
    torch.testing.assert_close(features.grad, exact.grad.to(dtype))


def roi_pool_by_hand(features, rois, size, scale):
    result = torch.zeros(len(rois), features.shape[1], *size, dtype=features.dtype)
    height, width = features.shape[2:]
    for n, (image, left, top, right, bottom) in enumerate(rois.tolist()):
        left, top, right, bottom = left * scale, top * scale, (right + 1) * scale, (bottom + 1) * scale
        step_y, step_x = (bottom - top) / size[0], (right - left) / size[1]
        for i in range(size[0]):
            for j in range(size[1]):
                rows = range(max(math.floor(top + i * step_y), 0), min(math.ceil(top + (i + 1) * step_y), height))
                columns = range(max(math.floor(left + j * step_x), 0), min(math.ceil(left + (j + 1) * step_x), width))
                cells = [features[int(image), :, y, x] for y in rows for x in columns]
                if cells:
                    result[n, :, i, j] = torch.stack(cells).amax(dim=0)
    return result


def test_roi_pool(scene):
    features, rois = scene
    found = roi_pool(features, rois, (3, 2), 0.25)
    torch.testing.assert_close(found.cpu(), roi_pool_by_hand(features, rois, (3, 2), 0.25), rtol=0, atol=0)


def test_roi_pool_of_whole_pixels_is_torchvisions(random):
    features = random(1, 4, 16, 16)
    rois = torch.tensor([[0, 2.0, 3, 9, 12], [0, 0, 0, 15, 15], [0, 7, 7, 7, 7]], dtype=torch.float64).to(features)
    expected = torchvision.ops.roi_pool(features, rois, (4, 4), 1.0)
    torch.testing.assert_close(RoIPool((4, 4), 1.0)(features, rois), expected, rtol=0, atol=0)


def test_gradient_of_roi_pool(scene):
    features, rois = scene
    features.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: roi_pool(f, rois, (3, 2), 0.25), features)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_roi_pool_in_half_precision(scene, dtype):
    features = scene[0].to(dtype).requires_grad_()
    exact = scene[0].to(dtype).float().requires_grad_()
    found, wanted = (roi_pool(maps, scene[1].float(), 2, 0.25) for maps in (features, exact))
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(found, wanted.to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(features.grad, exact.grad.to(dtype))


def test_roi_pool_outside_the_map_and_of_nothing(device):
    features = torch.rand(1, 2, 4, 4, device=device, requires_grad=True)
    far = torch.tensor([[0, 90.0, 90, 99, 99], [0, 3, 3, 0, 0]], device=device)  # outside; inside out
    pooled = roi_pool(features, far, 2)
    pooled.sum().backward()
    assert pooled.abs().sum() == 0 and features.grad.abs().sum() == 0
    assert roi_pool(features, far[:0], 2).shape == (0, 2, 2, 2)
