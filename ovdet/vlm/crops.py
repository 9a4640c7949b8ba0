"""Regions of pictures as crops, each looked at by a backbone of the zoo: dear, and as exact as the backbone is.

For teachers at hand while a student trains (a long training reads stored embeddings instead), and for models that look
at a few boxes more closely.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from ovdet.ops.boxes import squares_about
from ovdet.vlm.base import VLMBackbone, crop_boxes


class CropEncoder:
    """Embeds boxes of pictures. No nn.Module: its weights are no part of the model's that it serves.

    Args:
        backbone: of the zoo; put in evaluation mode, moved to where the pictures are, never trained.
        scales: of the crops about the box centre; their features are summed (arXiv:2104.13921, section 3.2).
        square: crop squares about the longer side of each box, black where they leave the picture, so that shapes stay
            true; else boxes, cut at the border and warped to the backbone's square, as in the paper.
        block: crops encoded at once.
        half: leave the backbone under the autocast that it is called in, if there is one. For backbones that were
            trained so; the others compute in float32.
    """

    def __init__(
        self,
        backbone: VLMBackbone,
        scales: Sequence[float] = (1.0, 1.5),
        *,
        square: bool = False,
        block: int = 64,
        half: bool = False,
    ) -> None:
        self.backbone = backbone.eval().requires_grad_(False)
        self.scales, self.square, self.block, self.half = tuple(scales), square, block, half

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
        counts = [len(boxes) for boxes in boxes_xyxy]
        side, width = self.backbone.spec.image_size, self.backbone.spec.embed_dim
        crops = (
            roi_align(image[None, :, :height, :width_], [part], (side, side), sampling_ratio=-1, aligned=True)
            for image, (height, width_), boxes in zip(images.float(), sizes_hw, boxes_xyxy, strict=True)
            for scale in self.scales
            for part in self._crops(boxes.detach().float(), scale, (height, width_)).split(self.block)
            if len(part)
        )  # each (n, 3, S, S), n at most a block; the scales of a picture beside one another
        with torch.autocast(images.device.type, enabled=self.half and torch.is_autocast_enabled(images.device.type)):
            features = [self.backbone.image_features(block.clamp(0, 1)) for block in _blocks(crops, self.block)]
        if not features:
            return [images.new_zeros(0, width, dtype=torch.float32) for _ in counts]
        embeddings = []
        for part, count in zip(
            torch.cat(features).float().split([len(self.scales) * c for c in counts]), counts, strict=True
        ):
            embeddings.append(F.normalize(part.view(len(self.scales), count, width).sum(dim=0), dim=1))
        return embeddings

    def _crops(self, boxes_xyxy: Tensor, scale: float, size_hw: tuple[int, int]) -> Tensor:
        """What to cut out for each box: (N, 4) -> (N, 4)."""
        if not self.square:
            return crop_boxes(boxes_xyxy, scale, size_hw)
        return squares_about(boxes_xyxy, scale)


def _blocks(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Batches (n, ...) joined to at least `size` and cut to it, the last one to what is left."""
    held: list[Tensor] = []
    for part in parts:
        held.append(part)
        while sum(map(len, held)) >= size:
            joined = torch.cat(held)
            yield joined[:size]
            held = [joined[size:]]
    if rest := [part for part in held if len(part)]:
        yield torch.cat(rest)
