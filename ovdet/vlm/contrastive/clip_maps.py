"""Dense maps out of open_clip's image towers, pure functions of a tower and normalised pixels of whole strides.

(B, 3, H, W) -> (B, D, h, w) in the joint space, not yet of unit length. All but `vit_map` give at a location what
the tower's own pooling would give for a picture that looks like it everywhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, linear


def resnet_map(visual: Any, pixels: Tensor) -> Tensor:
    """CLIP's ResNet: the attention pool's value path at each location; equal to the pool where the map is constant."""
    features = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = layer(features)  # ... (B, C, h, w)
    vectors = visual.attnpool.c_proj(visual.attnpool.v_proj(features.permute(0, 2, 3, 1)))  # (B, h, w, D)
    return torch.permute(vectors, (0, 3, 1, 2))


def vit_map(visual: Any, pixels: Tensor) -> Tensor:
    """CLIP's ViT: the value path of the last block, without residual and MLP (MaskCLIP, arXiv:2112.01071)."""
    patches = visual.conv1(pixels)  # (B, C, h, w)
    height, width = patches.shape[-2:]
    first = visual.class_embedding.to(patches).expand(len(patches), 1, -1)
    tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)  # (B, 1 + h * w, C)
    tokens = visual.ln_pre(visual.patch_dropout(tokens + _positions(visual, (height, width)).to(tokens)))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    channels = tokens.shape[-1]
    values = linear(last.ln_1(tokens[:, 1:]), last.attn.in_proj_weight[-channels:], last.attn.in_proj_bias[-channels:])
    vectors = visual.ln_post(last.ls_1(last.attn.out_proj(values))) @ visual.proj  # (B, h * w, D)
    return torch.unflatten(vectors.transpose(1, 2), 2, (height, width))


def _positions(visual: Any, size_hw: tuple[int, int]) -> Tensor:
    """The ViT's position embeddings for a map of h x w patches, (1 + h * w, C): as trained, or interpolated."""
    positions: Tensor = visual.positional_embedding
    if tuple(visual.grid_size) == size_hw:
        return positions
    grid = positions[1:].T.unflatten(1, visual.grid_size).unsqueeze(0).float()  # (1, C, h0, w0)
    grid = interpolate(grid, size_hw, mode="bicubic", antialias=True)
    return torch.cat([positions[:1], grid[0].flatten(1).T.to(positions)])


def siglip_map(visual: Any, pixels: Tensor) -> Tensor:
    """SigLIP's ViT: attention pool and projection of each location alone, which is the pool's value path."""
    trunk = visual.trunk
    tokens = trunk.forward_features(pixels)[:, trunk.num_prefix_tokens :]  # (B, h * w, C)
    alone = tokens.flatten(0, 1).unsqueeze(1)  # (B * h * w, 1, C)
    vectors = visual.head(trunk.head(trunk.fc_norm(trunk.attn_pool(alone))))  # (B * h * w, D)
    stride_h, stride_w = trunk.patch_embed.patch_size
    size = (len(pixels), pixels.shape[-2] // stride_h, pixels.shape[-1] // stride_w)
    return torch.unflatten(vectors, 0, size).permute(0, 3, 1, 2)


def mean_pool_map(visual: Any, pixels: Tensor) -> Tensor:
    """Towers that end in a mean, ConvNeXt and FastViT: head and projection of each location alone."""
    features = visual.trunk.forward_features(pixels).permute(0, 2, 3, 1)  # (B, h, w, C)
    alone = features.flatten(0, 2)[..., None, None]  # (B * h * w, C, 1, 1)
    vectors = visual.head(visual.trunk.forward_head(alone))  # (B * h * w, D)
    return torch.unflatten(vectors, 0, features.shape[:3]).permute(0, 3, 1, 2)
