"""From tokens to colours: a linear layer to pixels and two convolutions, band by band."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BAND_BYTES = 24 << 20
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

    def forward(self, tokens: Tensor, above: Tensor | None = None) -> Tensor:
        """Paint.

        Args:
            tokens: (N, h, w, F).
            above: (N, w, F), the row of tokens above the first, or None at the upper edge of the canvas. Only the
                first line of pixels depends on it.

        Returns:
            (N, 3, h p, w p) for patches of side p.
        """
        rows = tokens.shape[1]
        step = rows
        if not torch.is_grad_enabled():
            row_bytes = tokens.shape[0] * tokens.shape[2] * self.expand.out_features * 4
            step = max(1, min(rows, BAND_BYTES // row_bytes))
        bands = []
        for start in range(0, rows, step):
            before = tokens[:, start - 1] if start else above
            after = tokens[:, start + step] if start + step < rows else None
            bands.append(self._band(tokens[:, start : start + step], before, after))
        return bands[0] if len(bands) == 1 else torch.cat(bands, dim=2)

    def _band(self, tokens: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """Some rows of tokens (N, b, w, F) between their neighbours (N, w, F) -> colours (N, 3, b p, w p)."""
        count, rows, columns, _ = tokens.shape
        patches = self.expand(tokens).view(count, rows, columns, self.patch, self.patch, self.channels)
        pixels = patches.transpose(2, 3).reshape(count, rows * self.patch, columns * self.patch, self.channels)
        lines = [self._line(before, self.patch - 1, pixels), pixels, self._line(after, 0, pixels)]
        padded = torch.cat(lines, dim=1).permute(0, 3, 1, 2)  # (N, C, b p + 2, w p), channels last in memory
        mixed = functional.conv2d(padded, self.conv.weight, self.conv.bias, padding=(0, 1))  # (N, C, b p, w p)
        active = functional.gelu(self.norm(mixed.permute(0, 2, 3, 1)))  # (N, b p, w p, C)
        return self.head(active.permute(0, 3, 1, 2))

    def _line(self, tokens: Tensor | None, row: int, pixels: Tensor) -> Tensor:
        """One line of pixels out of a row of tokens (N, w, F) -> (N, 1, w p, C); beyond the canvas zeros."""
        if tokens is None:
            return torch.zeros_like(pixels[:, :1])
        of_row = slice(row * self.patch * self.channels, (row + 1) * self.patch * self.channels)
        line = functional.linear(tokens, self.expand.weight[of_row], self.expand.bias[of_row])  # (N, w, p C)
        return line.view(len(tokens), 1, -1, self.channels)
