"""Boxes: what torchvision.ops does not have. All boxes are float tensors, pixels unless the name says `norm`."""

import torch
from torch import Tensor


def enlarge_boxes(boxes_xyxy: Tensor, scale: float) -> Tensor:
    """Scale boxes about their own centres; the result may leave the picture.

    Args:
        boxes_xyxy: (N, 4).
        scale: 1.5 makes each side half as long again, as ViLD's second crop (arXiv:2104.13921, section 3.2).

    Returns:
        (N, 4).
    """
    top_left, bottom_right = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]  # each (N, 2)
    grow = (scale - 1) / 2
    half_extent = (bottom_right - top_left) * grow
    return torch.cat([top_left - half_extent, bottom_right + half_extent], dim=1)  # (N, 4)


def squares_about(boxes_xyxy: Tensor, scale: float) -> Tensor:
    """Squares about the centres of boxes, as wide as their longer sides times `scale`: (N, 4) in, (N, 4) out."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    half = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).amax(dim=1, keepdim=True) * (scale / 2)
    return torch.cat([centres - half, centres + half], dim=1)


def clip_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Cut boxes at the border of a picture of `size_hw` pixels; (N, 4) in, (N, 4) out."""
    height, width = size_hw
    limits = boxes_xyxy.new_tensor([width, height, width, height])
    return boxes_xyxy.clamp(min=0).minimum(limits)


def xyxy_to_xywh(boxes_xyxy: Tensor) -> Tensor:
    """Corner boxes (N, 4) to COCO's left, top, width, height (N, 4)."""
    return torch.cat([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], dim=1)
