"""`imagenet-words`: an ImageNet classifier that understands names, without CLIP and without a download.

In:  pictures.   Out: probabilities of the 1000 ImageNet classes, as the picture's vector; a name's vector is what the
name says about each class (word_relevance.py). Their product is the probability that the name is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.vlm.contrastive import efficientnet_lite
from ovdet.vlm.contrastive.efficientnet_lite import EfficientNetLite
from ovdet.vlm.contrastive.sentence_tower import SentenceTower
from ovdet.vlm.contrastive.word_relevance import NounTable, WordRelevance

CLASSES = 1000
CHANCE = 1.5
"""How many times the probability that blind guessing gives a name is taken off before it counts; see `match`."""
SURE = 0.2
"""Probability from which on a class is what an example picture shows; by judgement, not tuned."""
VERSION = 1
"""Part of the fingerprint: raise it when the same name gets another vector."""

SPEC = BackboneSpec(
    name="imagenet-words",
    family="contrastive",
    embed_dim=CLASSES + 1,
    image_size=efficientnet_lite.IMAGE_SIZE,
    mean=efficientnet_lite.MEAN,
    std=efficientnet_lite.STD,
    licence="Apache-2.0",
    temperature=0.1,
)


class ImageNetWords(VLMBackbone):
    """Pictures and names in the space of ImageNet's classes.

    A picture, or a place in it, is its class probabilities p (1000); a name is its relevance r in [0, 1] to each
    class; p . r is the probability that a classifier with that name as a class would say the name, in competition
    with all else that ImageNet knows. As the zoo's vectors have unit length, one coordinate more keeps the scale of
    a name: (r, 1) and (p, 0), each divided by its length. `match` gives p . r back from such vectors. A name that
    says nothing about any class is orthogonal to all pictures.
    """

    def __init__(self, classifier: EfficientNetLite, relevance: WordRelevance) -> None:
        super().__init__(SPEC)
        self.classifier = classifier
        self.relevance = relevance
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a name's vector depends on."""
        if not self._fingerprint:
            parts = (VERSION, self.relevance.tower.fingerprint, self.relevance.config, self.relevance.nouns.digest)
            self._fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()
        return self._fingerprint

    def encode_image(self, images: Tensor) -> Tensor:
        """Whole pictures: (B, 3, S, S) in [0, 1] -> (B, 1001)."""
        return _as_vectors(self.classifier(self.normalise(images)).float().softmax(dim=1))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Names, or prompts around names: K texts -> (K, 1001). Prompts make no difference."""
        if not texts:
            return torch.zeros(0, CLASSES + 1, device=self.mean.device)
        relevance = torch.stack([self.relevance(text) for text in texts])  # (K, 1000)
        scale = torch.ones(len(texts), 1)
        return normalize(torch.cat([relevance, scale], dim=1), dim=1).to(self.mean.device)

    def forward_dense(self, images: Tensor) -> Tensor:
        """Every place: (B, 3, H, W) in [0, 1] -> (B, 1001, h, w), h and w a sixteenth of H and W, rounded up."""
        return _as_vectors(self.classifier.forward_map(self.normalise(images)).float().softmax(dim=1))

    @property
    def cell_offset(self) -> float:
        """Where in a cell of the dense map its centre lies, in cells; see `efficientnet_lite.cell_centres`."""
        return 0.0

    def knows(self, class_embeddings: Tensor) -> Tensor:
        """How well ImageNet's classes cover each name: its greatest relevance, (K, 1001) -> (K,) in [0, 1]."""
        relevance = class_embeddings[:, :CLASSES] / class_embeddings[:, CLASSES:].clamp(min=1e-6)
        return relevance.amax(dim=1).clamp(0, 1)

    def rows_of_pictures(self, vectors: Tensor) -> Tensor:
        """What example pictures say about each class, as names do: (K, 1001) vectors of pictures -> (K, 1001) rows.

        The likeliest class of the picture has relevance 1, the others as much less as they are less likely. All have
        less where none is likelier than `SURE`: such a picture says little.
        """
        probabilities = vectors[:, :CLASSES] / vectors[:, :CLASSES].sum(dim=1, keepdim=True).clamp(min=1e-12)
        relevance = probabilities / probabilities.amax(dim=1, keepdim=True).clamp(min=SURE)
        return normalize(torch.cat([relevance, torch.ones_like(relevance[:, :1])], dim=1), dim=1)

    def match(self, vectors: Tensor, class_embeddings: Tensor) -> Tensor:
        """Probability of each name for each picture vector, corrected for chance.

        A name of many classes gets its share of an undecided classifier: "dog", with 118 breeds, about 0.12 of a
        bare wall. With c as `CHANCE` times the name's mean relevance, the answer is (p . r - c) / (1 - c), at least
        0: nothing for a guess, 1 for certainty.

        Args:
            vectors: (..., 1001) pictures, places or regions.
            class_embeddings: (K, 1001) names.

        Returns:
            (..., K) in [0, 1].
        """
        probabilities = vectors[..., :CLASSES] / vectors[..., :CLASSES].sum(dim=-1, keepdim=True).clamp(min=1e-12)
        relevance = class_embeddings[:, :CLASSES] / class_embeddings[:, CLASSES:].clamp(min=1e-6)
        relevance = relevance.clamp(0, 1).to(vectors)
        chance = (CHANCE * relevance.mean(dim=1)).clamp(max=0.5)  # (K,)
        return ((probabilities @ relevance.T - chance) / (1 - chance)).clamp(0, 1)


def imagenet_words(weights: str | Path | None = "default") -> ImageNetWords:
    """Build the backbone.

    Args:
        weights: "default" for the installed package's file, a path to a copy of it, or None for random weights.

    Raises:
        InputError: a weights file is missing or not the one expected.
    """
    classifier = EfficientNetLite().eval()
    if weights is not None:
        classifier.load(None if weights == "default" else Path(weights))
    relevance = WordRelevance(NounTable.load(), SentenceTower.load())
    return ImageNetWords(classifier, relevance).eval()


def _as_vectors(probabilities: Tensor) -> Tensor:
    """(B, 1000, ...) -> (B, 1001, ...) of unit length."""
    return normalize(torch.cat([probabilities, torch.zeros_like(probabilities[:, :1])], dim=1), dim=1)
