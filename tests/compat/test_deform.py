"""Deformable convolutions through mmcv.ops, against loops over the kernel, ordinary convolutions and gradcheck."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv2d, modulated_deform_conv2d

#        groups, offset groups, stride, padding, dilation, kernel
SHAPES = [(1, 1, 1, 1, 1, (3, 3)), (2, 2, (2, 1), (0, 1), 1, (3, 2)), (2, 4, 1, 2, 2, (2, 3)), (1, 2, 2, 1, 1, (1, 1))]


def sample(plane, y, x):
    """Bilinear value of an (H, W) tensor at cell coordinates, zeros outside."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, row_share in ((top, top + 1 - y), (top + 1, y - top)):
        for column, column_share in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += row_share * column_share * plane[row, column].item()
    return total


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def deform_conv_by_hand(features, offset, weight, mask, stride, padding, dilation, groups, offset_groups):
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    channels_out, channels_in, kernel_h, kernel_w = weight.shape
    result = torch.zeros(len(features), channels_out, *offset.shape[2:], dtype=features.dtype)
    for b, o, y, x in torch.cartesian_prod(*(torch.arange(n) for n in result.shape)).tolist():
        for c in range(channels_in):
            channel = o // (channels_out // groups) * channels_in + c
            g = channel // (features.shape[1] // offset_groups)
            for i in range(kernel_h):
                for j in range(kernel_w):
                    tap = (g * kernel_h + i) * kernel_w + j
                    at_y = y * stride[0] - padding[0] + i * dilation[0] + offset[b, 2 * tap, y, x].item()
                    at_x = x * stride[1] - padding[1] + j * dilation[1] + offset[b, 2 * tap + 1, y, x].item()
                    value = sample(features[b, channel], at_y, at_x) * weight[o, c, i, j]
                    result[b, o, y, x] += value * (1 if mask is None else mask[b, tap, y, x])
    return result


def scene(random, shape, batch=2, size=(5, 6)):
    """Features (B, 4, 5, 6), weight, offset of a few cells, mask and bias for one of `SHAPES`."""
    groups, offset_groups, stride, padding, dilation, kernel = shape
    features, weight = random(batch, 4, *size) - 0.5, random(4, 4 // groups, *kernel) - 0.5
    out = F.conv2d(features, weight, None, stride, padding, dilation, groups).shape[2:]
    taps = offset_groups * kernel[0] * kernel[1]
    return features, weight, (random(batch, 2 * taps, *out) - 0.5) * 4, random(batch, taps, *out), random(4)


@pytest.mark.parametrize("shape", SHAPES)
def test_deform_conv2d(random, shape):
    groups, offset_groups, stride, padding, dilation, _ = shape
    features, weight, offset, _, _ = scene(random, shape)
    found = deform_conv2d(features, offset, weight, stride, padding, dilation, groups, offset_groups)
    on_cpu = (tensor.cpu() for tensor in (features, offset, weight))
    expected = deform_conv_by_hand(*on_cpu, None, stride, padding, dilation, groups, offset_groups)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_modulated_deform_conv2d(random, shape):
    groups, offset_groups, stride, padding, dilation, _ = shape
    features, weight, offset, mask, bias = scene(random, shape)
    arguments = (stride, padding, dilation, groups, offset_groups)
    on_cpu = (tensor.cpu() for tensor in (features, offset, weight, mask))
    expected = deform_conv_by_hand(*on_cpu, *arguments)
    for given, added in ((bias, bias.cpu()[:, None, None]), (None, 0.0)):
        found = modulated_deform_conv2d(features, offset, mask, weight, given, *arguments)
        torch.testing.assert_close(found.cpu(), expected + added, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(random, shape):
    groups, offset_groups, stride, padding, dilation, _ = shape
    features, weight, offset, mask, bias = (t.requires_grad_() for t in scene(random, shape, batch=1, size=(3, 4)))
    arguments = (stride, padding, dilation, groups, offset_groups)
    torch.autograd.gradcheck(lambda f, o, w: deform_conv2d(f, o, w, *arguments), (features, offset, weight))
    inputs = (features, offset, mask, weight, bias)
    torch.autograd.gradcheck(lambda f, o, m, w, b: modulated_deform_conv2d(f, o, m, w, b, *arguments), inputs)
    torch.autograd.gradcheck(lambda f, o, m, w: modulated_deform_conv2d(f, o, m, w, None, *arguments), inputs[:4])


@pytest.mark.parametrize("step", [1, 2, 4, 32])
def test_im2col_step_changes_nothing(random, step):
    features, weight, offset, _, _ = scene(random, SHAPES[0], batch=4)
    features.requires_grad_()
    found = deform_conv2d(features, offset, weight, 1, 1, 1, 1, 1, False, step)
    found.square().sum().backward()
    grad, features.grad = features.grad, None
    expected = deform_conv2d(features, offset, weight, 1, 1, 1, 1, 1, False, 1)
    expected.square().sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(grad, features.grad)


def test_no_offset_is_a_convolution_and_whole_offsets_a_shift(random):
    features, weight, offset, mask, bias = scene(random, SHAPES[0])
    still = torch.zeros_like(offset)
    plain = F.conv2d(features, weight, bias, padding=1)
    torch.testing.assert_close(
        modulated_deform_conv2d(features, still, torch.ones_like(mask), weight, bias, 1, 1), plain
    )
    still[:, 0::2] = 1  # look one row further down
    shifted = F.pad(features, (0, 0, 0, 1))[:, :, 1:]
    expected = F.conv2d(shifted, weight, padding=1)
    found = deform_conv2d(features, still, weight, 1, 1)
    torch.testing.assert_close(found[:, :, 1:], expected[:, :, 1:])  # the first row looks into row 0, not padding


def test_the_packs_of_mmcv_train(device):
    features = torch.rand(2, 4, 6, 6, device=device)
    for pack in (DeformConv2dPack, ModulatedDeformConv2dPack):
        layer = pack(4, 4, 3, padding=1).to(device)
        layer(features).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        assert layer.conv_offset.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_follows_the_offset(random, dtype):
    tensors = [tensor.float() for tensor in scene(random, SHAPES[0])]
    features, weight, offset, mask, bias = tensors
    offset = offset.to(dtype)  # as autocast leaves it: everything else is still float32
    found = modulated_deform_conv2d(features, offset, mask, weight, bias, 1, 1)
    exact = modulated_deform_conv2d(features, offset.float(), mask, weight, bias, 1, 1)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.05)
