"""A small X-VLM for the offline world: a compact trunk, the shipped sentence tower, three cross-modal layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, box_iou

from ovdet.errors import InputError
from ovdet.layers.trunk import WIDTHS, CompactTrunk
from ovdet.vlm.contrastive.sentence_tower import WIDTH as SENTENCE_WIDTH
from ovdet.vlm.contrastive.sentence_tower import SentenceTower
from ovdet.vlm.contrastive.wordpiece import fold
from ovdet.xvlm.images import EncodedImages, ImageEncoder
from ovdet.xvlm.model import XVLMModel
from ovdet.xvlm.text import Looked, SharedTokens
from ovdet.xvlm.tokens import SentenceTokens, clean_sentence

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""Of the trunks that are trained on the offline world."""


REACH = 2
"""Places around the one that a sentence points at most, to each side, which count as one with it."""


FIT_WEIGHTS = (1.0, -0.2, 5.0, 2.0, 2.0, 15.0)
"""How much each term of `SmallXVLM.fits` counts."""

UNTOLD = 0.57
"""Cosine of all boxes with a sentence that names nothing: the mean of things and their names in validation scenes."""

TRUTH = (0.23, 0.73, -5.42)
"""Of `chance_of_truth`: how much the matching head and the best fit count, and a constant."""

TRUE_ENOUGH = 0.3
"""Chance by `chance_of_truth` from which a sentence counts as true: nine in ten of validation scenes' own reach it."""

FIT_WEIGHTS_APART = (1.0, -0.25, 5.0, 2.5, 4.0)
"""The same, where nobody has looked more closely."""


