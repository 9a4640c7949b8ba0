"""Stand-ins for mmcv's RoIAlign and RoIPool.

Signatures are those that mmcv/ops/roi_align.py and roi_pool.py call: results are written into buffers that the
caller made. `rois` are (N, 5): index into the batch, then x1, y1, x2, y2 in pixels of the picture, which
`spatial_scale` takes to cells of the map.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from ovdet.compat.boxes import working_dtype

MAX, AVERAGE = 0, 1
"""mmcv's codes for the pooling mode of RoIAlign."""


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Sample each region on a grid and pool the samples of each bin (arXiv:1703.06870).

    Args:
        input: (B, C, H, W).
        rois: (N, 5).
        output: (N, C, aligned_height, aligned_width), written.
        argmax_y: Written in max mode: the row of the winning sample within its bin.
        argmax_x: The same for the column.
        aligned_height: Bins down.
        aligned_width: Bins across.
        spatial_scale: Cells per pixel.
        sampling_ratio: Samples per bin and axis; 0 chooses about one per cell, region by region.
        pool_mode: `MAX` or `AVERAGE`.
        aligned: Put the centre of cell 0 at 0.5, not at 0.
    """
    dtype = working_dtype(input)
    size_hw = (aligned_height, aligned_width)
    features, regions = input.to(dtype).contiguous(), rois.to(dtype).contiguous()
    if pool_mode == AVERAGE:
        output.copy_(_align(features, regions, spatial_scale, size_hw, sampling_ratio, aligned))
        return
    for which, grid_hw in _sample_grids(regions, spatial_scale, size_hw, sampling_ratio, aligned):
        fine_hw = (size_hw[0] * grid_hw[0], size_hw[1] * grid_hw[1])
        samples = _align(features, regions[which], spatial_scale, fine_hw, 1, aligned)
        best, flat = F.max_pool2d(samples, grid_hw, return_indices=True)
        output[which] = best.to(output.dtype)
        argmax_y[which] = (flat.div(fine_hw[1], rounding_mode="floor") % grid_hw[0]).to(argmax_y.dtype)
        argmax_x[which] = (flat % fine_hw[1] % grid_hw[1]).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to `grad_input` (B, C, H, W) what `roi_align_forward` took from each cell."""
    dtype = working_dtype(grad_output)
    size_hw = (aligned_height, aligned_width)
    grad, regions = grad_output.to(dtype).contiguous(), rois.to(dtype).contiguous()
    if pool_mode == AVERAGE:
        grad_input += _align_backward(grad, regions, grad_input, spatial_scale, sampling_ratio, aligned)
        return
    for which, grid_hw in _sample_grids(regions, spatial_scale, size_hw, sampling_ratio, aligned):
        fine_hw = (size_hw[0] * grid_hw[0], size_hw[1] * grid_hw[1])
        rows = torch.arange(size_hw[0], device=grad.device)[:, None] * grid_hw[0] + argmax_y[which].long()
        columns = torch.arange(size_hw[1], device=grad.device) * grid_hw[1] + argmax_x[which].long()
        fine = grad.new_zeros((*rows.shape[:2], fine_hw[0] * fine_hw[1]))
        fine.scatter_(2, (rows * fine_hw[1] + columns).flatten(2), grad[which].flatten(2))
        fine = fine.view(*rows.shape[:2], *fine_hw)
        grad_input += _align_backward(fine, regions[which], grad_input, spatial_scale, 1, aligned)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Take the maximum over the cells that each bin touches (arXiv:1504.08083).

    mmcv's bins are those of unrounded regions whose last pixel belongs to them; torchvision's `roi_pool` rounds
    the region to cells first, so it does not serve here. Regions are pooled one after the
    other, first down, then across.

    Args:
        input: (B, C, H, W).
        rois: (N, 5).
        output: (N, C, pooled_height, pooled_width), written; 0 where a bin touches no cell.
        argmax: The same shape, int; written: the winning cell, row * W + column, or -1.
        pooled_height: Bins down.
        pooled_width: Bins across.
        spatial_scale: Cells per pixel.
    """
    height, width = input.shape[-2:]
    regions = rois.to(working_dtype(input))
    tops, bottoms = _pool_bins(regions[:, 2], regions[:, 4], spatial_scale, pooled_height, height)
    lefts, rights = _pool_bins(regions[:, 1], regions[:, 3], spatial_scale, pooled_width, width)
    output.fill_(-torch.inf)
    for n, image in enumerate(regions[:, 0].long().tolist()):
        first, stop = min(lefts[n]), max(rights[n])
        strips = input.new_full((input.shape[1], pooled_height, max(stop - first, 0)), -torch.inf)  # (C, h, w)
        strip_rows = argmax.new_zeros(strips.shape)
        for row, (top, bottom) in enumerate(zip(tops[n], bottoms[n], strict=True)):
            if top < bottom and first < stop:
                strips[:, row], at = input[image, :, top:bottom, first:stop].max(dim=1)
                strip_rows[:, row] = at + top
        for column, (left, right) in enumerate(zip(lefts[n], rights[n], strict=True)):
            if left < right:
                output[n, :, :, column], at = strips[:, :, left - first : right - first].max(dim=2)  # (C, h)
                at += left - first
                argmax[n, :, :, column] = strip_rows.gather(2, at[..., None])[..., 0] * width + at + first
    empty = output == -torch.inf
    output.masked_fill_(empty, 0)
    argmax.masked_fill_(empty, -1)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the gradient of each bin to the cell of `grad_input` (B, C, H, W) that won it."""
    channels, height, width = grad_input.shape[1:]
    winner = argmax.long()  # (N, C, h, w)
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)  # (N, C)
    flat = plane[..., None, None] * (height * width) + winner
    won = winner >= 0
    dtype = working_dtype(grad_output)
    total = torch.zeros(grad_input.numel(), dtype=dtype, device=grad_input.device)
    total.index_add_(0, flat[won], grad_output.to(dtype)[won])
    grad_input += total.view_as(grad_input)


