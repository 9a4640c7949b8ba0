"""Pictures to tokens by a small convolutional network, for networks that are to learn within an hour on a CPU.

Published is one linear layer for pictures and paintings alike, under 24 blocks that start from a masked auto-encoder.
Without such a start, patches that look alike must first be told from those that do not; a trunk that has learned that
already lets attention match from the first step. All else of the network stays as published.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovdet.layers.trunk import CompactTrunk

STRIDE = 16
"""Of the tokens, in pixels."""

TRUNK_MEAN, TRUNK_STD = 0.5, 0.25
"""Of the pictures that compact trunks learn from."""


class Levels(NamedTuple):
    """What a trunk sees of pictures, (B, C, h, w) each.

    Attributes:
        finest: at stride 4.
        fine: at stride 8.
        middle: at stride 16.
        coarse: at stride 32.
    """

    finest: Tensor
    fine: Tensor
    middle: Tensor
    coarse: Tensor


class TrunkStem(nn.Module):
    """The levels of a `CompactTrunk`, normalised, projected and added at stride 16.

    Of the level of stride 8, the four places of a patch are joined, so that a token knows where in it edges are. The
    trunk is frozen, its statistics always, unless its parameters are told to learn.

    Args:
        width: channels of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = CompactTrunk().to(memory_format=torch.channels_last).requires_grad_(False)
        fine, middle, coarse = self.trunk.out_channels
        channels = (4 * fine, middle, coarse)
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in channels)
        self.projections = nn.ModuleList(nn.Linear(count, width) for count in channels)

    def initialise(self) -> None:
        """Let tokens start with numbers of about 1."""
        for linear in self.projections:
            nn.init.normal_(linear.weight, std=(len(self.projections) * linear.in_features) ** -0.5)

    def train(self, mode: bool = True) -> TrunkStem:
        """Switch to training, but for the trunk's statistics."""
        super().train(mode)
        self.trunk.eval()
        return self

    def levels(self, pictures: Tensor) -> Levels:
        """What the trunk sees of pictures (B, 3, H, W), RGB in 0..1, sides multiples of 16."""
        pixels = ((pictures - TRUNK_MEAN) / TRUNK_STD).contiguous(memory_format=torch.channels_last)
        return Levels(*self.trunk.stages_from(pixels, 1))

    def project(self, levels: Levels) -> Tensor:
        """Tokens (B, H / 16, W / 16, D) of `levels`."""
        wanted = (functional.pixel_unshuffle(levels.fine, 2), levels.middle, levels.coarse)
        first, second, third = (
            project(norm(level.permute(0, 2, 3, 1)))
            for level, norm, project in zip(wanted, self.norms, self.projections, strict=True)
        )
        third = functional.interpolate(third.permute(0, 3, 1, 2).float(), first.shape[1:3], mode="bilinear")
        return first + second + third.permute(0, 2, 3, 1)
