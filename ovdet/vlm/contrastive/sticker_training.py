"""How the offline world's teacher learns: crops against the whole vocabulary, and against texts that tell colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.vlm.cache import cache_dir
from ovdet.vlm.contrastive.sticker_clip import sticker_clip
from ovdet.vlm.prompts import sentence_vectors


class StickerCLIPTraining(nn.Module):
    """`StickerCLIP` with its losses. Call `set_texts` before the first step.

    Args:
        text_weight: of the loss against the texts of the batch.
        noise: length of the random vector that is added to each sentence vector (of unit length), so that the
            projection does not learn the few sentences by heart.
        max_scale: the logit scale is clamped to it.
        start: file of a whole model to start from (`sticker_clip` reads it), "default" for the shipped one; None is
            random weights.
        fixed_texts: as `start`: whose text projection is taken and kept, so that detectors trained on its vectors stay
            right; None lets it learn.
    """

    def __init__(
        self,
        text_weight: float = 0.3,
        noise: float = 0.3,
        max_scale: float = 100.0,
        start: str | None = None,
        fixed_texts: str | None = None,
    ) -> None:
        super().__init__()
        self.clip = sticker_clip(start).train()
        if fixed_texts is not None:
            self.clip.text_head.load_state_dict(sticker_clip(fixed_texts).text_head.state_dict())
            self.clip.text_head.requires_grad_(False)
        self.clip.trunk.to(memory_format=torch.channels_last)
        self.text_weight, self.noise, self.max_scale = text_weight, noise, max_scale
        self.register_buffer("sentences", torch.zeros(0, 0), persistent=False)  # (T, 384)
        self.register_buffer("choices", torch.zeros(0, 0, dtype=torch.long), persistent=False)  # (K, V)

    sentences: Tensor
    choices: Tensor

    def set_texts(self, texts: Sequence[str], of_names: Sequence[Sequence[int]], cache: Path | None = None) -> None:
        """Say what may be said.

        Args:
            texts: T texts; samples refer to them by index.
            of_names: for each of K names the indices of the texts that stand for it alone, at least one.
            cache: folder to keep sentence vectors in; None is the user's own.
        """
        device = self.clip.log_scale.device
        self.sentences = sentence_vectors(self.clip.sentences, texts, cache or cache_dir()).to(device)
        most = max(map(len, of_names))
        rows = [[own[i % len(own)] for i in range(most)] for own in of_names]
        self.choices = torch.tensor(rows, device=device)

    def scale(self) -> Tensor:
        """What cosines are multiplied by."""
        return self.clip.log_scale.exp().clamp(max=self.max_scale)

    def loss(self, image: Tensor, label: Tensor, text: Tensor) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            image: (B, 3, 64, 64) uint8.
            label: (B,) index of the name.
            text: (B,) index of a text that is true of the picture.
        """
        pictures = self.clip.encode_image(self._floats(image))  # (B, D)
        drawn = torch.randint(self.choices.shape[1], (len(self.choices),), device=label.device)
        names = self._project(self.choices.gather(1, drawn[:, None])[:, 0])  # (K, D)
        said, place = text.unique(return_inverse=True)
        texts = self._project(said)  # (U, D)
        scale = self.scale()
        return {
            "loss_names": F.cross_entropy(scale * pictures @ names.T, label),
            "loss_texts": self.text_weight * F.cross_entropy(scale * pictures @ texts.T, place),
            "scale": scale.detach(),
        }

    @torch.no_grad()
    def predict(self, image: Tensor, label: Tensor, text: Tensor) -> Tensor:
        """(B, K) cosines with the names, each said by its first text."""
        names = self.clip.project_sentences(self.sentences[self.choices[:, 0]])
        return self.clip.encode_image(self._floats(image)) @ names.T

    def _project(self, indices: Tensor) -> Tensor:
        vectors = self.sentences[indices]
        if self.noise:
            vectors = vectors + torch.randn_like(vectors) * (self.noise / vectors.shape[1] ** 0.5)
        return self.clip.project_sentences(F.normalize(vectors, dim=1))

    def _floats(self, image: Tensor) -> Tensor:
        return (image.float() / 255).contiguous(memory_format=torch.channels_last)