class TrunkImages(ImageEncoder):
    """A compact trunk's level at stride 16, with the one at stride 32 added, as tokens which know their place.

    Token 0 is the mean of all others.

    Args:
        image_size: side of the square input in pixels, a multiple of 32.
        width: of a token.
        trunk_widths: channels of the trunk's five stages.
        frozen_stages: of the trunk, which learn nothing.
        place_scale: how loud a place is beside what is seen there, at the start.
    """

    def __init__(
        self,
        image_size: int = 256,
        width: int = 256,
        trunk_widths: tuple[int, int, int, int, int] = WIDTHS,
        frozen_stages: int = 0,
        place_scale: float = 0.5,
    ) -> None:
        if image_size % 32 or width % 4:
            raise InputError(f"image_size must be a multiple of 32 and width of 4, got {image_size} and {width}")
        super().__init__(image_size, width, (16,), MEAN, STD)
        self.trunk = CompactTrunk(trunk_widths).to(memory_format=torch.channels_last)
        self.frozen_stages = frozen_stages
        self.trunk.stages[:frozen_stages].requires_grad_(False)
        _, fine, coarse = self.trunk.out_channels
        self.fine, self.coarse = nn.Linear(fine, width), nn.Linear(coarse, width)
        self.seen_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.register_buffer("places", sine_places(image_size // 16, width), persistent=False)
        self.place_scale = nn.Parameter(torch.tensor(place_scale))
        nn.init.normal_(self.fine.weight, std=0.02)  # so that what the coarse level says comes first
        nn.init.zeros_(self.fine.bias)

    places: Tensor

    def train(self, mode: bool = True) -> TrunkImages:
        """Frozen stages keep their statistics, too."""
        super().train(mode)
        self.trunk.stages[: self.frozen_stages].eval()
        return self

    def forward(self, images: Tensor) -> EncodedImages:
        """See `ImageEncoder`."""
        self._check(images)
        _, fine, coarse = self.trunk(images.contiguous(memory_format=torch.channels_last))
        broad = self.coarse(coarse.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, W, n / 2, n / 2)
        broad = F.interpolate(broad, scale_factor=2.0, mode="bilinear").flatten(2).transpose(1, 2)
        seen = self.seen_norm(self.fine(fine.flatten(2).transpose(1, 2)) + broad)  # (B, n * n, W)
        patches = self.norm(seen + self.place_scale * self.places)
        return EncodedImages(torch.cat([patches.mean(1, keepdim=True), patches], dim=1))


def sine_places(grid: int, width: int) -> Tensor:
    """Places of cells as sines and cosines of x and y, equal for equal shares of the picture: (grid * grid, width)."""
    centres = (torch.arange(grid) + 0.5) / grid
    step = math.log2(16) / max(width // 4 - 1, 1)
    octaves = torch.arange(width // 4) * step  # no linspace: transformers patches it
    waves = math.pi * 2.0**octaves
    angles = centres[:, None] * waves  # (n, W / 4)
    along = torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, W / 2)
    x, y = along.expand(grid, -1, -1), along[:, None].expand(-1, grid, -1)
    return torch.cat([x, y], dim=2).flatten(0, 1)


class TowerSentences(nn.Module):
    """States of the frozen sentence tower's tokens, and layers of our own on them.

    Token 0 starts as the tower's vector of the whole sentence. The tower is no part of `state_dict`.

    Args:
        width: of a state.
        layers: of our own.
        heads: of these.
        dropout: of these.
        noise: length of the random vector that is added to each state in training, as a share of its own, so that
            the few sentences of a small world are not learned by heart.
    """

    def __init__(
        self, width: int = 256, layers: int = 1, heads: int = 8, dropout: float = 0.0, noise: float = 0.3
    ) -> None:
        super().__init__()
        self.width, self.noise = width, noise
        self.straight = nn.Linear(SENTENCE_WIDTH, width)
        self.bent = nn.Sequential(nn.Linear(SENTENCE_WIDTH, 512), nn.GELU(), nn.Linear(512, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True)
            for _ in range(layers)
        )
        self._tower: list[SentenceTower] = []  # in a list, so that it is not registered

    @property
    def tower(self) -> SentenceTower:
        """The frozen tower, on the device of the rest; read when first needed."""
        device = self.straight.weight.device
        if device.type == "cpu":
            return shipped_tower()
        if not self._tower or self._tower[0].tokens.weight.device != device:
            self._tower = [copy.deepcopy(shipped_tower()).to(device)]
        return self._tower[0]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids (K, L) of the tower's tokenizer, mask (K, L) -> states (K, L, D)."""
        with torch.no_grad():
            states = token_states(self.tower, ids, mask).float()
            whole = (states * mask[..., None]).sum(1, keepdim=True)
            states = torch.cat([whole, states[:, 1:]], dim=1)
            states = F.normalize(states, dim=2) * SENTENCE_WIDTH**0.5  # entries of about 1
            if self.training:
                states = states + self.noise * torch.randn_like(states)
        x = self.norm(self.straight(states) + self.bent(states))
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


class Pointer(nn.Module):
    """Where in a picture a fused sentence points: one more attention, whose weights are read as places.

    Each place has a vote for the box of what lies there and is meant.

    Args:
        width: of fused sentences and of tokens.
        grid: patches of a side.
        hidden: of the votes' network.
    """

    def __init__(self, width: int, grid: int, hidden: int = 128) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.vote_query, self.vote_key = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.vote = nn.Linear(hidden, 4)
        nn.init.zeros_(self.vote.weight)  # at first everything is half as wide as the picture and where it is seen
        nn.init.zeros_(self.vote.bias)
        centres = (torch.arange(grid) + 0.5) / grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("centres", torch.stack([x, y], dim=-1).flatten(0, 1), persistent=False)

    centres: Tensor

    def logits(self, fused: Tensor, tokens: Looked, token_mask: Tensor | None = None) -> Tensor:
        """Fused sentences (K, D), as many for each picture in turn; tokens (B, 1 + T, W); mask (B, 1 + T) -> (K, T)."""
        keys = tokens.project(self.key) if isinstance(tokens, SharedTokens) else self.key(tokens)
        query = self.query(fused).unflatten(0, (len(keys), -1))  # (B, K / B, D)
        logits = (query @ keys[:, 1:].transpose(1, 2)).float() / query.shape[2] ** 0.5
        if token_mask is not None:
            logits = logits.masked_fill(~token_mask[:, None, 1:], -math.inf)
        return logits.flatten(0, 1)

    def forward(self, fused: Tensor, tokens: Looked, token_mask: Tensor | None = None) -> Tensor:
        """What is seen around the place that is pointed at most, and the box that it votes for: (K, W + 4).

        Args:
            fused: see `logits`.
            tokens: likewise.
            token_mask: likewise.

        Returns:
            Means: of tokens, and of boxes_cxcywh_norm.
        """
        logits = self.logits(fused, tokens, token_mask)
        away = (self.centres[logits.argmax(1)][:, None] - self.centres).abs().amax(2)  # (K, T)
        near = away * math.sqrt(len(self.centres)) < REACH + 0.5
        weights = logits.masked_fill(~near, -math.inf).softmax(1)
        values = tokens.all() if isinstance(tokens, SharedTokens) else tokens
        each = weights.unflatten(0, (len(values), -1))  # (B, K / B, T)
        seen = each.to(values.dtype) @ values[:, 1:]
        boxes = (each[:, :, None] @ self._votes(fused, tokens))[:, :, 0]  # (B, K / B, 4)
        return torch.cat([seen.float(), boxes], dim=2).flatten(0, 1)

    def _votes(self, fused: Tensor, tokens: Looked) -> Tensor:
        """Boxes of all places, (B, K / B, T, 4) boxes_cxcywh_norm."""
        shared = isinstance(tokens, SharedTokens)
        keys = tokens.project(self.vote_key) if shared else self.vote_key(tokens)
        query = self.vote_query(fused).unflatten(0, (len(keys), -1))
        votes = self.vote(F.gelu(query[:, :, None] + keys[:, None, 1:])).float()  # (B, K / B, T, 4)
        return torch.cat([self.centres + votes[..., :2], votes[..., 2:].sigmoid()], dim=3)


class PointedBox(nn.Module):
    """A box head that mends the box voted for: (K, D + W + 4) -> (K, 4), boxes_cxcywh_norm before a sigmoid.

    Args:
        head: (K, D + W) -> (K, 4).
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pointed: Tensor) -> Tensor:
        """See the class."""
        return self.head(pointed[:, :-4]).float() + torch.logit(pointed[:, -4:].float(), eps=1e-3)


class SmallXVLM(XVLMModel):
    """An X-VLM whose fused first token is followed by what its pointer sees, and where.

    Args:
        pointer: of fused sentences.
        parts: of `XVLMModel`.
    """

    def __init__(self, *parts: nn.Module, pointer: Pointer, **heads: nn.Module) -> None:
        super().__init__(*parts, **heads)
        self.pointer = pointer

    def first(self, states: Tensor, mask: Tensor, tokens: Looked, token_mask: Tensor | None = None) -> Tensor:
        """As of any X-VLM, with the pointer's answer behind: (K, D + W + 4)."""
        fused = super().first(states, mask, tokens, token_mask)
        return torch.cat([fused.float(), self.pointer(fused, tokens, token_mask)], dim=1)

    def choose(
        self,
        states: Tensor,
        mask: Tensor,
        encoded: EncodedImages,
        boxes_xyxy_norm: Tensor,
        likelihood: Tensor | None = None,
        closer: Tensor | None = None,
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """How well each of R boxes of one picture fits each of K sentences, compared with its other boxes.

        What `fits` says, weighed; arguments as there.

        Args:
            states: see `fits`.
            mask: likewise.
            encoded: likewise.
            boxes_xyxy_norm: likewise.
            likelihood: likewise.
            closer: likewise; for a sentence of which it tells nothing (rows that are not a number), what looks alike
                has no say, and the other terms have the weights that they have without a closer look.
            weights: one for each term; None takes what was best on scenes for validation
                (tools/benchmarks/sticker_choice.py).

        Returns:
            (K, R) logits of a softmax over R.
        """
        terms = self.fits(states, mask, encoded, boxes_xyxy_norm, likelihood, closer)
        if weights is None:
            weights = FIT_WEIGHTS_APART if closer is None else FIT_WEIGHTS
        by_row = terms.new_tensor(weights)[:, None].expand(-1, len(states))  # (5 or 6, K)
        if closer is not None:
            apart = terms.new_tensor((*FIT_WEIGHTS_APART, weights[5]))[:, None]
            by_row = torch.where(terms[5].isnan().all(dim=1), apart, by_row)
            terms = torch.cat([terms[:5], terms[5:].nan_to_num(UNTOLD)])
        return (terms * by_row[:, :, None]).sum(0)

    def fits(
        self,
        states: Tensor,
        mask: Tensor,
        encoded: EncodedImages,
        boxes_xyxy_norm: Tensor,
        likelihood: Tensor | None = None,
        closer: Tensor | None = None,
    ) -> Tensor:
        """What there is to say of R boxes of one picture and K sentences.

        The matching head is not asked: it sees a region alone, and cannot tell what lies left of another thing.

        Args:
            states: (K, L, D).
            mask: (K, L) bool.
            encoded: of one picture.
            boxes_xyxy_norm: (R, 4) in shares of the picture.
            likelihood: (R,) that a box holds a thing, as a detector has it; None takes all for equal.
            closer: (K, R) cosines of sentences and crops of the boxes, of `CloserLook`, if anybody has looked.

        Returns:
            (5 or 6, K, R): logarithms of the pointer's weight inside and of the number of places there, cosines in the
            joint space, overlaps with the box drawn, logarithms of the likelihood, and `closer`.
        """
        assert self.space is not None, "built with all heads"
        encoder, tokens = self.image_encoder, encoded.tokens
        corners = (boxes_xyxy_norm.double() * encoder.image_size).round(decimals=3)
        masks = encoder.region_masks(box_convert(corners, "xyxy", "xywh"))  # (R, 1 + T)
        fused = self.first(states, mask, tokens)
        weights = self.pointer.logits(fused[:, : states.shape[2]], tokens).softmax(1)  # (K, T)
        places = masks[:, 1:].to(weights.dtype)
        pointed = (weights @ places.T + 1e-3).log()  # (K, R)
        regions = encoder.regions(encoded, torch.zeros(len(masks), dtype=torch.long, device=tokens.device), masks)
        alike = self.space.of_texts(states[:, 0]) @ self.space.of_images(regions.heads).T
        drawn = box_convert(self.boxes_of(fused), "cxcywh", "xyxy")
        overlap = box_iou(drawn, boxes_xyxy_norm.to(drawn))
        certain = weights.new_ones(len(masks)) if likelihood is None else likelihood.to(weights)
        of_boxes = (places.sum(1).log(), certain.clamp_min(1e-6).log())
        sizes, likely = (each.expand_as(pointed) for each in of_boxes)
        terms = [pointed, sizes, alike, overlap, likely, *([] if closer is None else [closer.to(pointed)])]
        return torch.stack([each.float() for each in terms])


def chance_of_truth(matched: Tensor, best_fit: Tensor) -> Tensor:
    """Chance that sentences are true of anything in a picture, when candidates were looked at more closely.

    A logistic regression on expressions of validation scenes and of their neighbours, both as many: 0.5 is a toss-up.

    Args:
        matched: (K,) chances by the matching head, which sees the whole picture.
        best_fit: (K,) the largest of `SmallXVLM.choose`, by `FIT_WEIGHTS`.

    Returns:
        (K,) in [0, 1].
    """
    whole, closer, constant = TRUTH
    return (whole * torch.logit(matched, eps=1e-5) + closer * best_fit + constant).sigmoid()


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
