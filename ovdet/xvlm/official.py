"""The official checkpoints (github.com/zengyan-97/X-VLM) under our names; every weight is accounted for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovdet.errors import InputError
from ovdet.xvlm.config import ImageSizes, SwinSizes, TextSizes, ViTSizes, plain
from ovdet.xvlm.positions import resize_absolute_positions, resize_relative_positions

IMAGE, TEXT, DECODER = "vision_encoder.", "text_encoder.", "text_decoder."


@dataclass(frozen=True)
class OfficialWeights:
    """A converted state dict.

    Attributes:
        state_dict: for `xvlm(**arguments)`.
        arguments: plain values.
        dropped: keys that have no place, each a buffer or a second name of a weight that is there.
    """

    state_dict: dict[str, Tensor]
    arguments: dict[str, Any]
    dropped: list[str]

    @property
    def summary(self) -> str:
        """In one line."""
        return (
            f"{len(self.state_dict)} weights of task {self.arguments['task']!r} converted; "
            f"{len(self.dropped)} buffers and tied copies dropped"
        )


def task_of(state: Mapping[str, Tensor]) -> str:
    """Say which task a state dict is of, by its heads.

    Raises:
        InputError: it is no X-VLM.
    """
    roots = {key.split(".")[0] for key in state}
    if not any(key.startswith(IMAGE) for key in state):
        raise InputError("this is no X-VLM checkpoint: it has no weight that begins with 'vision_encoder.'")
    if any("roberta." in key for key in state):
        raise InputError("this X-VLM reads text with RoBERTa; only those with BERT can be converted")
    if "ta_head" in roots:
        return "nlvr-pretrain"
    if "cls_head" in roots:
        return "nlvr"
    if "text_decoder" in roots:
        return "vqa" if "text_encoder" in roots else "caption"
    if any(key.startswith(f"{TEXT}cls.") for key in state):
        return "pretrain"
    if "itm_head" in roots:
        return "retrieval"
    if "bbox_head" in roots:
        return "box"
    raise InputError("this X-VLM checkpoint has no head that tells its task (itm_head, bbox_head, cls_head, ...)")


def convert_official(
    state: Mapping[str, Tensor],
    image: ImageSizes,
    text: TextSizes,
    *,
    embed_dim: int | None = None,
    task: str | None = None,
) -> OfficialWeights:
    """Rename the weights of an official checkpoint.

    Args:
        state: the content of the file, under "model" or bare.
        image: sizes of its image encoder.
        text: sizes of its text part.
        embed_dim: of the joint space; None reads it off the weights.
        task: None reads it off the weights.

    Raises:
        InputError: it is no X-VLM, or a weight has no place here.
    """
    task = task or task_of(state)
    _check_tied(state, task, text.text_layers)
    converted: dict[str, Tensor] = {}
    dropped: list[str] = []
    unknown: list[str] = []
    packed: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name = _image_name(key, image) if key.startswith(IMAGE) else _other_name(key, task, text)
        if name is None:
            unknown.append(key)
        elif not name:
            dropped.append(key)
        elif found := re.fullmatch(r"(.+\.(?:self_attn|attn))\.(query|key|value|q|k|v)\.(weight|bias)", name):
            base, part, kind = found.groups()
            packed.setdefault(f"{base}|{kind}", {})[part[0]] = value
        else:
            converted[name] = value
    if unknown:
        raise InputError(f"{len(unknown)} weights have no place in X-VLM, the first of them {unknown[0]}")
    for place, parts in packed.items():
        base, kind = place.split("|")
        if len(parts) != 3:
            raise InputError(f"attention {base!r} lacks its {', '.join(sorted(set('qkv') - set(parts)))}")
        name = f"{base}.in_proj_{kind}" if base.endswith("self_attn") else f"{base}.qkv.{kind}"
        converted[name] = torch.cat([parts["q"], parts["k"], parts["v"]])
    for name in [name for name in converted if name.endswith("image_encoder.trunk.cls_token")]:
        converted[name] = converted[name].reshape(1, 1, -1)
    for name in [name for name in converted if name.endswith("image_encoder.trunk.pos_embed")]:
        converted[name] = converted[name].reshape(1, -1, image.out_width)
    if embed_dim is None:
        maps = (converted.get("space.image.weight"), converted.get("image_projection.weight"))
        embed_dim = next((len(weight) for weight in maps if weight is not None), 256)
    arguments = {"task": task, "image": plain(image), "text": plain(text), "embed_dim": embed_dim}
    return OfficialWeights(converted, arguments, dropped)


def _check_tied(state: Mapping[str, Tensor], task: str, text_layers: int) -> None:
    """Second names of a weight must say the same, since one of them is dropped."""
    shared = rf"({TEXT}(?:bert\.)?encoder\.layer\.)(\d+)(\.crossattention\.self\.(?:key|value)\..+)"
    for key, value in state.items():
        if key.endswith("cls.predictions.decoder.weight"):
            twin = key.replace("cls.predictions.decoder", "bert.embeddings.word_embeddings")
        elif key.endswith("cls.predictions.decoder.bias"):
            twin = key.replace("decoder.bias", "bias")
        elif task.startswith("nlvr") and (found := re.fullmatch(shared, key)):
            if (int(found[2]) - text_layers) % 2:
                continue  # the second of a turn, with which its first is compared
            twin = f"{found[1]}{int(found[2]) + 1}{found[3]}"
        else:
            continue
        if twin in state and not torch.equal(value, state[twin]):
            raise InputError(f"{key} differs from {twin}, to which X-VLM ties it; the file is damaged")


def resize_weights(weights: OfficialWeights, image: ImageSizes) -> OfficialWeights:
    """Bring the tables of positions to another picture size or window, as fine-tuning does when it starts.

    Args:
        weights: converted.
        image: sizes wanted; of the same kind and width.
    """
    state = dict(weights.state_dict)
    for name, value in state.items():
        if name.endswith("relative_position_bias_table") and isinstance(image, SwinSizes):
            stage = int(name.split("layers.")[1].split(".")[0])
            window = min(image.window, image.image_size // (4 << stage))
            state[name] = resize_relative_positions(value, window)
        elif name.endswith("trunk.pos_embed") and isinstance(image, ViTSizes):
            state[name] = resize_absolute_positions(value[0], image.image_size // image.patch)[None]
    return replace(weights, state_dict=state, arguments={**weights.arguments, "image": plain(image)})


# ---- names; None has no place, "" is dropped


def _image_name(key: str, image: ImageSizes) -> str | None:
    rest = key.removeprefix(IMAGE)
    if isinstance(image, SwinSizes):
        if rest.endswith(("relative_position_index", "attn_mask")):
            return ""
        moved = re.fullmatch(r"layers\.(\d+)\.downsample\.(.+)", rest)  # timm merges patches when a stage begins
        rest = f"layers.{int(moved[1]) + 1}.downsample.{moved[2]}" if moved else rest
        return f"image_encoder.trunk.{rest}"
    if image.kind == "vit":
        return f"image_encoder.trunk.{rest}"
    if rest == "position_ids":
        return ""
    for old, new in _CLIP_NAMES:
        if re.fullmatch(old, rest):
            return "image_encoder.trunk." + re.sub(old, new, rest)
    return None


_CLIP_NAMES = (
    (r"patch_embed\.weight", "patch_embed.proj.weight"),
    (r"class_embedding", "cls_token"),
    (r"pos_embed\.weight", "pos_embed"),
    (r"pre_layrnorm\.(.+)", r"norm_pre.\1"),
    (r"post_layernorm\.(.+)", r"norm.\1"),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(.+)", r"blocks.\1.attn.\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.(.+)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.(\d+)\.mlp\.(.+)", r"blocks.\1.mlp.\2"),
)

_HEADS = {
    "vision_proj.": "space.image.",
    "text_proj.": "space.text.",
    "itm_head.": "match_head.",
    "bbox_head.": "box_head.",
    "cls_head.": "head.",
    "ta_head.": "head.",
}

_EMBEDDING = (
    (r"embeddings\.word_embeddings\.weight", "tokens.weight"),
    (r"embeddings\.position_embeddings\.weight", "positions.weight"),
    (r"embeddings\.token_type_embeddings\.weight", "types.weight"),
    (r"embeddings\.LayerNorm\.(.+)", r"norm.\1"),
)

_ATTENTION = (
    (r"attention\.self\.(query|key|value)\.(.+)", r"self_attn.\1.\2"),
    (r"attention\.output\.dense\.(.+)", r"self_attn.out_proj.\1"),
    (r"attention\.output\.LayerNorm\.(.+)", r"norm1.\1"),
    (r"intermediate\.dense\.(.+)", r"linear1.\1"),
    (r"output\.dense\.(.+)", r"linear2.\1"),
)
_TEXT_LAYER = (*_ATTENTION, (r"output\.LayerNorm\.(.+)", r"norm2.\1"))
_CROSS_LAYER = (
    *_ATTENTION,
    (r"crossattention\.self\.(query|key|value)\.(.+)", r"cross_attn.\1.\2"),
    (r"crossattention\.output\.dense\.(.+)", r"cross_attn.out.\1"),
    (r"crossattention\.output\.LayerNorm\.(.+)", r"norm2.\1"),
    (r"output\.LayerNorm\.(.+)", r"norm3.\1"),
)

_WORDS = (
    (r"bias", "bias"),
    (r"transform\.dense\.(.+)", r"dense.\1"),
    (r"transform\.LayerNorm\.(.+)", r"norm.\1"),
    (r"decoder\.(weight|bias)", ""),  # tied to the embedding and to `bias`
)


def _other_name(key: str, task: str, text: TextSizes) -> str | None:
    if key == "temp":
        return "space.temperature"
    for old, new in _HEADS.items():
        if key.startswith(old):
            if task == "nlvr-pretrain" and old == "vision_proj.":
                new = "image_projection."
            return new + key.removeprefix(old)
    if key.startswith(DECODER) and task == "vqa":
        return _bert_name(key.removeprefix(DECODER), "answer_embedding", None, "answer_layers", 0)
    for prefix in (TEXT, DECODER):
        if key.startswith(prefix):
            return _bert_name(
                key.removeprefix(prefix), "text_encoder.embedding", "text_encoder", "fusion", text.text_layers
            )
    return None


def _bert_name(rest: str, embedding: str, text: str | None, cross: str, text_layers: int) -> str | None:
    """Our name of a weight of one BERT: its first layers go to `text`, the others to `cross`."""
    rest = rest.removeprefix("bert.")
    if rest == "embeddings.position_ids":
        return ""
    if rest.startswith("cls.predictions."):
        found = _renamed(rest.removeprefix("cls.predictions."), _WORDS)
        return f"word_head.{found}" if found else found
    layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", rest)
    if layer is None:
        found = _renamed(rest, _EMBEDDING)
        return f"{embedding}.{found}" if found else found
    number = int(layer[1])
    is_text = number < text_layers
    found = _renamed(layer[2], _TEXT_LAYER if is_text else _CROSS_LAYER)
    if found is None:
        return None
    return f"{text}.layers.{number}.{found}" if is_text else f"{cross}.layers.{number - text_layers}.{found}"


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for old, new in rules:
        if re.fullmatch(old, name):
            return re.sub(old, new, name)
    return None


# ---- the official JSON files


def read_image_sizes(path: str | Path | None, state: Mapping[str, Tensor]) -> ImageSizes:
    """Sizes from a vision configuration; what it leaves out is read off the weights.

    Args:
        path: such as config_swinB_384.json or config_clipvitB.json; None is DeiT, which has no such file.
        state: the checkpoint.

    Raises:
        InputError: the file cannot be read, or says too little.
    """
    said = _read_json(path) if path is not None else {}
    try:
        if "window_size" in said:
            return SwinSizes(
                said["image_res"],
                said["window_size"],
                said["embed_dim"],
                tuple(said["depths"]),
                tuple(said["num_heads"]),
            )
        if "num_hidden_layers" in said:
            positions = len(state[f"{IMAGE}pos_embed.weight"])
            return ViTSizes(
                "clip",
                math.isqrt(positions - 1) * said["patch_size"],
                said["patch_size"],
                said["vision_width"],
                said["num_hidden_layers"],
                said["num_attention_heads"],
                said["intermediate_size"],
                said["local_attn_depth"],
                said["hidden_act"],
            )
        return _deit_sizes(state)
    except KeyError as error:
        where = path or "the checkpoint"
        raise InputError(f"{where} does not say {error}; give the vision configuration of this checkpoint") from error


def _deit_sizes(state: Mapping[str, Tensor]) -> ViTSizes:
    """Sizes of a DeiT, all but the heads read off the weights; those are 64 wide."""
    patches = state[f"{IMAGE}patch_embed.proj.weight"]
    width, patch = patches.shape[0], patches.shape[2]
    numbers = [int(found[1]) for key in state if (found := re.match(rf"{IMAGE}blocks\.(\d+)\.", key))]
    side = math.isqrt(state[f"{IMAGE}pos_embed"].shape[1] - 1)
    hidden = len(state[f"{IMAGE}blocks.0.mlp.fc1.bias"])
    return ViTSizes("vit", side * patch, patch, width, max(numbers) + 1, max(width // 64, 1), hidden)


def read_text_sizes(path: str | Path) -> TextSizes:
    """Sizes from a text configuration such as config_bert.json.

    Raises:
        InputError: the file cannot be read, or is of another network.
    """
    said = _read_json(path)
    if said.get("model_type", "bert") != "bert" or said.get("hidden_act", "gelu") != "gelu":
        raise InputError(f"{path} describes no BERT with gelu; only such text encoders can be converted")
    try:
        return TextSizes(
            said["vocab_size"],
            said["hidden_size"],
            said["num_attention_heads"],
            said["intermediate_size"],
            said["max_position_embeddings"],
            said["type_vocab_size"],
            said["fusion_layer"],
            said["num_hidden_layers"] - said["fusion_layer"],
            said["hidden_dropout_prob"],
            said["attention_probs_dropout_prob"],
            float(said["layer_norm_eps"]),
        )
    except KeyError as error:
        raise InputError(f"{path} does not say {error}; give the text configuration of this checkpoint") from error


def _read_json(path: str | Path) -> dict[str, Any]:
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(said, dict):
        raise InputError(f"the configuration {path} must be one JSON object")
    return said
