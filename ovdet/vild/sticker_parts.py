"""Parts of the compact detector: a trunk that knows crops, and regions that keep what it knows.

The trunk comes from a classifier of 64-pixel crops. Its last stage is repeated on each region, pooled from stride 16 to
the size that this level has on a crop; detail comes in from stride 8 by a branch that starts at zero. So regions are
named as crops were from the first step on. Boxes, masks and proposals live on one fused map of stride 8.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.layers.compact import read_compact
from ovdet.layers.trunk import CompactTrunk
from ovdet.vild.heads import Float32RPNHead, linear
from ovdet.vild.pooling import pool_regions, square_regions
from ovdet.vlm.contrastive.sticker_clip import CROP_MARGIN


class Pyramid(NamedTuple):
    """What the heads read: maps (B, C, h, w), all of the same pictures.

    Attributes:
        shapes: stride 8, for boxes and masks.
        fine: stride 8, for names; the trunk's own, narrowed.
        coarse: stride 16 of the trunk, for names.
        proposals: stride 16, for the RPN.
        finest: stride 4, for masks, where these are fine.
    """

    shapes: Tensor
    fine: Tensor
    coarse: Tensor
    proposals: Tensor
    finest: Tensor | None = None


class Regions(NamedTuple):
    """Regions of pictures, not pooled yet: each head pools what it reads.

    Attributes:
        pyramid: of the pictures.
        rois: (N, 5): index of the picture, then x1, y1, x2, y2 in pixels.
    """

    pyramid: Pyramid
    rois: Tensor


class StickerTrunk(nn.Module):
    """`CompactTrunk` as a detector's backbone.

    Args:
        frozen_stages: the first so many of the five stages do not learn.
        freeze_norm: keep the statistics of all batch normalisation, as what is frozen always does.
        checkpoint: whose trunk `init_weights` takes, see `read_trunk`; None leaves random weights.
        from_stride: of the first level that is handed on, 8 or 4.
    """

    def __init__(
        self,
        frozen_stages: int = 2,
        freeze_norm: bool = True,
        checkpoint: str | None = None,
        from_stride: int = 8,
    ) -> None:
        super().__init__()
        self.first = {4: 1, 8: 2}[from_stride]
        self.trunk = CompactTrunk().to(memory_format=torch.channels_last)
        if not 0 <= frozen_stages <= len(self.trunk.stages):
            raise InputError(f"frozen_stages must lie in 0..{len(self.trunk.stages)}, got {frozen_stages}")
        self.frozen_stages, self.freeze_norm, self.checkpoint = frozen_stages, freeze_norm, checkpoint
        self.trunk.stages[:frozen_stages].requires_grad_(False)

    def init_weights(self) -> None:
        """Take the trunk out of the checkpoint; mmengine calls it before training."""
        if self.checkpoint is not None:
            self.trunk.load_state_dict(read_trunk(self.checkpoint))

    def train(self, mode: bool = True) -> StickerTrunk:
        """Switch to training, but for frozen statistics."""
        super().train(mode)
        keep_statistics(self.trunk if self.freeze_norm else self.trunk.stages[: self.frozen_stages])
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), normalised -> levels of stride 8, 16 and 32, before them stride 4 where that is asked for."""
        x = images.contiguous(memory_format=torch.channels_last)
        levels = []
        for index, stage in enumerate(self.trunk.stages):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.frozen_stages):
                x = stage(x)
            levels.append(x)
        return tuple(levels[self.first :])


