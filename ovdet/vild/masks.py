"""Paste the small mask of a box into its picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def paste_mask(probabilities: Tensor, box_xyxy: Tensor, size_hw: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Stretch a mask over its box, bilinearly, and cut it at a probability.

    Args:
        probabilities: (h, w) in [0, 1], over the box.
        box_xyxy: (4,) pixels of the picture; may reach outside.
        size_hw: of the picture.
        threshold: a pixel belongs if its centre has at least this probability.

    Returns:
        (H, W) bool.
    """
    height, width = size_hw
    mask = torch.zeros(height, width, dtype=torch.bool, device=probabilities.device)
    x1, y1, x2, y2 = box_xyxy.double().tolist()
    left, top = max(int(x1) - 1, 0), max(int(y1) - 1, 0)
    right, bottom = min(int(x2) + 2, width), min(int(y2) + 2, height)
    if right <= left or bottom <= top or x2 <= x1 or y2 <= y1:
        return mask
    across = (torch.arange(left, right, device=mask.device) + 0.5 - x1) / (x2 - x1) * 2 - 1
    down = (torch.arange(top, bottom, device=mask.device) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None].float()  # (1, h', w', 2)
    window = F.grid_sample(probabilities.float()[None, None], grid, align_corners=False)[0, 0]
    mask[top:bottom, left:right] = window >= threshold
    return mask


def paste_masks(probabilities: Tensor, boxes_xyxy: Tensor, size_hw: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Paste N masks: (N, h, w), (N, 4) -> (N, H, W) bool. Large pictures: `paste_mask` one at a time."""
    pasted = [paste_mask(mask, box, size_hw, threshold) for mask, box in zip(probabilities, boxes_xyxy, strict=True)]
    return torch.stack(pasted) if pasted else probabilities.new_zeros(0, *size_hw, dtype=torch.bool)
