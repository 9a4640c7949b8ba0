"""A small X-VLM for the offline world: a compact trunk, the shipped sentence tower, three cross-modal layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from ovdet.errors import InputError
from ovdet.layers.trunk import WIDTHS, CompactTrunk
from ovdet.vlm.contrastive.sentence_tower import WIDTH as SENTENCE_WIDTH
from ovdet.vlm.contrastive.sentence_tower import SentenceTower
from ovdet.vlm.contrastive.wordpiece import fold
from ovdet.xvlm.images import EncodedImages, ImageEncoder
from ovdet.xvlm.tokens import SentenceTokens, clean_sentence

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""Of the trunks that are trained on the offline world."""


class TrunkImages(ImageEncoder):
    """Two levels of a compact trunk as tokens, which know their place; token 0 is the mean of all others.

    Args:
        image_size: side of the square input in pixels, a multiple of 32.
        width: of a token.
        trunk_widths: channels of the trunk's five stages.
        place_scale: how loud a place is beside what is seen there, at the start.
    """

    def __init__(
        self,
        image_size: int = 256,
        width: int = 256,
        trunk_widths: tuple[int, int, int, int, int] = WIDTHS,
        place_scale: float = 1.0,
    ) -> None:
        if image_size % 32 or width % 4:
            raise InputError(f"image_size must be a multiple of 32 and width of 4, got {image_size} and {width}")
        super().__init__(image_size, width, (16, 32), MEAN, STD)
        self.trunk = CompactTrunk(trunk_widths).to(memory_format=torch.channels_last)
        self.levels = nn.ModuleList(nn.Linear(channels, width) for channels in self.trunk.out_channels[1:])
        self.level_norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.levels)
        self.level_marks = nn.Parameter(torch.zeros(len(self.strides), width))
        self.norm = nn.LayerNorm(width)
        places = torch.cat([sine_places(image_size // stride, width) for stride in self.strides])  # (T, W)
        self.register_buffer("places", places, persistent=False)
        self.place_scale = nn.Parameter(torch.tensor(place_scale))

    places: Tensor

    def forward(self, images: Tensor) -> EncodedImages:
        """See `ImageEncoder`."""
        self._check(images)
        _, *levels = self.trunk(images.contiguous(memory_format=torch.channels_last))
        seen = []
        for level, linear, norm, mark in zip(levels, self.levels, self.level_norms, self.level_marks, strict=True):
            seen.append(norm(linear(level.flatten(2).transpose(1, 2))) + mark)  # (B, n * n, W)
        patches = self.norm(torch.cat(seen, dim=1) + self.place_scale * self.places)
        return EncodedImages(torch.cat([patches.mean(1, keepdim=True), patches], dim=1))


def sine_places(grid: int, width: int) -> Tensor:
    """Places of cells as sines and cosines of x and y, equal for equal shares of the picture: (grid * grid, width)."""
    centres = (torch.arange(grid) + 0.5) / grid
    waves = math.pi * 2.0 ** torch.linspace(0, math.log2(16), width // 4)
    angles = centres[:, None] * waves  # (n, W / 4)
    along = torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, W / 2)
    x, y = along.expand(grid, -1, -1), along[:, None].expand(-1, grid, -1)
    return torch.cat([x, y], dim=2).flatten(0, 1)


class TowerSentences(nn.Module):
    """States of the frozen sentence tower's tokens, and layers of our own on them.

    The tower is no part of `state_dict`.

    Args:
        width: of a state.
        layers: of our own.
        heads: of these.
        dropout: of these.
    """

    def __init__(self, width: int = 256, layers: int = 1, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(SENTENCE_WIDTH, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True)
            for _ in range(layers)
        )
        self._tower: list[SentenceTower] = []  # in a list, so that it is not registered

    @property
    def tower(self) -> SentenceTower:
        """The frozen tower, on the device of the rest; read when first needed."""
        device = self.linear.weight.device
        if device.type == "cpu":
            return shipped_tower()
        if not self._tower or self._tower[0].tokens.weight.device != device:
            self._tower = [copy.deepcopy(shipped_tower()).to(device)]
        return self._tower[0]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids (K, L) of the tower's tokenizer, mask (K, L) -> states (K, L, D)."""
        with torch.no_grad():
            states = token_states(self.tower, ids, mask)
        x = self.norm(self.linear(states.to(self.linear.weight.dtype)))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~mask)
        return x


@cache
def shipped_tower() -> SentenceTower:
    """The sentence tower of the package, on the CPU, not to be changed."""
    return SentenceTower.load().requires_grad_(False)


def token_states(tower: SentenceTower, ids: Tensor, mask: Tensor) -> Tensor:
    """The tower's states before they are averaged: ids (K, L), mask (K, L) -> (K, L, 384)."""
    x = tower.norm(tower.tokens(ids) + tower.positions.weight[: ids.shape[1]])
    for layer in tower.layers:
        x = layer(x, src_key_padding_mask=~mask)
    return x


class TowerTokens(SentenceTokens):
    """Splits sentences as the sentence tower does: typographic signs as in ASCII, [SEP] behind.

    Args:
        vocabulary: of the tower; None reads the shipped one.
        max_words: of a sentence; the rest is left out with a warning.
        max_tokens: of a sentence, [CLS] and [SEP] counted in.
    """

    def __init__(self, vocabulary: Sequence[str] | None = None, max_words: int = 30, max_tokens: int = 40) -> None:
        super().__init__(vocabulary or shipped_tower().wordpiece.vocabulary, max_words, max_tokens)

    def cleaned(self, text: str) -> str:
        """A sentence as it is split."""
        return clean_sentence(fold(text), self.max_words)

    def ids(self, text: str) -> list[int]:
        """[CLS], the pieces of one cleaned sentence and [SEP], at most `max_tokens`."""
        return self.wordpiece.ids(self.cleaned(text), self.max_tokens)

    def pieces(self, text: str) -> list[int]:
        """The pieces alone."""
        return self.ids(text)[1:-1]
