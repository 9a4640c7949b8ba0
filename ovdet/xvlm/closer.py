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

GENERAL_NOUNS = frozenset(("thing", "things", "object", "objects", "item", "items", "something", "anything"))
"""What any crop is one of: a sentence about such a thing tells nothing that a crop could show."""

PLACES = frozenset("left right top bottom above below under over beside behind near next between on in at of".split())
"""Words after which a sentence tells of something else, or where the thing is."""


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
            (K, R) cosines, on the picture's device; not a number all along for a sentence that
            `names_nothing`.
        """
        cosines = torch.full((len(sentences), len(boxes_xyxy)), torch.nan, device=image.device)
        named = [row for row, sentence in enumerate(sentences) if not names_nothing(sentence)]
        if named:
            pixels = image[None].float() / (255 if image.dtype == torch.uint8 else 1)
            seen = self.crops.embed(pixels, [tuple(image.shape[1:])], [boxes_xyxy.to(pixels)])[0]
            cosines[named] = self.backbone.encode_text([sentences[row] for row in named]).to(seen) @ seen.T
        return cosines


def names_nothing(sentence: str) -> bool:
    """Whether a sentence is about a thing that it does not name, as "the largest thing" or "the object on the left"."""
    for word in sentence.lower().replace(",", " ").split():
        if word in GENERAL_NOUNS or word in PLACES:
            return word in GENERAL_NOUNS
    return False


@cache
def shipped_closer() -> CloserLook:
    """The one of the package, read when first needed."""
    return CloserLook(create_vlm(CLOSER))
