"""Maps of vectors: pyramids over picture scales, upsampling, regions pooled from a map, and scores against names.

In:  a backbone's dense map (B, D, h, w), every location of unit length.   Out: maps, regions, scores.
Location (i, j) of a map with stride s stands for the pixels from (j * s, i * s) to ((j + 1) * s, (i + 1) * s).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torchvision.ops import roi_align

from ovdet.errors import CapabilityError
from ovdet.ops.boxes import clip_boxes
from ovdet.vlm.base import VLMBackbone


def dense_pyramid(
    backbone: VLMBackbone, images: Tensor, scales: Sequence[float] = (1.0,)
) -> list[tuple[Tensor, tuple[float, float]]]:
    """Dense maps of the same pictures at several sizes: large scales for small things.

    Args:
        backbone: whose spec tells the stride of its dense map.
        images: (B, 3, H, W) in [0, 1].
        scales: factors on H and W.

    Returns:
        For each scale the map (B, D, h, w) and its vertical and horizontal stride in pixels of `images`.

    Raises:
        CapabilityError: the backbone has no dense map.
    """
    if backbone.spec.stride is None:
        raise CapabilityError(f"{backbone.spec.name} gives no dense map of known stride")
    height, width = images.shape[-2:]
    levels = []
    for scale in scales:
        size_hw = max(1, round(height * scale)), max(1, round(width * scale))
        resized = images
        if size_hw != (height, width):
            resized = interpolate(images, size_hw, mode="bilinear", antialias=True)
        stride_hw = backbone.spec.stride * height / size_hw[0], backbone.spec.stride * width / size_hw[1]
        levels.append((backbone.forward_dense(resized), stride_hw))
    return levels


def resize_dense(dense: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Interpolate a map bilinearly, (B, D, h, w) -> (B, D, *size_hw), each location of unit length again."""
    return normalize(interpolate(dense, size_hw, mode="bilinear", antialias=True), dim=1)


def region_embed_roi(dense: Tensor, boxes_xyxy: Sequence[Tensor], stride: float | tuple[float, float]) -> list[Tensor]:
    """Embed regions by averaging a dense map over them: far cheaper than crops, and coarser.

    Args:
        dense: (B, D, h, w).
        boxes_xyxy: B tensors (N_i, 4), pixels of the picture; what lies outside is taken to its border.
        stride: of the map in pixels, one number or (vertical, horizontal).

    Returns:
        B tensors (N_i, D) of unit length.
    """
    vertical, horizontal = (stride, stride) if isinstance(stride, int | float) else stride
    cells = dense.new_tensor([horizontal, vertical, horizontal, vertical])
    size_hw = (dense.shape[-2], dense.shape[-1])
    boxes_in_cells = [clip_boxes(boxes.to(dense) / cells, size_hw) for boxes in boxes_xyxy]
    for boxes in boxes_in_cells:
        boxes[:, 2:] = boxes[:, 2:].maximum(boxes[:, :2] + 1e-3)  # RoIAlign takes no sample of an empty box
    pooled = roi_align(dense, boxes_in_cells, output_size=1, sampling_ratio=-1, aligned=True)  # (sum N, D, 1, 1)
    return list(normalize(pooled.flatten(1), dim=1).split([len(boxes) for boxes in boxes_xyxy]))


def score_maps(dense: Tensor, class_embeddings: Tensor) -> Tensor:
    """Dot product of every location with every name: (B, D, h, w), (K, D) -> (B, K, h, w)."""
    return torch.einsum("bdhw,kd->bkhw", dense, class_embeddings.to(dense))