class StickerNeck(nn.Module):
    """Levels of strides 8, 16 and 32, fused at stride 8, to the maps that the heads read.

    Args:
        in_channels: of the three levels.
        channels: of the fused map and of the proposals' map.
        narrow: channels of the maps that regions are pooled from; pooling takes its time by channels.
        finest: channels of a level of stride 4 before the three, and of what is made of it; None where there is none.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 128,
        narrow: int = 64,
        finest: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in in_channels])
        self.shapes = nn.Conv2d(channels, narrow, 1)
        self.fine = nn.Conv2d(in_channels[0], narrow, 1)
        self.proposals = nn.Conv2d(channels, channels, 3, 2, 1)
        self.finest = None if finest is None else nn.Conv2d(*finest, 1)

    def forward(self, levels: Sequence[Tensor]) -> Pyramid:
        """Add the levels of strides 8, 16 and 32 up, from the coarsest on."""
        *finest, fine, coarse, _ = levels
        levels = levels[-3:]
        fused = self.laterals[-1](levels[-1])
        for lateral, level in zip(self.laterals[-2::-1], levels[-2::-1], strict=True):
            fused = lateral(level) + F.interpolate(fused, size=level.shape[-2:], mode="nearest")
        fused = F.relu(fused)  # (B, C, H/8, W/8)
        return Pyramid(
            shapes=F.relu(self.shapes(fused)),
            fine=F.relu(self.fine(fine)),
            coarse=coarse,
            proposals=F.relu(self.proposals(fused)),
            finest=None if self.finest is None else F.relu(self.finest(finest[0])),
        )


class StickerRPNHead(Float32RPNHead):
    """The RPN on the proposals' map alone."""

    def forward(self, pyramid: Pyramid) -> tuple[list[Tensor], list[Tensor]]:
        """Scores (B, A, h, w) and deltas (B, 4 A, h, w) of the one level."""
        return super().forward((pyramid.proposals,))


class RegionNamer(nn.Module):
    """Regions to embeddings by the trunk's last stage, on what a crop of the region would look like at stride 16.

    Regions are pooled as squares about their longer side, with the margin of the crops, so that shapes stay true.

    Args:
        trunk: whose last stage is copied.
        embed_dim: D.
        fine_channels: of the map of details.
        freeze_norm: keep the statistics of batch normalisation.
        checkpoint: whose last stage `init_weights` takes; None leaves random weights.
        with_projection: take its `image_head` too, as the projection.
        samples: of stride 16 per bin and axis; with one, a thing of the crops' size is read as it is.
    """

    def __init__(
        self,
        trunk: CompactTrunk,
        embed_dim: int,
        fine_channels: int = 64,
        *,
        freeze_norm: bool = True,
        checkpoint: str | None = None,
        with_projection: bool = False,
        samples: int = 2,
    ) -> None:
        super().__init__()
        self.samples = samples
        _, coarse, top = trunk.out_channels
        self.freeze_norm, self.checkpoint, self.with_projection = freeze_norm, checkpoint, with_projection
        self.detail = nn.Linear(4 * fine_channels, coarse)  # of 2 x 2 bins: a convolution without overlap
        nn.init.zeros_(self.detail.weight)
        nn.init.zeros_(self.detail.bias)
        self.stage = copy.deepcopy(trunk.stages[-1]).requires_grad_(True)
        self.proj = linear(top, embed_dim)
        self.to(memory_format=torch.channels_last)

    def init_weights(self) -> None:
        """Take the last stage out of the checkpoint; mmengine calls it before training."""
        if self.checkpoint is None:
            return
        last = f"stages.{len(CompactTrunk().stages) - 1}."
        trunk = read_trunk(self.checkpoint)
        self.stage.load_state_dict({k.removeprefix(last): v for k, v in trunk.items() if k.startswith(last)})
        if self.with_projection:
            self.proj.load_state_dict(read_projection(self.checkpoint, self.proj))

    def train(self, mode: bool = True) -> RegionNamer:
        """Switch to training, but for frozen statistics."""
        super().train(mode)
        if self.freeze_norm:
            keep_statistics(self)
        return self

    def forward(self, regions: Regions) -> Tensor:
        """N regions -> embeddings (N, D) of any length, float32."""
        pyramid, rois = regions
        if not len(rois):  # the parameters are touched all the same: DDP waits for every gradient
            touched = sum(parameter.sum() for parameter in self.parameters())
            return rois.new_zeros(0, self.proj.out_features) + 0 * touched
        squares = square_regions(rois, CROP_MARGIN)
        bins = F.pixel_unshuffle(pool_regions(pyramid.fine, squares, 8, 8), 2)  # (N, 4 * 64, 4, 4)
        detail = self.detail(bins.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, 256, 4, 4)
        x = F.relu(pool_regions(pyramid.coarse, squares, 16, 4, self.samples) + detail)
        vectors = self.stage(x).float().mean(dim=(2, 3))  # (N, 256)
        return self.proj(vectors).float()


