"""Multi-scale deformable attention, against loops over samples, mmcv's own torch version and gradcheck."""

from __future__ import annotations

import math

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)

SHAPES = [(5, 7), (3, 2), (1, 1)]


def attend(value, shapes, starts, locations, weights, step=64):
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, step)


def scene(random, batch=2, heads=2, depth=3, queries=4, points=2):
    """Value (B, T, M, D), level shapes and starts, locations partly outside the maps, attention weights."""
    cells = [height * width for height, width in SHAPES]
    value = random(batch, sum(cells), heads, depth) - 0.5
    shapes = torch.tensor(SHAPES, device=value.device)
    starts = torch.tensor([0, cells[0], cells[0] + cells[1]], device=value.device)
    locations = random(batch, queries, heads, len(SHAPES), points, 2) * 1.6 - 0.3
    weights = random(batch, queries, heads, len(SHAPES), points)
    return value, shapes, starts, locations, weights / weights.sum((-2, -1), keepdim=True)


def by_hand(value, shapes, starts, locations, weights):
    batch, queries, heads = locations.shape[:3]
    result = torch.zeros(batch, queries, heads, value.shape[-1], dtype=value.dtype)
    for b, q, m, level, p in torch.cartesian_prod(*(torch.arange(n) for n in weights.shape)).tolist():
        height, width = shapes[level].tolist()
        x, y = locations[b, q, m, level, p].tolist()
        x, y = x * width - 0.5, y * height - 0.5
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[b, q, m, level, p]
                    result[b, q, m] += share * value[b, starts[level] + row * width + column, m]
    return result.flatten(2)


def test_forward(random):
    tensors = scene(random)
    found = attend(*tensors)
    torch.testing.assert_close(found.cpu(), by_hand(*(t.cpu() for t in tensors)), rtol=1e-9, atol=1e-9)
    value, shapes, _, locations, weights = tensors
    torch.testing.assert_close(found, multi_scale_deformable_attn_pytorch(value, shapes, locations, weights))


def test_levels_begin_where_the_caller_says(random):
    value, shapes, starts, locations, weights = scene(random)
    apart = torch.cat([torch.full_like(value[:, :4], 9.0), value[:, :35], value[:, :2] * 0, value[:, 35:]], dim=1)
    moved = starts + torch.tensor([4, 6, 6], device=starts.device)
    found = attend(apart, shapes, moved, locations, weights)
    torch.testing.assert_close(found, attend(value, shapes, starts, locations, weights))


def test_gradients_of_value_locations_and_weights(random):
    value, shapes, starts, locations, weights = scene(random)
    inputs = tuple(tensor.requires_grad_() for tensor in (value, locations, weights))
    assert torch.autograd.gradcheck(lambda v, x, w: attend(v, shapes, starts, x, w), inputs)


def test_attention_at_the_centre_of_a_cell_reads_the_cell(device):
    value = torch.arange(12.0, device=device).view(1, 12, 1, 1)
    shapes, starts = torch.tensor([[3, 4]], device=device), torch.tensor([0], device=device)
    locations = torch.tensor([(2 + 0.5) / 4, (1 + 0.5) / 3], device=device).view(1, 1, 1, 1, 1, 2)
    found = attend(value, shapes, starts, locations, torch.ones(1, 1, 1, 1, 1, device=device))
    assert found.item() == pytest.approx(6.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_follows_the_value(random, dtype):
    value, shapes, starts, locations, weights = (t.float() if t.is_floating_point() else t for t in scene(random))
    low = value.to(dtype).requires_grad_()
    found = attend(low, shapes, starts, locations, weights)
    found.sum().backward()
    assert found.dtype == low.grad.dtype == dtype
    torch.testing.assert_close(found.float(), attend(value, shapes, starts, locations, weights), rtol=0.05, atol=0.05)
