"""From tokens to colours: as published, band by band; or by convolutions that see the picture's finer levels too."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovdet.layers.trunk import WIDTHS, ConvNorm, Residual

BAND_BYTES = 12 << 20
"""Of the pixel features that may exist at a time in one copy, without gradients."""


class PixelDecoder(nn.Module):
    """Each token becomes a patch of pixel features; a 3x3 and a 1x1 convolution make colours of them.

    Args:
        in_channels: of a token, all taps together.
        channels: of a pixel.
        patch: side of a patch in pixels.
    """

    def __init__(self, in_channels: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.channels = channels
        self.expand = nn.Linear(in_channels, patch * patch * channels)  # row in the patch, column, channel
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.LayerNorm(channels, eps=1e-6)  # over the channels of each pixel
        self.head = nn.Conv2d(channels, 3, 1)

    def forward(self, taps: Sequence[Tensor], context: int = 0) -> Tensor:
        """Paint.

        Args:
            taps: (N, h, w, D) each; their channels are joined.
            context: rows of tokens at the top that are not painted. The first line of pixels depends on the row of
                tokens above it, and no other line on anything above.

        Returns:
            (N, 3, (h - context) p, w p) for patches of side p.
        """
        count, rows, columns, _ = taps[0].shape
        step = rows
        if not torch.is_grad_enabled():
            step = max(1, BAND_BYTES // (count * columns * self.expand.out_features * 4))
        bands = []
        for start in range(context, rows, step):
            stop = min(start + step, rows)
            before, after = max(start - 1, 0), min(stop + 1, rows)
            tokens = torch.cat([tap[:, before:after] for tap in taps], dim=3)  # (N, b and neighbours, w, F)
            above = tokens[:, 0] if before < start else None
            below = tokens[:, -1] if after > stop else None
            bands.append(self._band(tokens[:, start - before : stop - before], above, below))
        return bands[0] if len(bands) == 1 else torch.cat(bands, dim=2)

    def _band(self, tokens: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """Some rows of tokens (N, b, w, F) between their neighbours (N, w, F) -> colours (N, 3, b p, w p)."""
        padded = self._pixels(tokens, before, after).permute(0, 3, 1, 2)  # (N, C, b p + 2, w p), channels last
        mixed = functional.conv2d(padded, self.conv.weight, self.conv.bias, padding=(0, 1))  # (N, C, b p, w p)
        mixed = mixed.to(self.norm.weight.dtype)  # of few channels, norms take three times as long in bfloat16
        active = functional.gelu(self.norm(mixed.permute(0, 2, 3, 1)))  # (N, b p, w p, C)
        return functional.linear(active, self.head.weight.flatten(1), self.head.bias).permute(0, 3, 1, 2)

    def _pixels(self, tokens: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """Features of a band's pixels with a line of its neighbours on either side, (N, b p + 2, w p, C)."""
        count, rows, columns, _ = tokens.shape
        patches = self.expand(tokens).view(count, rows, columns, self.patch, self.patch, self.channels)
        pixels = patches.transpose(2, 3).reshape(count, rows * self.patch, columns * self.patch, self.channels)
        return torch.cat([self._line(before, self.patch - 1, pixels), pixels, self._line(after, 0, pixels)], dim=1)

    def _line(self, tokens: Tensor | None, row: int, pixels: Tensor) -> Tensor:
        """One line of pixels out of a row of tokens (N, w, F) -> (N, 1, w p, C); beyond the canvas zeros."""
        if tokens is None:
            return torch.zeros_like(pixels[:, :1])
        of_row = slice(row * self.patch * self.channels, (row + 1) * self.patch * self.channels)
        line = functional.linear(tokens, self.expand.weight[of_row], self.expand.bias[of_row])  # (N, w, p C)
        return line.view(len(tokens), 1, -1, self.channels)


class SkipDecoder(nn.Module):
    """Tokens to colours by way of the finer levels of a trunk, which know where things end.

    Tokens of 16 pixels tell what belongs to the thing; a network that has seen few paintings draws outlines no finer
    than these. Here each step doubles the resolution and joins what the trunk saw there (U-Net, arXiv:1505.04597),
    down to two pixels, of which colours are stretched linearly.

    Args:
        in_channels: of a token, all taps together.
        widths: channels at strides 16, 8, 4 and 2.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (96, 64, 32, 16)) -> None:
        super().__init__()
        self.expand = nn.Linear(in_channels, widths[0])
        levels = (WIDTHS[2], WIDTHS[1])  # of the trunk, at strides 8 and 4
        self.skips = nn.ModuleList(nn.Conv2d(seen, own, 1) for seen, own in zip(levels, widths[1:3], strict=True))
        self.pixels = ConvNorm(3, widths[3], 2)
        self.steps = nn.ModuleList(
            nn.Sequential(ConvNorm(before + own, own), Residual(own)) for before, own in itertools.pairwise(widths)
        )
        self.head = nn.Conv2d(widths[3], 3, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, taps: Sequence[Tensor], pictures: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Paint.

        Args:
            taps: (N, h, w, D) each; their channels are joined.
            pictures: (N, 3, 16 h, 16 w) normalised, what is painted.
            levels: what the trunk sees of them, at stride 8 and at stride 4.

        Returns:
            (N, 3, 16 h, 16 w).
        """
        x = self.expand(torch.cat(list(taps), dim=3)).permute(0, 3, 1, 2)  # (N, C, h, w), channels last
        seen = [skip(level) for skip, level in zip(self.skips, levels, strict=True)]
        seen.append(self.pixels(pictures.contiguous(memory_format=torch.channels_last)))
        for step, own in zip(self.steps, seen, strict=True):
            x = functional.interpolate(x, own.shape[2:], mode="bilinear")
            x = step(torch.cat([x, own.to(x.dtype)], dim=1))  # (N, C, H / s, W / s)
        return functional.interpolate(self.head(x), pictures.shape[2:], mode="bilinear")
