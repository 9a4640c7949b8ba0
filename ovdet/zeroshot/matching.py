"""How likely is each name at each place? Names never compete with each other, only with a fixed background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ovdet.vlm.base import VLMBackbone
from ovdet.vlm.prompts import class_embeddings

BACKGROUND = (
    *("background", "sky", "cloud", "grass", "ground", "floor", "wall", "ceiling", "water", "sea", "sand", "snow"),
    *("road", "pavement", "building", "house", "tree", "forest", "plant", "leaf", "rock", "mountain", "field"),
    *("fence", "window", "door", "curtain", "carpet", "furniture", "table", "person", "animal", "vehicle", "food"),
    *("text", "texture", "pattern", "shadow", "light", "object"),
)
"""What competes with the user's names where a backbone brings no competitors of its own."""


class Matcher(Protocol):
    """Compares image vectors with the names of one question."""

    count: int

    def probabilities(self, vectors: Tensor, names: slice) -> Tensor:
        """(..., D) image vectors -> (..., n) in [0, 1] for the n names of the slice."""


class OwnMatcher:
    """For a backbone that knows itself how likely a name is: one with a method `match`, such as ImageNetWords."""

    def __init__(self, match: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor) -> None:
        self._match, self._embeddings = match, embeddings
        self.count = len(embeddings)

    def probabilities(self, vectors: Tensor, names: slice) -> Tensor:
        """(..., D) -> (..., n) in [0, 1]."""
        return self._match(vectors, self._embeddings[names])


class BackgroundMatcher:
    """For contrastive backbones: a softmax of each name alone against the background words.

    A background word that nearly is the name (cosine above `same`) does not compete with it.
    """

    def __init__(self, embeddings: Tensor, background: Tensor, temperature: float, same: float = 0.97) -> None:
        self._embeddings, self._background, self._temperature = embeddings, background, temperature
        self._rival = embeddings @ background.T < same  # (K, words)
        self.count = len(embeddings)

    def probabilities(self, vectors: Tensor, names: slice) -> Tensor:
        """(..., D) -> (..., n) in [0, 1]."""
        own = vectors @ self._embeddings[names].T / self._temperature  # (..., n)
        others = vectors @ self._background.T / self._temperature  # (..., words)
        weights = torch.where(self._rival[names], 0.0, -torch.inf)  # (n, words)
        columns = [torch.logsumexp(others + rivals, dim=-1) for rivals in weights.to(others)]
        return torch.sigmoid(own - torch.stack(columns, dim=-1))


def make_matcher(backbone: VLMBackbone, embeddings: Tensor) -> Matcher:
    """The matcher that suits a backbone."""
    embeddings = embeddings.to(backbone.mean)
    match = getattr(backbone, "match", None)
    if match is not None:
        return OwnMatcher(match, embeddings)
    background = class_embeddings(backbone, BACKGROUND).to(backbone.mean)
    return BackgroundMatcher(embeddings, background, backbone.spec.temperature)
