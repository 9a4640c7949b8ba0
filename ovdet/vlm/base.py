"""What every backbone of the zoo promises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from ovdet.ops.boxes import clip_boxes, enlarge_boxes


@dataclass(frozen=True)
class BackboneSpec:
    """Facts of one backbone that its users need before they build it.

    Attributes:
        name: as `create_vlm` takes it.
        family: "contrastive", "masked" or "generative".
        embed_dim: width D of the joint space.
        image_size: side in pixels of the square that `encode_image` wants.
        mean: of the RGB channels, subtracted by the backbone itself.
        std: of the RGB channels, divided by the backbone itself.
        licence: SPDX id of the weights.
        temperature: softmax temperature over names that suits this space (CLIP's 0.01).
        capabilities: of "image", "text", "dense", "region".
        stride: pixels between the locations of `forward_dense`; None where there is no such map or it is not said.
        picture_share: how much of a picture's own vector belongs into a row that stands among rows of names; 0 where
            pictures and texts lie apart in the space. See class_pictures.py.
    """

    name: str
    family: str
    embed_dim: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    temperature: float = 0.01
    capabilities: frozenset[str] = frozenset({"image", "text", "dense", "region"})
    stride: int | None = None
    picture_share: float = 0.0


class VLMBackbone(nn.Module):
    """Pictures and texts into one space of width D, in which closeness is a dot product.

    Pictures come as (B, 3, H, W) float RGB in [0, 1]; the backbone normalises them itself, with the mean and
    std of its spec. Every vector that goes out has unit length unless the method says otherwise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @property
    def fingerprint(self) -> str:
        """Hash of weights and tokenizer: the same texts give the same vectors if and only if it is the same."""
        raise NotImplementedError

    @abstractmethod
    def encode_image(self, images: Tensor) -> Tensor:
        """Embed whole pictures: (B, 3, S, S) with S the spec's image_size, in [0, 1] -> (B, D)."""

    def image_features(self, images: Tensor) -> Tensor:
        """Like `encode_image`, but of the length that the tower gives, where it gives one: (B, 3, S, S) -> (B, D)."""
        return self.encode_image(images)

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed K texts one by one -> (K, D); no text changes the vector of another."""

    @abstractmethod
    def forward_dense(self, images: Tensor) -> Tensor:
        """Embed every location: (B, 3, H, W) in [0, 1], any size -> (B, D, h, w), each location of unit length."""

    def normalise(self, images: Tensor) -> Tensor:
        """Subtract the mean and divide by the std: (B, 3, H, W) in [0, 1] -> (B, 3, H, W)."""
        return (images - self.mean) / self.std

    @torch.no_grad()
    def region_embed_crop(
        self,
        images: Tensor,
        boxes_xyxy: Sequence[Tensor],
        scales: Sequence[float] = (1.0, 1.5),
        block: int = 64,
    ) -> list[Tensor]:
        """Embed regions by cropping, ViLD's teacher: a tight and a wider crop, summed (arXiv:2104.13921, 3.2).

        Args:
            images: (B, 3, H, W) in [0, 1].
            boxes_xyxy: B tensors (N_i, 4), pixels of `images`; enlarged boxes are clipped to the picture, and a
                side below one pixel is taken as one pixel.
            scales: of the crops about the box centre. Crops are warped to the square of the spec.
            block: crops encoded at once, to bound memory.

        Returns:
            B tensors (N_i, D) of unit length.
        """
        side, width = self.spec.image_size, self.spec.embed_dim
        regions = []
        for image, boxes in zip(images, boxes_xyxy, strict=True):
            rois = torch.cat([crop_boxes(boxes, scale, image.shape[-2:]) for scale in scales])  # (S * N, 4)
            features = [
                self.image_features(
                    roi_align(image[None], [part.to(image)], (side, side), sampling_ratio=-1, aligned=True).clamp(0, 1)
                )
                for part in rois.split(block)
                if len(part)
            ]
            summed = torch.cat([image.new_zeros(0, width), *features]).view(len(scales), len(boxes), width).sum(dim=0)
            regions.append(nn.functional.normalize(summed, dim=1))  # (N, D)
        return regions


def crop_boxes(boxes_xyxy: Tensor, scale: float, size_hw: tuple[int, int]) -> Tensor:
    """Boxes scaled about their centres, cut at the picture's border, and no side below one pixel: (N, 4) to (N, 4)."""
    height, width = size_hw
    boxes = clip_boxes(enlarge_boxes(boxes_xyxy.float(), scale), size_hw)
    top_left = boxes[:, :2].minimum(boxes.new_tensor([width - 1, height - 1]).clamp(min=0))
    return torch.cat([top_left, boxes[:, 2:].maximum(top_left + 1)], dim=1)
