"""A learned prompt as a file: what in-context tuning gives (arXiv:2304.03284, section 3.3), for use with its model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ovdet.errors import InputError
from ovdet.files import replacing
from ovdet.seggpt.colours import check_names
from ovdet.seggpt.model import Kind, SegGPTModel

FORMAT = "ovdet-prompt-2"
FACTS = "_extra_state"
"""Last part of the key under which a checkpoint of tuning keeps names, colours and kind, as bytes of JSON."""


@dataclass(frozen=True, eq=False)
class TunedPrompt:
    """A picture and its painting that were learned for one model, and what the paints stand for.

    Attributes:
        picture: (3, h, w) float32, as `SegGPTModel.normalise` gives it.
        painting: (3, h, w) float32, likewise.
        names: of K classes.
        colours: (K, 3) uint8, each class's.
        kind: of the masks.
        tuned_for: `fingerprint` of the model.

    Raises:
        InputError: names are blank or double, or do not fit the colours.
    """

    picture: Tensor
    painting: Tensor
    names: tuple[str, ...]
    colours: np.ndarray
    kind: Kind
    tuned_for: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", check_names(tuple(self.names)))
        object.__setattr__(self, "colours", np.asarray(self.colours, np.uint8).reshape(-1, 3))
        distinct = len({tuple(colour) for colour in self.colours.tolist()} | {(0, 0, 0)}) - 1
        if not len(self.names) == len(self.colours) == distinct:
            raise InputError(
                f"a prompt needs a colour for each name, none twice and none black; got {len(self.names)} names and "
                f"{len(self.colours)} colours, {distinct} of them usable"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as safetensors, whole or not at all.

        Raises:
            InputError: the file cannot be written.
        """
        tensors = {"picture": self.picture.float().contiguous(), "painting": self.painting.float().contiguous()}
        said = {"format": FORMAT, "tuned_for": self.tuned_for, **pack_facts(self.names, self.colours, self.kind)}
        with replacing(Path(path)) as temporary:
            save_file(tensors, temporary, {key: json.dumps(value) for key, value in said.items()})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TunedPrompt:
        """Read a file of `save`.

        Raises:
            InputError: there is no such file, or it is no prompt.
        """
        try:
            with safe_open(path, "pt") as file:
                said = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
                if said.get("format") != FORMAT:
                    raise InputError(f"{path} is no tuned prompt; tools/convert/seggpt.py makes one of a training")
                picture, painting = (file.get_tensor(name) for name in ("picture", "painting"))
            return cls(picture, painting, **unpack_facts(said), tuned_for=str(said["tuned_for"]))
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read the prompt {path}: {error}") from error
        except (ValueError, KeyError) as error:
            raise InputError(f"{path} is no tuned prompt, or a damaged one ({error})") from error

    def check(self, model: SegGPTModel) -> None:
        """Refuse another model than the one it was tuned for.

        Raises:
            InputError: the model takes other sizes, or has other weights.
        """
        wanted = (3, *model.config.picture_hw)
        for name in ("picture", "painting"):
            if tuple(getattr(self, name).shape) != wanted:
                raise InputError(
                    f"the prompt's {name} is {tuple(getattr(self, name).shape)}, but the model takes {wanted}"
                )
        if self.tuned_for != fingerprint(model):
            raise InputError("the prompt was tuned for other weights than these; a prompt is of use with its own alone")


def fingerprint(model: SegGPTModel) -> str:
    """Of a model's weights, by its tokens in half precision: the same for a checkpoint and its compact file."""
    digest = hashlib.sha256()
    for token in (model.mask_token, model.picture_token, model.painting_token):
        digest.update(token.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()


def pack_facts(names: tuple[str, ...], colours: np.ndarray, kind: Kind) -> dict[str, Any]:
    """What a prompt says beside its tensors, in plain values."""
    return {"names": list(names), "colours": np.asarray(colours).tolist(), "kind": int(kind)}


def unpack_facts(said: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `pack_facts`: arguments of `TunedPrompt`."""
    return {
        "names": tuple(said["names"]),
        "colours": np.asarray(said["colours"], np.uint8),
        "kind": Kind(said["kind"]),
    }


def prompt_of_training(state_dict: Mapping[str, Any]) -> TunedPrompt | None:
    """Take the prompt out of a checkpoint of in-context tuning; None if it is of another training.

    Args:
        state_dict: of tools/train.py.
    """
    prefix = next((key.removesuffix("painting") for key in state_dict if key.split(".")[-1] == "painting"), None)
    if prefix is None or f"{prefix}{FACTS}" not in state_dict:
        return None
    said = json.loads(bytes(state_dict[f"{prefix}{FACTS}"].tolist()))
    return TunedPrompt(
        state_dict[f"{prefix}picture"], state_dict[f"{prefix}painting"], **unpack_facts(said), tuned_for=said["for"]
    )


def facts_tensor(prompt: TunedPrompt) -> Tensor:
    """What `prompt_of_training` reads, as a tensor, which every kind of checkpoint can hold."""
    said = {**pack_facts(prompt.names, prompt.colours, prompt.kind), "for": prompt.tuned_for}
    return torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8).clone()
