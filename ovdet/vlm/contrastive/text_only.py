"""A text tower behind the zoo's contract, for detectors that are trained against language alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ovdet.errors import CapabilityError
from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.vlm.contrastive.sentence_tower import WIDTH, SentenceTower

SPEC = BackboneSpec(
    name="sentence-tower",
    family="contrastive",
    embed_dim=WIDTH,
    image_size=1,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    licence="Apache-2.0",
    capabilities=frozenset({"text"}),
)


class SentenceBackbone(VLMBackbone):
    """The shipped sentence tower: class embeddings for ViLD-text, as with GloVe in the paper."""

    def __init__(self, tower: SentenceTower) -> None:
        super().__init__(SPEC)
        self.tower = tower

    @property
    def fingerprint(self) -> str:
        """Hash of weights and vocabulary."""
        return self.tower.fingerprint

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed K texts -> (K, 384)."""
        return self.tower.encode(texts)

    def encode_image(self, images: Tensor) -> Tensor:
        """Refused.

        Raises:
            CapabilityError: always.
        """
        raise CapabilityError("sentence-tower embeds texts only; choose another backbone for pictures")

    def forward_dense(self, images: Tensor) -> Tensor:
        """Refused.

        Raises:
            CapabilityError: always.
        """
        raise CapabilityError("sentence-tower embeds texts only; choose another backbone for pictures")
