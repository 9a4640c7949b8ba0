"""A tiny SegGPT with weights by formula, and the network written down a second time, plainly and slowly."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ovdet.seggpt.build import seggpt
from ovdet.seggpt.config import SegGPTConfig
from ovdet.seggpt.layouts import to_published

TINY = dict(
    canvas_hw=(64, 32),
    patch=8,
    width=24,
    depth=5,
    heads=3,
    mlp_width=40,
    merge_block=1,
    taps=(1, 3, 4),
    decoder_channels=6,
    position_grid=3,
)


@pytest.fixture(scope="session")
def reference_script() -> SimpleNamespace:
    """What make_reference.py defines: `fill` (weights by formula), `inputs`, `compute`."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "make_reference.py")))


@pytest.fixture(scope="session")
def tiny_model(reference_script):
    """Not to be changed by a test."""
    model = seggpt(**TINY)
    reference_script.fill(model)
    return model.eval()


@pytest.fixture(scope="session")
def plain():
    """The network as the released code computes it, from the fact sheet: whole canvases, dense attention.

    Called as plain(model, images, paintings, masked, kinds, groups): groups are lists of rows whose lower halves
    are averaged after each attention (one list a picture in question); rows of no group are left alone.
    """

    @torch.no_grad()
    def run(model, images, paintings, masked, kinds, groups=()):
        return _plain(
            to_published(model.state_dict(), "official"), model.config, images, paintings, masked, kinds, groups
        )

    return run


def _plain(
    w: dict[str, Tensor], config: SegGPTConfig, images, paintings, masked, kinds, groups: list[list[int]]
) -> Tensor:
    rows, columns = config.grid_hw
    count, patch = len(images), config.patch

    def embed(pictures):
        return functional.conv2d(pictures, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], patch).permute(
            0, 2, 3, 1
        )

    m = masked.expand(count, -1, -1)[..., None].float()
    x, y = embed(images), embed(paintings)
    y = y * (1 - m) + w["mask_token"] * m
    side = config.position_grid
    grid = w["pos_embed"][:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    position = functional.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    types = torch.cat([w[("type_token_cls", "type_token_ins")[int(kind)]] for kind in kinds])
    x = x + w["segment_token_x"] + position + types
    y = y + w["segment_token_y"] + position + types
    z, streams = torch.cat([x, y]), 2
    taps = []
    for index in range(config.depth):
        z = _plain_block(w, f"blocks.{index}.", config, z, streams, groups)
        if index == config.merge_block:
            z, streams = (z[:count] + z[count:]) * 0.5, 1
        if index in config.taps:
            taps.append(_norm(w, "norm", z))
    z = functional.linear(torch.cat(taps, -1), w["decoder_embed.weight"], w["decoder_embed.bias"])
    channels = config.decoder_channels
    z = z.view(count, rows, columns, patch, patch, channels).permute(0, 5, 1, 3, 2, 4)
    z = z.reshape(count, channels, rows * patch, columns * patch)
    z = functional.conv2d(z, w["decoder_pred.0.weight"], w["decoder_pred.0.bias"], padding=1)
    mean = z.mean(1, keepdim=True)
    z = (z - mean) / ((z - mean).square().mean(1, keepdim=True) + 1e-6).sqrt()
    z = z * w["decoder_pred.1.weight"][:, None, None] + w["decoder_pred.1.bias"][:, None, None]
    return functional.conv2d(functional.gelu(z), w["decoder_pred.3.weight"], w["decoder_pred.3.bias"])


def _plain_block(w, name, config, z, streams, groups):
    z = z + _plain_average(_plain_attention(w, name + "attn.", config, _norm(w, name + "norm1", z)), streams, groups)
    hidden = functional.linear(_norm(w, name + "norm2", z), w[name + "mlp.fc1.weight"], w[name + "mlp.fc1.bias"])
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return z + functional.linear(hidden, w[name + "mlp.fc2.weight"], w[name + "mlp.fc2.bias"])


def _plain_average(z, streams, groups):
    """Average the lower halves of the rows of a group, in each stream by itself."""
    z, half, count = z.clone(), z.shape[1] // 2, len(z) // streams
    for stream in range(streams):
        for group in groups:
            rows = [stream * count + row for row in group]
            z[rows, half:] = z[rows, half:].mean(0, keepdim=True)
    return z


def _plain_attention(w, name, config, z):
    count, rows, columns, width = z.shape
    heads, tokens = config.heads, rows * columns
    qkv = functional.linear(z, w[name + "qkv.weight"], w[name + "qkv.bias"])
    q, k, v = qkv.reshape(count, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    for i in range(tokens):  # one query at a time, as the formula has it
        for j in range(tokens):
            down, right = i // columns - j // columns, i % columns - j % columns
            logits[:, :, i, j] += q[:, :, i] @ w[name + "rel_pos_h"][down + rows - 1]
            logits[:, :, i, j] += q[:, :, i] @ w[name + "rel_pos_w"][right + columns - 1]
    out = (logits.softmax(-1) @ v).transpose(1, 2).reshape(count, rows, columns, width)
    return functional.linear(out, w[name + "proj.weight"], w[name + "proj.bias"])


def _norm(w, name, z):
    return functional.layer_norm(z, z.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-6)
