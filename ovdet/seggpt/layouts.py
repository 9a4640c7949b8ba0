"""The published forms of the weights, into ours and back: the authors' file and the Hugging Face repository.

All three hold the same numbers under other names; nothing is transposed. Every key is accounted for in both
directions. Painter's file (arXiv:2212.02499) is the authors' layout without the two tokens of the kind of mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ovdet.errors import InputError
from ovdet.seggpt.config import SegGPTConfig

Layout = Literal["official", "transformers"]


@dataclass(frozen=True)
class Entry:
    """One foreign tensor and where it lies in ours.

    Attributes:
        ours: key of our state dict.
        foreign: key of the other.
        axes: of length one that the other has in front.
        row: of our tensor that it is, or None for all of it.
    """

    ours: str
    foreign: str
    axes: int = 0
    row: int | None = None


_TOKENS = (  # ours, row, axes, official, transformers
    ("mask_token", None, 3, "mask_token", "model.embeddings.mask_token"),
    ("picture_token", None, 3, "segment_token_x", "model.embeddings.segment_token_input"),
    ("painting_token", None, 3, "segment_token_y", "model.embeddings.segment_token_prompt"),
    ("kind_tokens", 0, 3, "type_token_cls", "model.embeddings.type_token_semantic"),
    ("kind_tokens", 1, 3, "type_token_ins", "model.embeddings.type_token_instance"),
    ("positions", None, 1, "pos_embed", "model.embeddings.position_embeddings"),
)
_MODULES = (  # with weight and bias
    ("patch_embed", "patch_embed.proj", "model.embeddings.patch_embeddings.projection"),
    ("norm", "norm", "model.encoder.layernorm"),
    ("decoder.expand", "decoder_embed", "decoder.decoder_embed"),
    ("decoder.conv", "decoder_pred.0", "decoder.decoder_pred.conv"),
    ("decoder.norm", "decoder_pred.1", "decoder.decoder_pred.layernorm"),
    ("decoder.head", "decoder_pred.3", "decoder.decoder_pred.head"),
)
_BLOCK_MODULES = (
    ("norm1", "norm1", "layernorm_before"),
    ("attn.qkv", "attn.qkv", "attention.qkv"),
    ("attn.proj", "attn.proj", "attention.proj"),
    ("norm2", "norm2", "layernorm_after"),
    ("fc1", "mlp.fc1", "mlp.lin1"),
    ("fc2", "mlp.fc2", "mlp.lin2"),
)
_BLOCK_TABLES = (
    ("attn.row_table", "attn.rel_pos_h", "attention.rel_pos_h"),
    ("attn.column_table", "attn.rel_pos_w", "attention.rel_pos_w"),
)
_BLOCKS = {"official": "blocks", "transformers": "model.encoder.layers"}
KIND_KEYS = ("type_token_cls", "type_token_ins")
"""What Painter's file lacks."""


def entries(layout: Layout, depth: int) -> Iterator[Entry]:
    """All tensors of a model of so many blocks: 18 and 14 a block."""
    column = get_args(Layout).index(layout)
    for ours, row, axes, *foreign in _TOKENS:
        yield Entry(ours, foreign[column], axes, row)
    modules = [(ours, foreign[column]) for ours, *foreign in _MODULES]
    for block in range(depth):
        mine, theirs = f"blocks.{block}.", f"{_BLOCKS[layout]}.{block}."
        modules += [(mine + ours, theirs + foreign[column]) for ours, *foreign in _BLOCK_MODULES]
        for ours, *foreign in _BLOCK_TABLES:
            yield Entry(mine + ours, theirs + foreign[column])
    for ours, other in modules:
        for leaf in ("weight", "bias"):
            yield Entry(f"{ours}.{leaf}", f"{other}.{leaf}")


def layout_of(state_dict: Mapping[str, Any]) -> Layout:
    """Tell by its keys which layout a state dict has.

    Raises:
        InputError: neither.
    """
    if "segment_token_x" in state_dict:
        return "official"
    if "model.embeddings.segment_token_input" in state_dict:
        return "transformers"
    raise InputError(
        "these are no SegGPT weights: there is neither segment_token_x (the authors' layout) nor "
        "model.embeddings.segment_token_input (transformers)"
    )


def from_published(state_dict: Mapping[str, Tensor], *, painter: bool = False) -> dict[str, Tensor]:
    """Rename the weights of a published file, of any size.

    Args:
        state_dict: in either layout.
        painter: take a file without the tokens of the kind of mask, which become zero, to train from it.

    Returns:
        For `SegGPTModel.load_state_dict(..., strict=True)`.

    Raises:
        InputError: a tensor is missing, has no place here or another number of axes.
    """
    layout = layout_of(state_dict)
    if painter:
        if layout != "official" or any(key in state_dict for key in KIND_KEYS):
            raise InputError(
                "these are not Painter's weights: they know the kind of a mask already; leave `painter` out"
            )
        blank = torch.zeros_like(_need(state_dict, "segment_token_x"))
        state_dict = {**state_dict, **dict.fromkeys(KIND_KEYS, blank)}
    elif layout == "official" and not any(key in state_dict for key in KIND_KEYS):
        raise InputError(
            "type_token_cls and type_token_ins are missing: these are Painter's weights, which may start a training "
            "but do not know the kind of a mask; say so (painter=True, --painter) to take them with zeros there"
        )
    known = list(entries(layout, _depth(state_dict, layout)))
    unknown = state_dict.keys() - {entry.foreign for entry in known}
    if unknown:
        raise InputError(f"{len(unknown)} weights have no place in SegGPT, the first of them {min(unknown)}")
    found: dict[str, Any] = {}
    for entry in known:
        value = _need(state_dict, entry.foreign)
        if tuple(value.shape[: entry.axes]) != (1,) * entry.axes:
            raise InputError(f"{entry.foreign} should have {entry.axes} axes of length 1 in front, got {value.shape}")
        value = value.reshape(value.shape[entry.axes :])
        if entry.row is None:
            found[entry.ours] = value
        else:
            found.setdefault(entry.ours, []).append(value)
    return {key: torch.stack(value) if isinstance(value, list) else value for key, value in found.items()}


