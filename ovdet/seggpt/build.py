"""How the parts fit; one function for each published or trained size, of literal numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from ovdet.seggpt.config import SegGPTConfig
from ovdet.seggpt.model import SegGPTModel


def seggpt(
    canvas_hw: Sequence[int] = (896, 448),
    patch: int = 16,
    width: int = 1024,
    depth: int = 24,
    heads: int = 16,
    mlp_width: int | None = None,
    merge_block: int = 2,
    taps: Sequence[int] = (5, 11, 17, 23),
    decoder_channels: int = 64,
    position_grid: int = 14,
    drop_path: float = 0.1,
    stem: str = "patches",
    decoder: str = "pixels",
    looks: int = 0,
) -> SegGPTModel:
    """Build a SegGPT of any size; see `SegGPTConfig`. `mlp_width` None is four times the width."""
    config = SegGPTConfig(
        canvas_hw=(canvas_hw[0], canvas_hw[1]),
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=4 * width if mlp_width is None else mlp_width,
        merge_block=merge_block,
        taps=tuple(taps),
        decoder_channels=decoder_channels,
        position_grid=position_grid,
        drop_path=drop_path,
        stem=stem,
        decoder=decoder,
        looks=looks,
    )
    model = SegGPTModel(config)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    model.recipe = {"builder": "seggpt", "arguments": plain}
    return model


def seggpt_vit_large(drop_path: float = 0.1) -> SegGPTModel:
    """Build the published size: 370,723,203 parameters, pictures of 448x448."""
    return seggpt(drop_path=drop_path)


def seggpt_small(side: int = 192, drop_path: float = 0.0) -> SegGPTModel:
    """Build a size for CPUs and the offline world: 5 blocks of 192 channels on a convolutional trunk.

    Args:
        side: of a picture in pixels, a multiple of 16.
        drop_path: of the last block.
    """
    return seggpt(
        canvas_hw=(2 * side, side),
        patch=16,
        width=192,
        depth=5,
        heads=3,
        mlp_width=384,
        merge_block=0,
        taps=(0, 2, 4),
        position_grid=14,
        drop_path=drop_path,
        stem="trunk",
        decoder="skips",
        looks=128,
    )


BUILDERS: dict[str, Callable[..., SegGPTModel]] = {
    builder.__name__: builder for builder in (seggpt, seggpt_vit_large, seggpt_small)
}
"""What a checkpoint may name."""
