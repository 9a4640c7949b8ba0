"""The teacher at hand: region embeddings by crop, made while the student trains (for small runs).

A long training reads stored embeddings instead, made once from the pictures as they are on disk. Here the crops
come from the picture as the student sees it, resized and flipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ovdet.vlm.base import VLMBackbone


class CropTeacher:
    """Embeds boxes of the student's input. No nn.Module: its weights are no part of the student's.

    Args:
        backbone: of the zoo; put in evaluation mode, moved to where the pictures are, never trained.
        block: crops encoded at once.
    """

    def __init__(self, backbone: VLMBackbone, block: int = 64) -> None:
        self.backbone = backbone.eval().requires_grad_(False)
        self.block = block

    @torch.no_grad()
    def embed(self, images: Tensor, sizes_hw: Sequence[tuple[int, int]], boxes_xyxy: Sequence[Tensor]) -> list[Tensor]:
        """Embed the boxes of each picture.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], padded to one size.
            sizes_hw: of the B pictures without padding, which no crop may show.
            boxes_xyxy: B tensors (M_i, 4), pixels of `images`.

        Returns:
            B tensors (M_i, D) of unit length, float32.
        """
        if self.backbone.mean.device != images.device:
            self.backbone.to(images.device)
        embeddings = []
        with torch.autocast(images.device.type, enabled=False):
            for image, (height, width), boxes in zip(images, sizes_hw, boxes_xyxy, strict=True):
                picture = image[None, :, :height, :width].float()
                embeddings += self.backbone.region_embed_crop(picture, [boxes.detach()], block=self.block)
        return embeddings
