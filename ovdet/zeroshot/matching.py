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

BLOCK = 32
"""Names compared at once. Fewer are filled up with empty ones: products of one shape round alike, so that the
probability of a name is the same number in any company."""


class Matcher(Protocol):
    """Compares image vectors with the names of one question, `BLOCK` names at a time."""

    count: int

    def probabilities(self, vectors: Tensor, first: int) -> Tensor:
        """(..., D) image vectors -> (..., n) in [0, 1], for name `first` and the n - 1 next ones."""


class OwnMatcher:
    """For a backbone that knows itself how likely a name is: one with a method `match`, such as ImageNetWords."""

    def __init__(self, match: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor) -> None:
        self._match, self._embeddings = match, embeddings
        self.count = len(embeddings)

    def probabilities(self, vectors: Tensor, first: int) -> Tensor:
        """(..., D) -> (..., n) in [0, 1]."""
        names = self._embeddings[first : first + BLOCK]
        return self._match(vectors, _filled(names))[..., : len(names)]


class BackgroundMatcher:
    """For contrastive backbones: a softmax of each name alone against the background words.

    A background word that nearly is the name (cosine above `same`) does not compete with it.
    """

    def __init__(self, embeddings: Tensor, background: Tensor, temperature: float, same: float = 0.97) -> None:
        self._embeddings, self._background, self._temperature = embeddings, background, temperature
        self._same = same
        self.count = len(embeddings)

    def probabilities(self, vectors: Tensor, first: int) -> Tensor:
        """(..., D) -> (..., n) in [0, 1]."""
        names = self._embeddings[first : first + BLOCK]
        own = vectors @ _filled(names).T / self._temperature  # (..., BLOCK)
        others = vectors @ self._background.T / self._temperature  # (..., words)
        columns = []
        for index, name in enumerate(names):
            rivals = self._background @ name < self._same  # (words,)
            columns.append(own[..., index] - torch.logsumexp(others[..., rivals], dim=-1))
        return torch.sigmoid(torch.stack(columns, dim=-1))


def _filled(names: Tensor) -> Tensor:
    """(n, D) -> (BLOCK, D), zeros below."""
    return torch.nn.functional.pad(names, (0, 0, 0, BLOCK - len(names)))


def make_matcher(backbone: VLMBackbone, embeddings: Tensor) -> Matcher:
    """The matcher that suits a backbone."""
    embeddings = embeddings.to(backbone.mean)
    match = getattr(backbone, "match", None)
    if match is not None:
        return OwnMatcher(match, embeddings)
    background = class_embeddings(backbone, BACKGROUND).to(backbone.mean)
    return BackgroundMatcher(embeddings, background, backbone.spec.temperature)
