"""SegGPT: an example and its painting above, a picture below, and the painting that belongs to it comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ovdet.errors import InputError
from ovdet.seggpt.blocks import CanvasBlock
from ovdet.seggpt.config import SegGPTConfig
from ovdet.seggpt.decoder import PixelDecoder, SkipDecoder
from ovdet.seggpt.matching import Looks, Matcher
from ovdet.seggpt.stem import Levels, TrunkStem

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in 0..1, of pictures and paintings alike."""

IMAGENET_STD = (0.229, 0.224, 0.225)


class Kind(IntEnum):
    """What the masks of an example mean."""

    SEMANTIC = 0
    """All things of the class."""
    INSTANCE = 1
    """The very thing."""


@dataclass(frozen=True)
class ExampleTokens:
    """Examples as far as they can be computed without a picture in question; P of them, t tokens each.

    Attributes:
        pictures: (P, t, D), embedded.
        paintings: (P, t, D), their stream up to the block that merges the streams.
        blanks: (1, t, D), the stream of the painting yet to be made, up to the same block.
        kind: of the masks.
        looks: what the matcher learned of them, if the network has one.
    """

    pictures: Tensor
    paintings: Tensor
    blanks: Tensor
    kind: Kind
    looks: Looks | None = None

    def __len__(self) -> int:
        return len(self.pictures)


