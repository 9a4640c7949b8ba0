"""BERT's layers (Devlin et al. 2019, arXiv:1810.04805), cut into a text part and a part that looks at the picture.

Post-norm layers of torch; no pooler. Masks are bool, true where there is a token; the first token always is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.xvlm.config import TextSizes

INIT_STD = 0.02


class TextEmbedding(nn.Module):
    """Word pieces to vectors: word, place in the sentence, and the type of a first sentence.

    Args:
        sizes: of the text part.
    """

    def __init__(self, sizes: TextSizes) -> None:
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Embedding(sizes.positions, sizes.width)
        self.types = nn.Embedding(sizes.types, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.eps)
        self.dropout = nn.Dropout(sizes.dropout)
        for table in (self.tokens, self.positions, self.types):
            nn.init.normal_(table.weight, std=INIT_STD)

    def forward(self, ids: Tensor) -> Tensor:
        """(K, L) -> (K, L, D).

        Raises:
            InputError: sentences of more tokens than there are positions.
        """
        length = ids.shape[1]
        if length > self.positions.num_embeddings:
            raise InputError(f"a text has {length} tokens, at most {self.positions.num_embeddings} fit; cut it first")
        x = self.tokens(ids) + self.positions.weight[:length] + self.types.weight[0]
        return self.dropout(self.norm(x))


class TextEncoder(nn.Module):
    """Embedding and layers that see the sentence alone.

    Args:
        sizes: of the text part; `text_layers` of them.
    """

    def __init__(self, sizes: TextSizes) -> None:
        super().__init__()
        self.width = sizes.width
        self.embedding = TextEmbedding(sizes)
        self.layers = nn.ModuleList(self_attention_layer(sizes) for _ in range(sizes.text_layers))

    def forward(self, ids: Tensor, mask: Tensor, *, causal: bool = False) -> Tensor:
        """Ids (K, L) int64, mask (K, L) -> states (K, L, D); causal: a word sees no later one."""
        x = self.embedding(ids)
        later = later_words(x) if causal else None
        for layer in self.layers:
            x = layer(x, src_mask=later, src_key_padding_mask=~mask)
        return x


def later_words(x: Tensor) -> Tensor:
    """What a word of x (K, L, D) must not see when it sees no later one: (L, L) bool."""
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)


def self_attention_layer(sizes: TextSizes) -> nn.TransformerEncoderLayer:
    """One of BERT's layers as a layer of torch, initialised as BERT is."""
    layer = nn.TransformerEncoderLayer(
        sizes.width, sizes.heads, sizes.hidden, sizes.dropout, "gelu", sizes.eps, batch_first=True
    )
    layer.self_attn.dropout = sizes.attention_dropout
    layer.dropout.p = 0.0  # BERT drops nothing inside its feed-forward part
    init_linear(layer)
    return layer


class SharedTokens(NamedTuple):
    """Tokens that N rows look at, though most of them are the same for all rows of one picture.

    What is computed from a token alone is computed once a picture; only then rows are told apart.

    Attributes:
        tokens: (B, 1 + T, W) of pictures.
        index: (N,) the picture of each row.
        first: (N, W) each row's own in the place of token 0, or None.
    """

    tokens: Tensor
    index: Tensor
    first: Tensor | None = None

    def rows(self, chosen: Tensor) -> SharedTokens:
        """Some rows, in that order."""
        return SharedTokens(self.tokens, self.index[chosen], None if self.first is None else self.first[chosen])

    def project(self, linear: nn.Linear) -> Tensor:
        """A linear map of all tokens of every row: (N, 1 + T, D)."""
        mapped = linear(self.tokens).index_select(0, self.index)
        if self.first is None:
            return mapped
        return torch.cat([linear(self.first)[:, None], mapped[:, 1:]], dim=1)

    @property
    def heads(self) -> Tensor:
        """(N, W), token 0 of every row."""
        return self.tokens[self.index, 0] if self.first is None else self.first

    def all(self) -> Tensor:
        """The tokens of every row, (N, 1 + T, W)."""
        return torch.cat([self.heads[:, None], self.tokens[:, 1:].index_select(0, self.index)], dim=1)


Looked = Tensor | SharedTokens
"""Tokens to look at: (B, T, W), one set for each row or for several consecutive rows; or shared ones."""


