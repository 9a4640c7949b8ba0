"""Weight matrices in 3 or 4 bits a number: signed codes in bit planes, with one fp16 scale for 64 numbers of a row.

A number is `code * scale`, the code in -2^(bits - 1) .. 2^(bits - 1) - 1. Codes reach one further below zero than
above; a scale may be negative, so that the longer side serves the longer tail of its 64 numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 64  # neighbouring numbers of a row that share a scale


def code_range(bits: int) -> tuple[int, int]:
    """The lowest and the highest code."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def best_scales(weight: Tensor, bits: int, steps: int = 20) -> Tensor:
    """Scales with the least squared rounding error, found by trying many.

    Args:
        weight: (R, C) float, C a multiple of `GROUP`.
        bits: of a code.
        steps: how many scales of each sign are tried.

    Returns:
        (R, C / GROUP) float32, not zero.
    """
    lowest, highest = code_range(bits)
    groups = weight.detach().float().unflatten(1, (-1, GROUP))  # (R, C) -> (R, G, GROUP)
    full = (groups.abs().amax(-1) / highest).clamp_min(1e-6)  # (R, G)
    best: Tensor = full
    best_error = torch.full_like(full, torch.inf)
    for factor in torch.linspace(0.45, 1.1, steps):
        for sign in (1, -1):
            scales = (sign * factor * full).half().float()
            codes = (groups / scales[..., None]).round().clamp(lowest, highest)
            error = (codes * scales[..., None] - groups).square().sum(-1)
            best = torch.where(error < best_error, scales, best)
            best_error = torch.minimum(error, best_error)
    return best


def pack(weight: Tensor, scales: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a (R, C) matrix to codes.

    Returns:
        Bit planes (bits, R, C / 8) uint8, lowest bit of a code first, and scales (R, C / GROUP) float16. Bit i of
        a plane's byte j belongs to column 8 j + i.
    """
    lowest, highest = code_range(bits)
    # Trained numbers gather at the borders between codes: codes must come from the scales as trained, before fp16.
    codes = (weight.float().unflatten(1, (-1, GROUP)) / scales.float()[..., None]).round().clamp(lowest, highest)
    codes = (codes.flatten(1) - lowest).to(torch.uint8).unflatten(1, (-1, 8))  # (R, C / 8, 8)
    places = torch.arange(8)
    planes = [(((codes >> bit) & 1) << places).sum(-1).to(torch.uint8) for bit in range(bits)]
    return torch.stack(planes), scales.half()


def unpack(planes: Tensor, scales: Tensor) -> Tensor:
    """Undo `pack`: (bits, R, C / 8) uint8 and (R, C / GROUP) float16 -> (R, C) float32."""
    places = torch.arange(8, dtype=torch.uint8)
    codes = torch.zeros((*planes.shape[1:], 8), dtype=torch.uint8)  # (R, C / 8, 8)
    for bit, plane in enumerate(planes):
        codes |= ((plane[..., None] >> places) & 1) << bit
    signed = codes.flatten(1).float() + code_range(len(planes))[0]  # (R, C)
    weight: Tensor = (signed.unflatten(1, (-1, GROUP)) * scales.float()[..., None]).flatten(1)
    return weight
