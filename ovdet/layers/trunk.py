"""A small convolutional trunk for pictures of 64 to 320 pixels, made to be trained on a CPU."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

WIDTHS = (32, 64, 128, 256, 256)
"""Channels at strides 2, 4, 8, 16 and 32."""


class ConvNorm(nn.Sequential):
    """3x3 convolution, batch normalisation and, unless told otherwise, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, relu: bool = True) -> None:
        layers = [
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return nn.functional.relu(x + self.body(x))


class CompactTrunk(nn.Module):
    """Pictures to levels at strides 8, 16 and 32; plain 3x3 convolutions, which CPUs compute best.

    Stage 0 is one strided convolution; each other stage is a strided convolution and a residual block. Sides that are
    no multiple of 32 are rounded up at each stride, as by every padded convolution.

    Args:
        widths: channels of the five stages.
    """

    def __init__(self, widths: tuple[int, int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stages = nn.ModuleList([ConvNorm(3, widths[0], 2)])
        for before, width in itertools.pairwise(widths):
            self.stages.append(nn.Sequential(ConvNorm(before, width, 2), Residual(width)))

    @property
    def out_channels(self) -> tuple[int, int, int]:
        """Of the levels at strides 8, 16 and 32."""
        return self.widths[2:]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W), normalised -> (B, C, H/8, W/8), (B, C, H/16, W/16), (B, C, H/32, W/32)."""
        fine, middle, coarse = self.stages_from(images, 2)
        return fine, middle, coarse

    def stages_from(self, images: Tensor, first: int) -> list[Tensor]:
        """The outputs of all stages from the given one on, images as in `forward`; stage s has stride 2 ** (s + 1)."""
        levels = []
        x = images
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels[first:]
