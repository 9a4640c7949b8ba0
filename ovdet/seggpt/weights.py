"""Checkpoints that say how to build themselves, and the weights that training starts from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.files import replacing
from ovdet.layers.compact import read_compact, write_compact
from ovdet.layers.rooms import check_room
from ovdet.seggpt.build import BUILDERS
from ovdet.seggpt.model import SegGPTModel

FORMAT = 1
"""Of the dictionary under "ovdet"."""

THRESHOLD = 128 / 255
"""Of the soft mask: 128 of the mean of red, green and blue, as the authors' video tool has it."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint says about itself, beside the weights, under the key "ovdet".

    Attributes:
        builder: a key of `BUILDERS`.
        arguments: plain values for it.
        threshold: above which a pixel of the soft mask belongs to the thing.
    """

    builder: str
    arguments: dict[str, Any] = field(default_factory=dict)
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        if self.builder not in BUILDERS:
            raise InputError(f"the builder must be one of {', '.join(BUILDERS)}, got {self.builder!r}")
        if not isinstance(self.arguments, Mapping):
            raise InputError(f"arguments must be a mapping, got {self.arguments!r}")
        if not isinstance(self.threshold, float) or not 0 < self.threshold < 1:
            raise InputError(f"threshold must lie between 0 and 1, got {self.threshold!r}")

    def build(self) -> SegGPTModel:
        """Build the model, weights as they come."""
        try:
            return BUILDERS[self.builder](**self.arguments)
        except TypeError as error:
            raise InputError(f"{self.builder} does not take these arguments: {error}") from error


def load_model(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> tuple[SegGPTModel, CheckpointFacts]:
    """Build the model that a checkpoint describes and load its weights, strictly; nothing in the file is run.

    Args:
        path: a checkpoint of `save_model` or of training, or a file of compact weights of `save_compact`.
        device: of the model.

    Raises:
        InputError: no such file, damaged, not made by this room, or the weights do not fit.
    """
    if Path(path).suffix == ".safetensors":
        state_dict, said = read_compact(Path(path))
        checkpoint: Mapping[str, Any] = {"state_dict": state_dict, "ovdet": said}
    else:
        checkpoint = load_checkpoint_file(path)
    try:
        facts = read_facts(checkpoint)
        model = facts.build()
        model.load_state_dict(checkpoint["state_dict"], strict=True)
    except KeyError as error:
        raise InputError(f"checkpoint '{path}' holds no {error}; was it written by tools/train.py?") from error
    except InputError as error:
        raise InputError(f"checkpoint '{path}': {error}") from error
    except RuntimeError as error:  # torch's list of keys that do not fit
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"checkpoint '{path}' does not fit the model that it names: {reason}") from error
    return model.to(device).eval(), facts


def read_facts(checkpoint: Mapping[str, Any]) -> CheckpointFacts:
    """Read and check what a checkpoint says about itself; unknown entries are left alone.

    Raises:
        InputError: nothing is said, or something that cannot be.
    """
    said = checkpoint.get("ovdet")
    if not isinstance(said, Mapping):
        raise InputError(
            "it does not say how to build its model (no 'ovdet' entry); convert the authors' file or a Hugging Face "
            "folder with tools/convert/seggpt.py"
        )
    check_room(said, "seggpt", FORMAT)
    known = {key: said[key] for key in CheckpointFacts.__dataclass_fields__ if said.get(key) is not None}
    try:
        return CheckpointFacts(**known)
    except TypeError as error:
        raise InputError(f"its 'ovdet' entry is damaged: {error}") from error


def note_of(model: SegGPTModel, threshold: float = THRESHOLD) -> dict[str, Any]:
    """What belongs under "ovdet" in a checkpoint of this model."""
    return {"format": FORMAT, "room": "seggpt", **asdict(CheckpointFacts(**model.recipe, threshold=threshold))}


def save_model(model: SegGPTModel, path: str | os.PathLike[str], threshold: float = THRESHOLD) -> None:
    """Write a checkpoint that `load_model` reads; it is whole or not there.

    Raises:
        InputError: it cannot be written.
    """
    file = Path(path)
    try:
        with replacing(file) as temporary:
            torch.save({"state_dict": model.state_dict(), "ovdet": note_of(model, threshold)}, temporary)
    except RuntimeError as error:  # as which torch reports a full disk
        raise InputError(f"cannot write checkpoint '{file}': {error}") from error


def save_compact(model: SegGPTModel, path: str | os.PathLike[str], threshold: float = THRESHOLD) -> None:
    """Write a small file, matrices in bytes, that `load_model` reads: about a byte a weight.

    Raises:
        InputError: it cannot be written, or its name does not end in .safetensors.
    """
    if Path(path).suffix != ".safetensors":
        raise InputError(f"a file of compact weights must end in .safetensors, got {path}")
    write_compact(Path(path), model.state_dict(), note_of(model, threshold))


def start_from_mae(model: SegGPTModel, state_dict: Mapping[str, Tensor]) -> str:
    """Give the trunk the weights of a masked auto-encoder's encoder (arXiv:2111.06377), as Painter's training did.

    Taken are patches, positions, blocks and, where there is one, the last norm. Relative positions stay at zero,
    the new tokens and the decoder at random; the auto-encoder's own decoder and class token are left out.

    Args:
        model: of the encoder's width and depth; changed in place.
        state_dict: with the keys of the released files, which are those of timm's ViT.

    Returns:
        What was done, in one line.

    Raises:
        InputError: a weight is missing, of another shape, or has no place.
    """
    state_dict = state_dict.get("model", state_dict)  # type: ignore[assignment]
    own = model.state_dict()
    names = {key: key for key in own if key.startswith("norm.")}
    names |= {key: key.replace(".fc", ".mlp.fc") for key in own if key.startswith("blocks.") and "_table" not in key}
    names |= {"patch_embed.weight": "patch_embed.proj.weight", "patch_embed.bias": "patch_embed.proj.bias"}
    taken: dict[str, Tensor] = {}
    for ours, theirs in {**names, "positions": "pos_embed"}.items():
        if theirs not in state_dict and ours.startswith("norm."):
            continue
        if theirs not in state_dict:
            raise InputError(f"this is no encoder of a masked auto-encoder that fits: the weight {theirs} is missing")
        value = state_dict[theirs][0] if theirs == "pos_embed" else state_dict[theirs]
        if value.shape != own[ours].shape:
            raise InputError(f"{theirs} is {tuple(value.shape)}; this model needs {tuple(own[ours].shape)}")
        taken[ours] = value
    left = state_dict.keys() - {*names.values(), "pos_embed"}
    unknown = {key for key in left if not key.startswith(("decoder_", "cls_token", "mask_token", "head.", "fc_norm."))}
    if unknown:
        raise InputError(f"{len(unknown)} weights have no place in the trunk, the first of them {min(unknown)}")
    model.load_state_dict(taken, strict=False)
    return f"{len(taken)} weights of the auto-encoder taken, {len(left)} left out"
