"""The offline world's teacher: a small CLIP-style model of stickers, on the shipped sentence tower.

Its picture tower saw every name of `ovdet.data.stickers` as crops with text, never a box. Its text tower is the frozen
sentence tower with a small trained projection (locked-text tuning, the mirror of LiT, arXiv:2111.07991), so that words
that it never saw in training land near their meaning. How it was trained and what it reaches: docs/stickers.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.layers.compact import read_compact, write_compact
from ovdet.layers.trunk import CompactTrunk
from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.vlm.contrastive.sentence_tower import WIDTH as SENTENCE_WIDTH
from ovdet.vlm.contrastive.sentence_tower import SentenceTower

WEIGHTS = Path(__file__).with_name("sticker_clip.safetensors")
TRAINED_AS = "task.clip."
"""Where a training checkpoint keeps this model."""

SPEC = BackboneSpec(
    name="sticker-clip",
    family="contrastive",
    embed_dim=256,
    image_size=64,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    licence="Apache-2.0",
    temperature=0.02,
    stride=32,
    picture_share=0.1,  # measured on validation crops, see docs/stickers.md
)

CROP_MARGIN = 1.14
"""A crop that it learned from is so much wider than the thing's longer side, on average."""


class TextProjection(nn.Module):
    """Sentence vectors into the joint space: a linear map and a small network beside it.

    Args:
        width: of the joint space.
        hidden: of the network.
    """

    def __init__(self, width: int = SPEC.embed_dim, hidden: int = 512) -> None:
        super().__init__()
        self.straight = nn.Linear(SENTENCE_WIDTH, width)
        self.bent = nn.Sequential(nn.Linear(SENTENCE_WIDTH, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, vectors: Tensor) -> Tensor:
        """(K, 384) -> (K, D) of unit length."""
        vectors = vectors * SENTENCE_WIDTH**0.5  # entries of about 1
        return F.normalize((self.straight(vectors) + self.bent(vectors)).float(), dim=-1)


class StickerCLIP(VLMBackbone):
    """Picture tower, text projection and logit scale; random weights until `load_state_dict`.

    Attributes:
        trunk: pictures to levels; a detector may start from it.
        log_scale: logarithm of what cosines are multiplied by in the training softmax.
    """

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.trunk = CompactTrunk()
        self.image_head = nn.Linear(self.trunk.out_channels[-1], SPEC.embed_dim)
        self.text_head = TextProjection()
        self.log_scale = nn.Parameter(torch.tensor(30.0).log())

    @cached_property
    def sentences(self) -> SentenceTower:
        """The frozen sentence tower; read when first needed, no part of `state_dict`."""
        return SentenceTower.load()

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep the sentence tower out of the registered modules."""
        if name == "sentences":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def fingerprint(self) -> str:
        """Hash of all weights that take part."""
        digest = hashlib.sha256(self.sentences.fingerprint.encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [0, 1] -> (B, 256) of unit length."""
        level = self.trunk(self.normalise(images))[-1]  # (B, C, 2, 2)
        return F.normalize(self.image_head(level.mean(dim=(2, 3))).float(), dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed K texts -> (K, 256) of unit length; English."""
        vectors = self.sentences.encode(texts).to(self.log_scale.device)
        return self.project_sentences(vectors)

    def project_sentences(self, vectors: Tensor) -> Tensor:
        """Vectors of the sentence tower (K, 384) -> (K, 256) of unit length; row by row, so rows never mix."""
        projected: Tensor = self.text_head(vectors)
        return projected

    def forward_dense(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 256, H/32, W/32): what `encode_image` would say of each location alone."""
        level = self.trunk(self.normalise(images))[-1]
        dense = F.conv2d(level, self.image_head.weight[:, :, None, None], self.image_head.bias)
        return F.normalize(dense.float(), dim=1)


def sticker_clip(weights: str | Path | None = "default") -> StickerCLIP:
    """Build the teacher, in eval mode.

    Args:
        weights: "default" for the shipped ones; None for random ones; or a file, compact (.safetensors) or a
            checkpoint of its training (.pth).

    Raises:
        InputError: the file is missing, damaged or of another model.
    """
    model = StickerCLIP().eval()
    if weights is not None:
        path = WEIGHTS if weights == "default" else Path(weights)
        state = read_training(path) if path.suffix == ".pth" else _read_shipped(path, model)
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise InputError(f"{path} does not fit {SPEC.name}: {' '.join(str(error).split())[:200]}") from error
    return model


def read_training(path: Path) -> dict[str, Tensor]:
    """The model's weights out of a checkpoint of `configs/vlm/sticker_clip.py`.

    Raises:
        InputError: unreadable, or a checkpoint of something else.
    """
    checkpoint = load_checkpoint_file(path)
    state = checkpoint.get("state_dict", checkpoint)
    own = {name.removeprefix(TRAINED_AS): value for name, value in state.items() if name.startswith(TRAINED_AS)}
    if not own:
        raise InputError(f"{path} is no checkpoint of {SPEC.name}: none of its weights starts with {TRAINED_AS!r}")
    return own


def ship(checkpoint: Path, out: Path, facts: dict[str, object]) -> None:
    """Write a training checkpoint as a compact file that `sticker_clip` loads.

    Args:
        checkpoint: of the training.
        out: file to write (.safetensors).
        facts: what else the file shall say of itself: training, licence, attribution.

    Raises:
        InputError: the checkpoint cannot be read or the file not be written.
    """
    model = sticker_clip(checkpoint)
    own = {"model": SPEC.name, "sentence_tower": model.sentences.fingerprint}
    write_compact(out, model.state_dict(), {**facts, **own})


def _read_shipped(path: Path, model: StickerCLIP) -> dict[str, Tensor]:
    state, facts = read_compact(path)
    if facts.get("model") != SPEC.name:
        raise InputError(f"{path} holds weights of {facts.get('model')!r}, not of {SPEC.name!r}")
    if facts.get("sentence_tower") != model.sentences.fingerprint:
        raise InputError(f"{path} was trained on another sentence tower than this version of ovdet ships; train again")
    return state
