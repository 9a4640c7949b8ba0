"""The sizes of a SegGPT."""

from __future__ import annotations

from dataclasses import dataclass

from ovdet.errors import InputError

STEMS = ("patches", "trunk")
"""What turns pictures into tokens."""

DECODERS = ("pixels", "skips")
"""What turns tokens into colours."""


@dataclass(frozen=True)
class SegGPTConfig:
    """Sizes of the published model (arXiv:2304.03284; Painter's ViT-L, arXiv:2212.02499) unless told otherwise.

    Attributes:
        canvas_hw: height and width in pixels of two pictures, one above the other.
        patch: side of a patch in pixels.
        width: channels of a token.
        depth: blocks.
        heads: of the attention.
        mlp_width: hidden channels between two linear layers of a block.
        merge_block: after this block, counted from 0, the streams of pictures and of paintings become one.
        taps: blocks whose outputs the decoder reads, from 0.
        decoder_channels: a pixel, in the decoder.
        position_grid: side of the learned grid of positions, stretched over the canvas.
        drop_path: of the last block in training; it grows linearly from 0 in the first.
        stem: what turns pictures into tokens: "patches", the linear layer that embeds paintings too, as published; or
            "trunk", the levels of a small convolutional network (ours, for patches of 16 pixels alone).
        decoder: what turns tokens into colours: "pixels", a linear layer and two convolutions, as published; or
            "skips", convolutions that also see the trunk's finer levels (ours, for stems that are one).
        looks: channels of the measure of likeness in front of the blocks (ours, for stems that are a trunk); 0: none,
            as published.
    """

    canvas_hw: tuple[int, int] = (896, 448)
    patch: int = 16
    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp_width: int = 4096
    merge_block: int = 2
    taps: tuple[int, ...] = (5, 11, 17, 23)
    decoder_channels: int = 64
    position_grid: int = 14
    drop_path: float = 0.1
    stem: str = "patches"
    decoder: str = "pixels"
    looks: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "canvas_hw", tuple(int(side) for side in self.canvas_hw))
        object.__setattr__(self, "taps", tuple(int(tap) for tap in self.taps))
        for name in ("patch", "width", "depth", "heads", "mlp_width", "decoder_channels", "position_grid"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise InputError(f"width {self.width} must be a multiple of heads {self.heads}")
        if not 0 <= self.drop_path < 1:
            raise InputError(f"drop_path must lie in [0, 1), got {self.drop_path}")
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or self.taps[-1] >= self.depth:
            raise InputError(f"taps must rise and be below depth {self.depth}, got {self.taps}")
        if not 0 <= self.merge_block <= self.taps[0]:
            raise InputError(f"merge_block must lie between 0 and the first tap {self.taps[0]}, got {self.merge_block}")
        if self.stem not in STEMS or (self.stem == "trunk" and self.patch != 16):
            raise InputError(f"stem must be patches, or trunk with patches of 16, got {self.stem!r} with {self.patch}")
        if self.decoder not in DECODERS or (self.decoder == "skips" and self.stem != "trunk"):
            raise InputError(f"decoder must be pixels, or skips with the stem trunk, got {self.decoder!r}")
        if self.looks < 0 or (self.looks and self.stem != "trunk"):
            raise InputError(f"looks must be 0, or above with the stem trunk, got {self.looks}")
        self.grid_of(self.canvas_hw)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches on the canvas."""
        return self.grid_of(self.canvas_hw)

    @property
    def picture_hw(self) -> tuple[int, int]:
        """Height and width in pixels of one picture: half the canvas."""
        return self.canvas_hw[0] // 2, self.canvas_hw[1]

    def grid_of(self, canvas_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches on a canvas of any size.

        Raises:
            InputError: it cannot be cut into two pictures of whole patches.
        """
        if len(canvas_hw) != 2 or min(canvas_hw) < 1 or canvas_hw[0] % (2 * self.patch) or canvas_hw[1] % self.patch:
            raise InputError(
                f"a canvas must be two pictures of whole patches of {self.patch} pixels high and some wide, "
                f"got {tuple(canvas_hw)}"
            )
        return canvas_hw[0] // self.patch, canvas_hw[1] // self.patch
