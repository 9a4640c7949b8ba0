"""Where a matching model looks: heat maps of sentences without any box in training (Grad-CAM on cross-attention)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.xvlm.model import XVLMModel
from ovdet.xvlm.text import CrossLayer


@torch.enable_grad()
def relevance_maps(model: XVLMModel, ids: Tensor, mask: Tensor, tokens: Tensor, layer: int = 3) -> Tensor:
    """Weigh the attention of one cross-modal layer by how much it helps the match.

    Attention probabilities times their positive gradient of the match logit, mean over heads and over the sentence's
    tokens, padded ones counted as 0, as in the official code. Each sentence's map is its own: dropout is off.

    Args:
        model: with a matching head; in eval mode.
        ids: (K, L).
        mask: (K, L) bool.
        tokens: (K, 1 + n * n, W) of the sentences' pictures, or (1, 1 + n * n, W) of one picture for all.
        layer: of the cross-modal layers, from 0; the official block 9 is layer 3, after six text layers.

    Returns:
        (K, n, n), not negative, without a scale of their own.

    Raises:
        InputError: no such layer, the model trains, or its tokens are no single grid.
    """
    layers = model.fusion.layers
    if not 0 <= layer < len(layers):
        raise InputError(f"layer must lie in 0..{len(layers) - 1}, got {layer}")
    if model.training:
        raise InputError("heat maps need a model in eval mode; call model.eval()")
    if len(model.image_encoder.strides) != 1:
        raise InputError("heat maps need an image encoder of one grid; this one has several levels")
    side = model.image_encoder.image_size // model.image_encoder.strides[0]
    tokens = tokens.detach().expand(len(ids), -1, -1)
    states = model.encode_text(ids, mask).detach()
    for each in layers[:layer]:
        states = each(states, mask, tokens).detach()
    states, attention = _open_layer(layers[layer], states, mask, tokens)
    for each in layers[layer + 1 :]:
        states = each(states, mask, tokens)
    logit = model.match_logits(states[:, 0])[:, 1].sum()
    (slope,) = torch.autograd.grad(logit, attention)
    weighed = attention.detach() * slope.clamp_min(0) * mask[:, None, :, None]  # (K, heads, L, 1 + n * n)
    return weighed[..., 1:].mean(dim=(1, 2)).unflatten(1, (side, side))


def _open_layer(layer: CrossLayer, x: Tensor, mask: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """A layer with its attention probabilities (K, heads, L, T) laid open for gradients."""
    cross = layer.cross_attn
    own, _ = layer.self_attn(x, x, x, key_padding_mask=~mask, need_weights=False)
    x = layer.norm1(x + own)
    query, key, value = cross.split(cross.query(x)), cross.split(cross.key(tokens)), cross.split(cross.value(tokens))
    logits = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
    attention = logits.softmax(-1)
    if not attention.requires_grad:
        attention.requires_grad_()
    x = layer.norm2(x + cross.out((attention @ value).transpose(1, 2).flatten(2)))
    return layer.norm3(x + layer.linear2(F.gelu(layer.linear1(x)))), attention


def spread_over_picture(heat: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Heat maps (K, n, n) -> (K, H, W) of the original picture, bicubic."""
    return F.interpolate(heat[:, None], size=size_hw, mode="bicubic", align_corners=False)[:, 0]