class CrossAttention(nn.Module):
    """Attention from a sentence to tokens of another width.

    Args:
        width: of the sentence's tokens.
        key_width: of the tokens looked at.
        heads: of the attention.
        dropout: of its probabilities.
    """

    def __init__(self, width: int, key_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(key_width, width)
        self.value = nn.Linear(key_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, tokens: Looked, mask: Tensor | None = None) -> Tensor:
        """Look at tokens; consecutive sentences may share a picture, whose keys are then computed once.

        Args:
            x: (K, L, D) of K = G * B sentences, G for each of B pictures in turn.
            tokens: (B, T, W), or shared ones of B rows.
            mask: (B, T), true where there is something to see; None is everywhere.

        Returns:
            (K, L, D).
        """
        if isinstance(tokens, SharedTokens):
            key, value = tokens.project(self.key), tokens.project(self.value)
        else:
            key, value = self.key(tokens), self.value(tokens)
        query = self.split(self.query(x).reshape(len(key), -1, x.shape[2]))  # (B, heads, G * L, D / heads)
        seen = None if mask is None else mask[:, None, None]
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(
            query, self.split(key), self.split(value), attn_mask=seen, dropout_p=dropout
        )
        return self.out(found.transpose(1, 2).reshape(x.shape))

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class CrossLayer(nn.Module):
    """One of BERT's layers with a look at other tokens between self-attention and feed-forward part.

    Args:
        sizes: of the text part.
        key_width: of the tokens looked at.
    """

    def __init__(self, sizes: TextSizes, key_width: int) -> None:
        super().__init__()
        width, dropout = sizes.width, sizes.dropout
        self.self_attn = nn.MultiheadAttention(width, sizes.heads, sizes.attention_dropout, batch_first=True)
        self.cross_attn = CrossAttention(width, key_width, sizes.heads, sizes.attention_dropout)
        self.linear1 = nn.Linear(width, sizes.hidden)
        self.linear2 = nn.Linear(sizes.hidden, width)
        self.norm1 = nn.LayerNorm(width, eps=sizes.eps)
        self.norm2 = nn.LayerNorm(width, eps=sizes.eps)
        self.norm3 = nn.LayerNorm(width, eps=sizes.eps)
        self.dropout = nn.Dropout(dropout)
        init_linear(self)

    def forward(
        self, x: Tensor, mask: Tensor, tokens: Looked, token_mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """One layer.

        Args:
            x: (K, L, D).
            mask: (K, L).
            tokens: (B, T, W), see `CrossAttention`.
            token_mask: (B, T) or None.
            causal: a word sees no later one.

        Returns:
            (K, L, D).
        """
        later = later_words(x) if causal else None
        own, _ = self.self_attn(x, x, x, key_padding_mask=~mask, need_weights=False, attn_mask=later)
        x = self.norm1(x + self.dropout(own))
        x = self.norm2(x + self.dropout(self.cross_attn(x, tokens, token_mask)))
        return self.norm3(x + self.dropout(self.linear2(F.gelu(self.linear1(x)))))


class CrossEncoder(nn.Module):
    """Layers that see sentence and picture.

    Args:
        sizes: of the text part; `fusion_layers` of them.
        key_width: of the picture's tokens.
        causal: words see no later ones, as in a decoder.
    """

    def __init__(self, sizes: TextSizes, key_width: int, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.layers = nn.ModuleList(CrossLayer(sizes, key_width) for _ in range(sizes.fusion_layers))

    def forward(self, states: Tensor, mask: Tensor, tokens: Looked, token_mask: Tensor | None = None) -> Tensor:
        """States (K, L, D), mask (K, L), tokens (B, T, W), token_mask (B, T) -> (K, L, D); K is a multiple of B."""
        for layer in self.layers:
            states = layer(states, mask, tokens, token_mask, causal=self.causal)
        return states


class PairCrossEncoder(nn.Module):
    """Twice the layers, which look at a first and a second picture by turns (NLVR2).

    The two layers of a turn share their keys and values.

    Args:
        sizes: of the text part; twice `fusion_layers` of them.
        key_width: of the pictures' tokens.
    """

    def __init__(self, sizes: TextSizes, key_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossLayer(sizes, key_width) for _ in range(2 * sizes.fusion_layers))
        for first, second in zip(self.layers[::2], self.layers[1::2], strict=True):
            first.cross_attn.key, first.cross_attn.value = second.cross_attn.key, second.cross_attn.value

    def forward(self, states: Tensor, mask: Tensor, pictures: Sequence[Tensor]) -> Tensor:
        """States (K, L, D), mask (K, L), two times tokens (K, T, W) -> (K, L, D)."""
        for place, layer in enumerate(self.layers):
            states = layer(states, mask, pictures[place % 2])
        return states


class WordHead(nn.Module):
    """States to words, by the embedding's own table.

    Args:
        sizes: of the text part.
    """

    def __init__(self, sizes: TextSizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.eps)
        self.bias = nn.Parameter(torch.zeros(sizes.vocabulary))
        init_linear(self)

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        """States (..., D) and the table of word pieces (V, D) -> logits (..., V)."""
        return F.linear(self.norm(F.gelu(self.dense(states))), table, self.bias)


def init_linear(module: nn.Module) -> None:
    """Draw all matrices from a narrow normal distribution, biases 0, as BERT does."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=INIT_STD)
            nn.init.zeros_(child.bias)
        elif isinstance(child, nn.MultiheadAttention):
            nn.init.normal_(child.in_proj_weight, std=INIT_STD)
            nn.init.zeros_(child.in_proj_bias)