def _align(
    features: Tensor, rois: Tensor, scale: float, size_hw: tuple[int, int], sampling_ratio: int, aligned: bool
) -> Tensor:
    return torch.ops.torchvision.roi_align(features, rois, scale, *size_hw, sampling_ratio, aligned)


def _align_backward(
    grad: Tensor, rois: Tensor, grad_input: Tensor, scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    size_hw = grad.shape[-2:]
    result = torch.ops.torchvision._roi_align_backward(
        grad, rois, scale, *size_hw, *grad_input.shape, sampling_ratio, aligned
    )
    return result.to(grad_input.dtype)


def _sample_grids(
    rois: Tensor, scale: float, size_hw: tuple[int, int], sampling_ratio: int, aligned: bool
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Group regions by the samples (down, across) that a bin of theirs gets; regions without any are left out."""
    if sampling_ratio > 0:
        grids = rois.new_full((len(rois), 2), sampling_ratio, dtype=torch.long)
    else:
        extent_wh = (rois[:, 3:5] * scale) - (rois[:, 1:3] * scale)
        if not aligned:
            extent_wh = extent_wh.clamp(min=1)
        grids = (extent_wh.flip(1) / extent_wh.new_tensor(size_hw)).ceil().long()
    for grid in grids.unique(dim=0):
        down, across = grid.tolist()
        if down > 0 and across > 0:
            yield (grids == grid).all(dim=1).nonzero()[:, 0], (down, across)


def _pool_bins(
    first: Tensor, last: Tensor, scale: float, bins: int, cells: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return where each bin of each region begins and ends, in cells: two (N, bins) lists."""
    start, stop = first * scale, (last + 1) * scale
    step = ((stop - start) / bins)[:, None]
    edge = torch.arange(bins, dtype=start.dtype, device=start.device)
    begin = (edge * step + start[:, None]).floor()
    end = ((edge + 1) * step + start[:, None]).ceil()
    end = torch.where(step > 0, end, begin)
    return begin.clamp(0, cells).long().tolist(), end.clamp(0, cells).long().tolist()
