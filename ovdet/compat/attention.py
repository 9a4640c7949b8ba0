"""Stand-in for mmcv's multi-scale deformable attention (arXiv:2010.04159), on torch's `grid_sample`.

Signatures are those that mmcv/ops/multi_scale_deform_attn.py calls where the tensors are on a GPU; `im2col_step`
only says how mmcv would split the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovdet.compat.boxes import working_dtype


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sum bilinear samples of every level.

    Args:
        value: (B, T, M, D): T cells of all levels, M heads.
        spatial_shapes: (L, 2), height and width of each level.
        level_start_index: (L,), where each level begins among the T.
        sampling_locations: (B, Q, M, L, P, 2), x and y as fractions of the level's width and height.
        attention_weights: (B, Q, M, L, P).
        im2col_step: Not used.

    Returns:
        (B, Q, M * D), of the dtype of `value`.
    """
    dtype = working_dtype(value)
    tensors = (tensor.to(dtype) for tensor in (value, sampling_locations, attention_weights))
    return _attend(*tensors, _levels(spatial_shapes, level_start_index)).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of value, sampling locations and attention weights: the forward is done again."""
    dtype = working_dtype(value)
    inputs = [
        tensor.detach().to(dtype, copy=True).requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad(), torch.autocast(value.device.type, enabled=False):
        output = _attend(*inputs, _levels(spatial_shapes, level_start_index))
    grads = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        target.copy_(grad)


def _levels(spatial_shapes: Tensor, level_start_index: Tensor) -> list[tuple[int, int, int]]:
    """Return (height, width, first cell) of each level."""
    shapes, starts = spatial_shapes.tolist(), level_start_index.tolist()
    return [(height, width, start) for (height, width), start in zip(shapes, starts, strict=True)]


def _attend(value: Tensor, locations: Tensor, weights: Tensor, levels: list[tuple[int, int, int]]) -> Tensor:
    batch, _, heads, depth = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (L, B*M, Q, P, 2)
    shares = weights.permute(3, 0, 2, 1, 4).reshape(len(levels), batch * heads, 1, queries, points)
    total = value.new_zeros((batch * heads, depth, queries))
    for (height, width, start), grid, share in zip(levels, grids, shares, strict=True):
        level = value[:, start : start + height * width].permute(0, 2, 3, 1)  # (B, M, D, h*w)
        level = level.reshape(batch * heads, depth, height, width)
        samples = F.grid_sample(level, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + (samples * share).sum(-1)  # (B*M, D, Q)
    return total.view(batch, heads * depth, queries).transpose(1, 2).contiguous()
