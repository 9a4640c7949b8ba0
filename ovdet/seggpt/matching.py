"""What in a picture looks like what the example shows: a learned measure of likeness, in front of the blocks.

Published is nothing of the kind: 24 blocks of attention find out by themselves which tokens belong together. A few
narrow ones do not, though the features of a trunk tell it. So the mean is taken of what an example shows, and each
token of the picture in question is told what it resembles (masked average pooling, as in few-shot segmentation since
arXiv:1810.09091).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovdet.layers.trunk import WIDTHS
from ovdet.seggpt.stem import Levels

ALIKE = 0.2
"""Up to about here, root mean square of the channels in 0..1, two paints count as one."""

HIDDEN = 64
"""Channels between the two layers that make a token of what was found."""


@dataclass(frozen=True)
class Looks:
    """How the tokens of P examples look, t each.

    Attributes:
        paints: (P, t, 3) mean colours of the paintings, RGB in 0..1.
        prototypes: (P, t, C) unit length, the mean look of all that is painted alike.
        weights: (P, t) one over the number of tokens that are painted alike; 0 where the painting is hidden.
    """

    paints: Tensor
    prototypes: Tensor
    weights: Tensor

    def repeat(self, times: int) -> Looks:
        """All of them again and again, as one list."""
        return Looks(*(value.repeat(times, *(1,) * (value.ndim - 1)) for value in vars(self).values()))


class Matcher(nn.Module):
    """Compares tokens with the mean look of each paint in an example.

    Args:
        channels: of a look.
        width: channels of the network's tokens.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(4 * WIDTHS[2] + WIDTHS[3] + WIDTHS[4], channels)
        self.sharpness = nn.Parameter(torch.tensor(10.0))
        self.answer = nn.Sequential(nn.Linear(4, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, width))

    def initialise(self) -> None:
        """Change nothing at the start: what is added to the tokens begins at zero."""
        nn.init.normal_(self.project.weight, std=self.project.in_features**-0.5)
        nn.init.zeros_(self.answer[2].weight)
        nn.init.zeros_(self.answer[2].bias)

    def looks(self, levels: Levels) -> Tensor:
        """Unit vectors (B, t, C) of the tokens of pictures, row by row."""
        size_hw = levels.middle.shape[2:]
        coarse = functional.interpolate(levels.coarse.float(), size_hw, mode="bilinear")
        seen = (functional.pixel_unshuffle(levels.fine, 2), levels.middle, coarse)
        normed = [functional.layer_norm(level.float().permute(0, 2, 3, 1), (level.shape[1],)) for level in seen]
        return functional.normalize(self.project(torch.cat(normed, dim=3)).float().flatten(1, 2), dim=2)

    @staticmethod
    def learn(looks: Tensor, paints: Tensor, hidden: Tensor | None = None) -> Looks:
        """Take the mean look of each paint.

        Args:
            looks: (P, t, C) of `looks`.
            paints: (P, t, 3) RGB in 0..1.
            hidden: (P, t) bool, tokens whose paint must not be seen; None: none.
        """
        apart = torch.cdist(paints.float(), paints.float()).square() / 3  # (P, t, t), mean of the channels
        alike = (-apart / (2 * ALIKE**2)).exp()
        if hidden is not None:
            alike = alike * ~hidden[:, None]
        count = alike.sum(dim=2)  # (P, t)
        prototypes = functional.normalize(alike @ looks, dim=2)
        weights = 1 / count.clamp(min=1)
        return Looks(paints, prototypes, weights if hidden is None else weights * ~hidden)

    def forward(self, looks: Tensor, examples: Looks, owner: Tensor | None = None) -> Tensor:
        """Tell tokens what they resemble: the paint, and how much.

        Args:
            looks: (Q, t, C) of the pictures in question.
            examples: P of them.
            owner: (P,) which of the Q each example belongs to: what they tell is averaged. None: P = Q.

        Returns:
            (Q, t, D), to be added to their tokens.
        """
        own = looks if owner is None else looks[owner]
        likeness = own @ examples.prototypes.transpose(1, 2)  # (P, t, t), cosines
        share = (self.sharpness * (likeness - 1)).exp() * examples.weights[:, None]
        share = share / share.sum(dim=2, keepdim=True).clamp(min=1e-20)
        told = torch.cat([share @ examples.paints.float(), (share * likeness).sum(dim=2, keepdim=True)], dim=2)
        if owner is not None:
            summed = told.new_zeros(len(looks), *told.shape[1:]).index_add_(0, owner, told)
            told = summed / torch.bincount(owner, minlength=len(looks))[:, None, None]
        return self.answer(told)