def to_published(state_dict: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Undo `from_published`.

    Raises:
        InputError: a tensor is missing, or one is not of a SegGPT.
    """
    depth = len({key.split(".")[1] for key in state_dict if key.startswith("blocks.")})
    known = list(entries(layout, depth))
    unknown = state_dict.keys() - {entry.ours for entry in known}
    if unknown:
        raise InputError(f"{len(unknown)} weights are of no SegGPT, the first of them {min(unknown)}")
    found = {}
    for entry in known:
        value = _need(state_dict, entry.ours)
        value = value if entry.row is None else value[entry.row]
        found[entry.foreign] = value[(None,) * entry.axes].contiguous()
    return found


def config_of(
    state_dict: Mapping[str, Tensor], merge_block: int | None = None, taps: tuple[int, ...] | None = None
) -> SegGPTConfig:
    """Read the sizes off our state dict.

    Args:
        state_dict: of `from_published`.
        merge_block: is in no tensor; None is the published 2.
        taps: nor are these; None spaces them evenly up to the last block, as published.

    Raises:
        InputError: sizes that contradict each other.
    """
    width, table = len(state_dict["mask_token"]), state_dict["blocks.0.attn.row_table"]
    channels, patch = state_dict["decoder.conv.weight"].shape[0], state_dict["patch_embed.weight"].shape[-1]
    depth = len({key.split(".")[1] for key in state_dict if key.startswith("blocks.")})
    rows, columns = ((len(state_dict[f"blocks.0.attn.{axis}_table"]) + 1) // 2 for axis in ("row", "column"))
    count = state_dict["decoder.expand.weight"].shape[1] // width
    if taps is None:
        taps = tuple(depth * (index + 1) // count - 1 for index in range(count))
    return SegGPTConfig(
        canvas_hw=(rows * patch, columns * patch),
        patch=patch,
        width=width,
        depth=depth,
        heads=width // table.shape[1],
        mlp_width=state_dict["blocks.0.fc1.weight"].shape[0],
        merge_block=2 if merge_block is None else merge_block,
        taps=taps,
        decoder_channels=channels,
        position_grid=math.isqrt(len(state_dict["positions"]) - 1),
    )


def config_from_transformers(said: Mapping[str, Any]) -> SegGPTConfig:
    """Read the `config.json` of a Hugging Face repository; what it does not say has transformers' default.

    Raises:
        InputError: it is of another model, or of a SegGPT that cannot be built here.
    """
    if said.get("model_type") != "seggpt":
        raise InputError(f"config.json is of a model of type {said.get('model_type')!r}, not of 'seggpt'")
    expected = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_channels": 3, "qkv_bias": True}
    for key, value in {**expected, "use_relative_position_embeddings": True}.items():
        if said.get(key, value) != value:
            raise InputError(f"config.json: {key} {said[key]!r} is not supported; SegGPT has {value!r}")
    patch, width = _one(said, "patch_size", 16), said.get("hidden_size", 1024)
    height, breadth = said.get("image_size", (896, 448))
    return SegGPTConfig(
        canvas_hw=(height, breadth),
        patch=patch,
        width=width,
        depth=said.get("num_hidden_layers", 24),
        heads=said.get("num_attention_heads", 16),
        mlp_width=said.get("mlp_dim") or 4 * width,
        merge_block=said.get("merge_index", 2),
        taps=tuple(said.get("intermediate_hidden_state_indices", (5, 11, 17, 23))),
        decoder_channels=said.get("decoder_hidden_size", 64),
        position_grid=_one(said, "pretrain_image_size", 224) // patch,
        drop_path=said.get("drop_path_rate", 0.1),
    )


def config_to_transformers(config: SegGPTConfig) -> dict[str, Any]:
    """Write what `SegGptForImageSegmentation.from_pretrained` needs beside the weights."""
    return {
        "architectures": ["SegGptForImageSegmentation"],
        "model_type": "seggpt",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "mlp_dim": config.mlp_width,
        "image_size": list(config.canvas_hw),
        "patch_size": config.patch,
        "pretrain_image_size": config.position_grid * config.patch,
        "decoder_hidden_size": config.decoder_channels,
        "merge_index": config.merge_block,
        "intermediate_hidden_state_indices": list(config.taps),
        "drop_path_rate": config.drop_path,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "num_channels": 3,
        "qkv_bias": True,
        "use_relative_position_embeddings": True,
        "beta": 0.01,
    }


def _one(said: Mapping[str, Any], key: str, default: int) -> int:
    """A side that may be given twice."""
    value = said.get(key, default)
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) != 1:
        raise InputError(f"config.json: {key} must be square, got {value}")
    return int(sides.pop())


def _depth(state_dict: Mapping[str, Any], layout: Layout) -> int:
    prefix = _BLOCKS[layout] + "."
    numbers = {key.removeprefix(prefix).split(".")[0] for key in state_dict if key.startswith(prefix)}
    return len(numbers)


def _need(state_dict: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state_dict:
        raise InputError(f"the weight {key} is missing")
    return state_dict[key]
