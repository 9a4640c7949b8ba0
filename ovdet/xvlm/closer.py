"""A closer look at a few boxes of a picture, before one of them is chosen.

A small thing covers few of the 16 x 16 places that a small X-VLM sees of a picture. The backbone it started from has
learned from crops; it looks at each box by itself, at a size of its own, once a picture for any number of sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ovdet.vlm.base import VLMBackbone
from ovdet.vlm.contrastive.sticker_clip import CROP_MARGIN
from ovdet.vlm.crops import CropEncoder
from ovdet.vlm.zoo import create_vlm

CLOSER = "sticker-clip"
"""A backbone of the zoo, trained on square crops `CROP_MARGIN` as wide as the thing."""


class CloserLook:
    """Boxes and sentences in the space of a backbone that reads crops.

    Args:
        backbone: of the zoo, trained on square crops.
    """

    def __init__(self, backbone: VLMBackbone) -> None:
        self.backbone = backbone
        self.crops = CropEncoder(backbone, (CROP_MARGIN,), square=True)

    @torch.no_grad()
    def __call__(self, image: Tensor, boxes_xyxy: Tensor, sentences: Sequence[str]) -> Tensor:
        """Compare boxes of one picture with sentences.

        Args:
            image: (3, H, W) RGB, uint8 or floats in [0, 1].
            boxes_xyxy: (R, 4), pixels of the picture.
            sentences: K of them.

        Returns:
            (K, R) cosines, on the picture's device.
        """
        pixels = image[None].float() / (255 if image.dtype == torch.uint8 else 1)
        seen = self.crops.embed(pixels, [tuple(image.shape[1:])], [boxes_xyxy.to(pixels)])[0]
        return self.backbone.encode_text(sentences).to(seen) @ seen.T


@cache
def shipped_closer() -> CloserLook:
    """The one of the package, read when first needed."""
    return CloserLook(create_vlm(CLOSER))