class StickerBoxHead(nn.Module):
    """The text branch: embedding and box of each region, and the background vector or a closed set's classifier.

    Args:
        namer: regions to embeddings.
        channels: of the map that boxes are read off.
        hidden: width of the box branch.
        with_background: learn a background vector.
        closed_classes: K for a classifier of K learned rows and background, which no text embedding enters; 0: none.
    """

    def __init__(
        self,
        namer: RegionNamer,
        channels: int = 64,
        hidden: int = 256,
        *,
        with_background: bool = True,
        closed_classes: int = 0,
    ) -> None:
        super().__init__()
        width = namer.proj.out_features
        self.namer = namer
        self.fc = linear(channels * 49, hidden)
        self.fc_reg = nn.Linear(hidden, 4)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        nn.init.zeros_(self.fc_reg.bias)
        self.bg_embedding = nn.Parameter(torch.randn(width) * 0.01) if with_background else None
        self.classifier = nn.Linear(width, closed_classes + 1) if closed_classes else None

    @property
    def proj(self) -> nn.Linear:
        """The last layer of the embedding."""
        return self.namer.proj

    def forward(self, regions: Regions) -> tuple[Tensor, Tensor]:
        """N regions -> embeddings (N, D) of any length, box deltas (N, 4); both float32."""
        pooled = pool_regions(regions.pyramid.shapes, regions.rois, 8, 7)  # (N, C, 7, 7)
        hidden = F.relu(self.fc(pooled.permute(0, 2, 3, 1).flatten(1)))
        return self.namer(regions), self.fc_reg(hidden).float()


class RegionSource(nn.Module):
    """Stands where mmdet has an extractor, and leaves pooling to the heads."""

    def forward(self, pyramid: Pyramid, rois: Tensor) -> Regions:
        """Keep both."""
        return Regions(pyramid, rois)


class MaskSource(nn.Module):
    """Pools the map of shapes: (N, C, 14, 14)."""

    def forward(self, pyramid: Pyramid, rois: Tensor) -> Tensor:
        """(N, 5) -> (N, C, 14, 14)."""
        return pool_regions(pyramid.shapes, rois, 8, 14)


def keep_statistics(module: nn.Module) -> None:
    """Put batch normalisation into evaluation mode; its scale and shift may learn on."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()


def read_trunk(path: str) -> dict[str, Tensor]:
    """Weights of the one `CompactTrunk` in a checkpoint: what stands behind "trunk." in its names.

    Raises:
        InputError: the file cannot be read, or does not hold exactly one whole trunk.
    """
    prefix, state = _state_of_tower(path)
    marker = f"{prefix}trunk."
    found = {name.removeprefix(marker): value for name, value in state.items() if name.startswith(marker)}
    _check_fit(path, "a trunk", CompactTrunk().state_dict(), found)
    return found


def read_projection(path: str, like: nn.Linear) -> dict[str, Tensor]:
    """Weights of the projection of a checkpoint's picture tower, `image_head`.

    Raises:
        InputError: there is none, or of another size.
    """
    prefix, state = _state_of_tower(path)
    found = {
        name: state[f"{prefix}image_head.{name}"] for name in like.state_dict() if f"{prefix}image_head.{name}" in state
    }
    _check_fit(path, "a projection", like.state_dict(), found)
    return found


def read_state(path: str) -> dict[str, Tensor]:
    """All weights of a checkpoint, whole or compact; nothing in the file is run.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    if path.endswith(".safetensors"):
        return read_compact(Path(path))[0]
    content = load_checkpoint_file(path)
    return dict(content.get("state_dict", content))


def _state_of_tower(path: str) -> tuple[str, dict[str, Tensor]]:
    """What stands before "trunk." in the checkpoint's names, and all weights."""
    state = read_state(path)
    prefixes = {name.partition("trunk.")[0] for name in state if name.startswith("trunk.") or ".trunk." in name}
    if len(prefixes) != 1:
        raise InputError(
            f"trunk_checkpoint '{path}' must hold one trunk, under the name \"trunk\"; it holds {len(prefixes)}"
        )
    return prefixes.pop(), state


def _check_fit(path: str, what: str, wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in wanted:
        if name not in found:
            raise InputError(f"trunk_checkpoint '{path}' lacks {name} of {what}")
        if found[name].shape != wanted[name].shape:
            raise InputError(
                f"trunk_checkpoint '{path}': {name} of {what} is {tuple(found[name].shape)}, "
                f"not {tuple(wanted[name].shape)}"
            )
    for name in found:
        if name not in wanted:
            raise InputError(f"trunk_checkpoint '{path}' has {name}, which is no part of {what}")
