"""The model: pictures, regions and sentences into one space, matched and boxed by a cross-modal encoder."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.errors import CapabilityError
from ovdet.xvlm.images import EncodedImages, ImageEncoder
from ovdet.xvlm.text import Looked, WordHead


class SentenceEncoder(Protocol):
    """What turns tokens into states: `forward(ids (K, L), mask (K, L)) -> (K, L, D)`."""

    width: int

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode K sentences."""
        ...


def mlp_head(width: int, outputs: int) -> nn.Sequential:
    """What answers from the first token: one hidden layer of twice the width."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, outputs))


class JointSpace(nn.Module):
    """Linear maps of pictures and sentences into one space of unit vectors.

    Args:
        image_width: of a picture's token.
        text_width: of a sentence's token.
        embed_dim: of the space.
        temperature: divides the cosines; learned.
    """

    def __init__(self, image_width: int, text_width: int, embed_dim: int = 256, temperature: float = 0.07) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, embed_dim)
        self.text = nn.Linear(text_width, embed_dim)
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def of_images(self, first: Tensor) -> Tensor:
        """Token 0 of pictures or regions (B, W) -> (B, E)."""
        return F.normalize(self.image(first).float(), dim=-1)

    def of_texts(self, first: Tensor) -> Tensor:
        """State 0 of sentences (K, D) -> (K, E)."""
        return F.normalize(self.text(first).float(), dim=-1)

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep the temperature in [0.001, 0.5], as before each step of pre-training."""
        self.temperature.clamp_(0.001, 0.5)


class XVLMModel(nn.Module):
    """X-VLM (arXiv:2111.08276, section 3).

    Args:
        image_encoder: pictures and regions to tokens.
        text_encoder: sentences to states.
        fusion: `(states, mask, tokens, token_mask) -> states`.
        space: for retrieval and contrastive learning.
        match_head: (N, D) -> (N, 2), the second is a match.
        box_head: (N, D) -> (N, 4).
        word_head: for masked language modelling.

    A head that a task does without is None. `recipe` is what a checkpoint says of how the model was built.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: nn.Module,
        fusion: nn.Module,
        *,
        space: JointSpace | None = None,
        match_head: nn.Module | None = None,
        box_head: nn.Module | None = None,
        word_head: WordHead | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.fusion = fusion
        self.space, self.match_head, self.box_head, self.word_head = space, match_head, box_head, word_head
        self.recipe: dict[str, Any] = {}

    def encode_images(self, images: Tensor) -> EncodedImages:
        """(B, 3, S, S), normalised -> tokens."""
        encoded: EncodedImages = self.image_encoder(images)
        return encoded

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids (K, L) int64, mask (K, L) bool -> states (K, L, D)."""
        states: Tensor = self.text_encoder(ids, mask)
        return states

    def first(self, states: Tensor, mask: Tensor, tokens: Looked, token_mask: Tensor | None = None) -> Tensor:
        """The first token after fusion.

        Args:
            states: (K, L, D) of sentences, an equal number for each picture in turn.
            mask: (K, L) bool.
            tokens: (B, 1 + T, W) of pictures or regions, or shared ones.
            token_mask: (B, 1 + T) bool; None is everything.

        Returns:
            (K, D).
        """
        fused: Tensor = self.fusion(states, mask, tokens, token_mask)[:, 0]
        return fused

    def predict_boxes(self, states: Tensor, mask: Tensor, tokens: Looked) -> Tensor:
        """One box for each sentence from the whole picture -> (K, 4) boxes_cxcywh_norm in [0, 1].

        Raises:
            CapabilityError: the model has no box head.
        """
        return self.boxes_of(self.first(states, mask, tokens))

    def boxes_of(self, fused: Tensor) -> Tensor:
        """First tokens (K, D) -> (K, 4) boxes_cxcywh_norm."""
        if self.box_head is None:
            raise CapabilityError("this model has no box head; load a checkpoint of pre-training or of grounding")
        boxes: Tensor = self.box_head(fused).float().sigmoid()
        return boxes

    def match_logits(self, fused: Tensor) -> Tensor:
        """First tokens (K, D) -> (K, 2), the second is a match.

        Raises:
            CapabilityError: the model has no matching head.
        """
        if self.match_head is None:
            raise CapabilityError(
                "this model has no matching head, so it cannot say how sure it is; load a checkpoint of pre-training "
                "or retrieval"
            )
        logits: Tensor = self.match_head(fused).float()
        return logits

    def word_logits(self, states: Tensor) -> Tensor:
        """Fused states (..., D) -> (..., V).

        Raises:
            CapabilityError: the model has no head for words.
        """
        if self.word_head is None:
            raise CapabilityError("this model has no head for masked words; load a checkpoint of pre-training")
        logits: Tensor = self.word_head(states, self.text_encoder.embedding.tokens.weight).float()
        return logits