class SegGPTModel(nn.Module):
    """The network (arXiv:2304.03284, section 3; shapes of the released weights).

    Args:
        config: sizes.
    """

    recipe: dict[str, Any]
    """How `ovdet.seggpt.build` made it, for a checkpoint that explains itself."""

    def __init__(self, config: SegGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        """Set it to compute the blocks twice in training instead of keeping their results."""
        width = config.width
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.patch_embed = nn.Conv2d(3, width, config.patch, config.patch)
        self.stem = TrunkStem(width) if config.stem == "trunk" else None
        self.matcher = Matcher(config.looks, width) if config.looks else None
        self.mask_token = nn.Parameter(torch.empty(width))
        self.picture_token = nn.Parameter(torch.empty(width))
        self.painting_token = nn.Parameter(torch.empty(width))
        self.kind_tokens = nn.Parameter(torch.empty(len(Kind), width))
        # The first position is of a class token that is never made: the published weights carry it all the same.
        self.positions = nn.Parameter(torch.empty(1 + config.position_grid**2, width))
        drops = [config.drop_path * index / max(config.depth - 1, 1) for index in range(config.depth)]
        self.blocks = nn.ModuleList(
            CanvasBlock(width, config.heads, config.mlp_width, config.grid_hw, drop) for drop in drops
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        tapped = width * len(config.taps)
        skips = config.decoder == "skips"
        self.decoder = SkipDecoder(tapped) if skips else PixelDecoder(tapped, config.decoder_channels, config.patch)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if self.stem is not None:
            self.stem.initialise()
        if self.matcher is not None:
            self.matcher.initialise()
        nn.init.trunc_normal_(self.positions, std=0.02)
        for token in (self.mask_token, self.picture_token, self.painting_token, self.kind_tokens):
            nn.init.normal_(token, std=0.02)

    def normalise(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) RGB, uint8 or floats in 0..255 -> as the network wants pictures and paintings."""
        return (pictures.to(self.std.dtype) / 255 - self.mean) / self.std

    def see(self, pictures: Tensor) -> Levels | None:
        """What the stem's trunk makes of normalised pictures (N, 3, H, W), each by itself; None without a trunk."""
        return None if self.stem is None else self.stem.levels(pictures * self.std + self.mean)

    def to_colours(self, paintings: Tensor) -> Tensor:
        """Undo `normalise`: (N, 3, H, W) floats, each channel cut to 0..255."""
        return ((paintings.float() * self.std.float() + self.mean.float()) * 255).clamp(0, 255)

    def forward(
        self,
        images: Tensor,
        paintings: Tensor,
        masked: Tensor,
        kinds: Tensor,
        owner: Tensor | None = None,
        *,
        lower: bool = False,
        seen: Levels | None = None,
    ) -> Tensor:
        """Paint canvases: the training pass, any patches masked.

        Args:
            images: (N, 3, H, W), two normalised pictures, the example's above.
            paintings: (N, 3, H, W), theirs; what they hold under the mask is not seen.
            masked: (N, h, w) bool over the patches, or (1, h, w) for all.
            kinds: (N,) values of `Kind`.
            owner: (N,) which rows are examples of one picture in question and go through the feature ensemble:
                indices from 0 to Q - 1, each used. Rows of one owner must have equal lower halves. None: no two.
            lower: paint the lower halves alone, where only these are wanted.
            seen: what the stem's trunk sees of the pictures, 2 N rows, all upper halves first, where that is known.

        Returns:
            (N, 3, H, W) in the colours of `paintings`; of `lower`, (N, 3, H / 2, W), the same there.

        Raises:
            InputError: shapes that do not fit each other.
        """
        grid_hw = self._check(images, paintings, masked, kinds, owner)
        first = _first_rows(owner)
        pictures = torch.cat(images.chunk(2, dim=2))  # (2 N, 3, H / 2, W), upper halves first
        if seen is None:
            seen = self.see(pictures)
        halves = []
        for stream in self._streams(pictures, seen, paintings, masked, kinds, grid_hw):
            prompts, queries = stream.flatten(1, 2).chunk(2, dim=1)  # each (N, t, D)
            queries = queries.contiguous() if first is None else queries[first]  # (Q, t, D)
            halves.append(self._run_stream(prompts.contiguous(), queries, owner, grid_hw))

        def whole(prompts: Tensor, queries: Tensor) -> Tensor:
            return torch.cat([prompts, queries if owner is None else queries[owner]], dim=1).unflatten(1, grid_hw)

        told = self._match(seen, paintings, masked, owner)
        taps = self._merge_and_run(*halves, told, owner, grid_hw, whole)
        if isinstance(self.decoder, SkipDecoder):
            return self._paint_with_skips(taps, pictures, seen, lower)
        if lower:
            return self.decoder([tap[:, grid_hw[0] // 2 - 1 :] for tap in taps], context=1)
        return self.decoder(taps)

    def _match(self, seen: Levels | None, paintings: Tensor, masked: Tensor, owner: Tensor | None) -> Tensor | None:
        """What the matcher tells the lower halves of canvases, (Q, t, D); arguments as in `forward`."""
        if self.matcher is None or seen is None:
            return None
        above, below = self.matcher.looks(seen).chunk(2)
        half = masked.shape[1] // 2
        hidden = masked[:, :half].flatten(1).expand(len(above), -1)
        first = _first_rows(owner)
        learned = self.matcher.learn(above, self._paints(paintings.chunk(2, dim=2)[0]), hidden)
        return self.matcher(below if first is None else below[first], learned, owner)

    def _paints(self, paintings: Tensor) -> Tensor:
        """Mean colours of the patches of (P, 3, H, W), normalised -> (P, t, 3) RGB in 0..1."""
        colours = functional.avg_pool2d(paintings, self.config.patch) * self.std + self.mean
        return colours.flatten(2).transpose(1, 2)

    def _paint_with_skips(self, taps: list[Tensor], pictures: Tensor, seen: Levels | None, lower: bool) -> Tensor:
        """Paint whole canvases, or their lower halves; arguments as in `forward`."""
        assert isinstance(self.decoder, SkipDecoder) and seen is not None, "the config allows it with a trunk alone"
        skips = (seen.fine, seen.finest)
        if lower:
            below = [tap.chunk(2, dim=1)[1] for tap in taps]
            return self.decoder(below, pictures.chunk(2)[1], [level.chunk(2)[1] for level in skips])
        painted = self.decoder([torch.cat(tap.chunk(2, dim=1)) for tap in taps], pictures, skips)
        return torch.cat(painted.chunk(2), dim=2)

    @torch.no_grad()
    def encode_examples(
        self, pictures: Tensor, paintings: Tensor, kind: Kind = Kind.SEMANTIC, seen: Levels | None = None
    ) -> ExampleTokens:
        """Compute what does not depend on the picture in question, for use with many of them.

        The stream of paintings meets that of pictures only after the merging block, and the painting in question
        is blank before: all of that stream is computed here, once. See `paint`.

        Args:
            pictures: (P, 3, H, W) normalised, of half a canvas; several are several examples of the same thing.
            paintings: (P, 3, H, W), theirs.
            kind: what their masks mean.
            seen: what `see` gives of the pictures, where that is known.
        """
        if pictures.shape != paintings.shape or pictures.ndim != 4 or not len(pictures):
            raise InputError(
                f"examples need pictures and paintings of one shape (P, 3, H, W), got {tuple(pictures.shape)} and "
                f"{tuple(paintings.shape)}"
            )
        grid_hw = self.config.grid_of((2 * pictures.shape[2], pictures.shape[3]))
        above, below = self._extra(grid_hw, kind)
        prompts = (self._embed(paintings) + self.painting_token).flatten(1, 2) + above  # (P, t, D)
        blanks = (self.mask_token + self.painting_token + below)[None]  # (1, t, D)
        owner = torch.zeros(len(prompts), dtype=torch.long, device=prompts.device) if len(prompts) > 1 else None
        prompts, blanks = self._run_stream(prompts, blanks, owner, grid_hw)
        seen = self.see(pictures) if seen is None else seen
        embedded = (self._embed_pictures(pictures, seen) + self.picture_token).flatten(1, 2) + above
        looks = None
        if self.matcher is not None and seen is not None:
            looks = self.matcher.learn(self.matcher.looks(seen), self._paints(paintings))
        return ExampleTokens(embedded, prompts, blanks, kind, looks)

    @torch.no_grad()
    def paint(self, examples: ExampleTokens, targets: Tensor, seen: Levels | None = None) -> Tensor:
        """Paint pictures by one set of examples: the lower halves that `forward` would give, up to rounding.

        Each picture is painted alone with all the examples (feature ensemble); none changes another's result. The
        seam, the first line of pixels, depends on the first example more than on the others, as in `forward`.

        Args:
            examples: of `encode_examples`, for pictures of the same size.
            targets: (B, 3, H, W) normalised.
            seen: what `see` gives of the targets, where that is known.

        Returns:
            (B, 3, H, W) paintings; `to_colours` makes colours of them.
        """
        size_hw = tuple(targets.shape[2:])
        grid_hw = self.config.grid_of((2 * size_hw[0], size_hw[1]))
        rows, columns = grid_hw[0] // 2, grid_hw[1]
        if examples.pictures.shape[1] != rows * columns:
            raise InputError(f"the examples were encoded for another size than {size_hw[1]}x{size_hw[0]} pixels")
        batch, count = len(targets), len(examples)
        owner = None
        if count > 1:
            owner = torch.arange(batch, device=targets.device).repeat_interleave(count)
        _, below = self._extra(grid_hw, examples.kind)
        seen = self.see(targets) if seen is None else seen
        queries = (self._embed_pictures(targets, seen) + self.picture_token).flatten(1, 2) + below  # (B, t, D)
        prompts = examples.pictures.repeat(batch, 1, 1)  # (B P, t, D)
        pictures = self._run_stream(prompts, queries, owner, grid_hw)
        paintings = (examples.paintings.repeat(batch, 1, 1), examples.blanks)

        def lower(prompts: Tensor, queries: Tensor) -> Tensor:  # and one row above the seam, of the first example
            return torch.cat([prompts[::count, -columns:], queries], dim=1).unflatten(1, (1 + rows, columns))

        told = None
        if self.matcher is not None and seen is not None and examples.looks is not None:
            told = self.matcher(self.matcher.looks(seen), examples.looks.repeat(batch), owner)
        taps = self._merge_and_run(pictures, paintings, told, owner, grid_hw, lower)
        if isinstance(self.decoder, SkipDecoder):
            assert seen is not None, "the config allows it with a trunk alone"
            return self.decoder([tap[:, 1:] for tap in taps], targets, (seen.fine, seen.finest))
        return self.decoder(taps, context=1)

    def _streams(
        self,
        pictures: Tensor,
        seen: Levels | None,
        paintings: Tensor,
        masked: Tensor,
        kinds: Tensor,
        grid_hw: tuple[int, int],
    ) -> Iterator[Tensor]:
        """Tokens of the pictures, then of the paintings with what is hidden left blank, (N, h, w, D) each."""
        extra = self._positions(grid_hw) + self.kind_tokens[kinds][:, None, None]  # (N, h, w, D)
        yield torch.cat(self._embed_pictures(pictures, seen).chunk(2), dim=1) + self.picture_token + extra
        hidden = masked.to(extra.dtype)[..., None]  # (N or 1, h, w, 1)
        yield self._embed(paintings) * (1 - hidden) + self.mask_token * hidden + self.painting_token + extra

    def _run_stream(
        self, prompts: Tensor, queries: Tensor, owner: Tensor | None, grid_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """The blocks up to the merge, for one stream: (R, t, D) and (Q, t, D) -> the same shapes."""
        for block in self.blocks[: self.config.merge_block + 1]:
            prompts, queries = self._run_block(block, prompts, queries, owner, grid_hw)
        return prompts, queries

    def _merge_and_run(
        self,
        pictures: tuple[Tensor, Tensor],
        paintings: tuple[Tensor, Tensor],
        told: Tensor | None,
        owner: Tensor | None,
        grid_hw: tuple[int, int],
        tap: Callable[[Tensor, Tensor], Tensor],
    ) -> list[Tensor]:
        """Average the two streams and run the other blocks; what `tap` makes of the tokens at the taps, normed.

        What the matcher has `told` is added to the queries at the merge.

        A tap at the merging block is taken after the merge.
        """
        prompts, queries = ((one + other) / 2 for one, other in zip(pictures, paintings, strict=True))
        queries = queries if told is None else queries + told.to(queries.dtype)
        taps = []
        for index in range(self.config.merge_block, self.config.depth):
            if index > self.config.merge_block:
                prompts, queries = self._run_block(self.blocks[index], prompts, queries, owner, grid_hw)
            if index in self.config.taps:
                taps.append(self.norm(tap(prompts, queries)))
        return taps

    def _run_block(
        self, block: nn.Module, prompts: Tensor, queries: Tensor, owner: Tensor | None, grid_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, prompts, queries, owner, grid_hw, use_reentrant=False)
        return block(prompts, queries, owner, grid_hw)

    def _embed(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, h, w, D)."""
        return self.patch_embed(pictures.to(self.patch_embed.weight.dtype)).permute(0, 2, 3, 1)

    def _embed_pictures(self, pictures: Tensor, seen: Levels | None) -> Tensor:
        """(N, 3, H, W) -> (N, h, w, D), pictures without their paintings."""
        if self.stem is None or seen is None:
            return self._embed(pictures)
        return self.stem.project(seen)

    def _positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """The learned grid stretched over the canvas, (h, w, D)."""
        side = self.config.position_grid
        grid = self.positions[1:].T.view(1, -1, side, side)  # (1, D, g, g)
        return functional.interpolate(grid, grid_hw, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)

    def _extra(self, grid_hw: tuple[int, int], kind: Kind) -> tuple[Tensor, Tensor]:
        """Position and kind of the tokens of the upper and of the lower half, each (t, D)."""
        return (self._positions(grid_hw) + self.kind_tokens[kind]).flatten(0, 1).chunk(2)

    def _check(
        self, images: Tensor, paintings: Tensor, masked: Tensor, kinds: Tensor, owner: Tensor | None
    ) -> tuple[int, int]:
        """The grid of the canvases, if all fit each other."""
        if images.ndim != 4 or images.shape[1] != 3 or images.shape != paintings.shape:
            raise InputError(
                f"images and paintings must be (N, 3, H, W) alike, got {tuple(images.shape)} and "
                f"{tuple(paintings.shape)}"
            )
        grid_hw = self.config.grid_of(tuple(images.shape[2:]))
        if masked.ndim != 3 or tuple(masked.shape[1:]) != grid_hw or len(masked) not in (1, len(images)):
            raise InputError(f"masked must be (N or 1, {grid_hw[0]}, {grid_hw[1]}), got {tuple(masked.shape)}")
        for name, rows in (("kinds", kinds), ("owner", owner)):
            if rows is not None and tuple(rows.shape) != (len(images),):
                raise InputError(f"{name} must be ({len(images)},), one a canvas, got {tuple(rows.shape)}")
        return grid_hw


def _first_rows(owner: Tensor | None) -> Tensor | None:
    """The first row of each owner, (Q,); None without owners.

    Raises:
        InputError: indices that leave one out.
    """
    if owner is None:
        return None
    used, where = torch.unique(owner, return_inverse=True)
    if not torch.equal(used, torch.arange(len(used), device=owner.device)):
        raise InputError("owner must use each index from 0 to Q - 1")
    rows = torch.arange(len(owner), device=owner.device)
    return rows.new_full((len(used),), len(owner)).scatter_reduce_(0, where, rows, "amin")
