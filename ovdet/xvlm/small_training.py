"""Training of the small X-VLM for the offline world: what its config names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.layers.compact import read_compact
from ovdet.layers.trunk import CompactTrunk
from ovdet.vlm.zoo import create_vlm
from ovdet.xvlm.build import xvlm_small
from ovdet.xvlm.small import TowerTokens
from ovdet.xvlm.training import XVLMTraining

ZOO = "zoo:"


def small_training(
    trunk: str | None = None,
    losses: Sequence[str] = ("contrast", "match", "box"),
    *,
    image_size: int = 256,
    width: int = 256,
    text_layers: int = 1,
    fusion_layers: int = 3,
    dropout: float = 0.1,
    by_picture: bool = False,
) -> XVLMTraining:
    """A small X-VLM with its losses; the temperature is kept in its bounds.

    Args:
        trunk: where the trunk starts: "zoo:sticker-clip", or a checkpoint with one trunk; None is random.
        losses: of "contrast", "match" and "box"; without "box", or with data of whole pictures alone, these are the
            ablations of the paper.
        image_size: side of the square input in pixels.
        width: of all tokens.
        text_layers: own ones, on the sentence tower's.
        fusion_layers: cross-modal ones.
        dropout: of the layers.
        by_picture: texts of one picture are no wrong partners of each other.

    Raises:
        InputError: the trunk cannot be read, or a size cannot be.
    """
    model = xvlm_small(image_size, width, text_layers, fusion_layers, dropout)
    if trunk is not None:
        model.image_encoder.trunk.load_state_dict(trunk_weights(trunk), strict=True)
    return XVLMTraining(model, TowerTokens(), losses, by_picture=by_picture, clamp_temperature=True)


def trunk_weights(origin: str) -> dict[str, Tensor]:
    """Weights of a `CompactTrunk`.

    Args:
        origin: "zoo:NAME" of a backbone that has one, or a checkpoint of a training or of compact weights.

    Raises:
        InputError: there is not exactly one whole trunk.
    """
    if origin.startswith(ZOO):
        found = getattr(create_vlm(origin.removeprefix(ZOO)), "trunk", None)
        if not isinstance(found, CompactTrunk):
            raise InputError(f"{origin} has no compact trunk; sticker-clip has one")
        return found.state_dict()
    if origin.endswith(".safetensors"):
        state: Mapping[str, Any] = read_compact(Path(origin))[0]
    else:
        content = load_checkpoint_file(origin)
        state = content.get("state_dict", content)
    wanted = CompactTrunk().state_dict()
    marker, first = "trunk.", next(iter(wanted))
    prefixes = [name.removesuffix(first) for name in state if name.endswith(f"{marker}{first}")]
    if len(prefixes) != 1:
        raise InputError(f"{origin} holds {len(prefixes)} compact trunks, expected one")
    weights = {name: state.get(f"{prefixes[0]}{name}") for name in wanted}
    wrong = [name for name, value in weights.items() if value is None or value.shape != wanted[name].shape]
    if wrong:
        raise InputError(f"{origin}: {prefixes[0]}{wrong[0]} is missing or of another size")
    return weights
