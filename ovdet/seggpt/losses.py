"""What SegGPT learns from: the colours of hidden patches (released model code; Painter, arXiv:2212.02499)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BETA = 0.01
"""Where smooth L1 turns from quadratic to linear, in normalised colours: 0.57 of a grey level of 255."""


def painting_loss(
    painted: Tensor, paintings: Tensor, masked: Tensor, valid: Tensor | None = None, beta: float = BETA
) -> Tensor:
    """Smooth L1 over pixels of hidden patches that are judged, mean over pixels and channels of the whole batch.

    Where the released code divides by zero (nothing is hidden, or nothing of it is judged), the loss is 0.

    Args:
        painted: (N, 3, H, W) predicted, in normalised colours.
        paintings: (N, 3, H, W) wanted.
        masked: (N or 1, h, w) bool over the patches, True where hidden.
        valid: (N, H, W) bool or weights, 0 where nobody judges; None judges all.
        beta: see `BETA`; 0 is plain L1.

    Returns:
        A scalar that has a gradient path even where it is 0.
    """
    weight = pixels_of(masked, painted.shape[2:]).to(torch.float32).expand(len(painted), -1, -1)  # (N, H, W)
    if valid is not None:
        weight = weight * valid
    error = functional.smooth_l1_loss(painted.float(), paintings.float(), beta=beta, reduction="none")
    total = weight.sum() * painted.shape[1]
    return (error * weight[:, None]).sum() / total.clamp(min=torch.finfo(torch.float32).tiny)


def pixels_of(masked: Tensor, size_hw: tuple[int, int] | torch.Size) -> Tensor:
    """Spread a mask of patches over pixels: (N, h, w) -> (N, H, W)."""
    rows, columns = size_hw[0] // masked.shape[1], size_hw[1] // masked.shape[2]
    if (rows * masked.shape[1], columns * masked.shape[2]) != tuple(size_hw):
        raise ValueError(f"{masked.shape[1]} x {masked.shape[2]} patches do not divide {tuple(size_hw)} pixels")
    return masked.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2)
