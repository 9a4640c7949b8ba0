"""Weights of compact trunks, wherever they were trained: what other networks may start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.layers.compact import read_compact
from ovdet.layers.trunk import CompactTrunk
from ovdet.vlm.zoo import create_vlm

ZOO, PACKAGE = "zoo:", "package:"
HOME = Path(__file__).parents[1]


def trunk_weights(origin: str) -> dict[str, Tensor]:
    """Weights of a `CompactTrunk`.

    Args:
        origin: "zoo:NAME" of a backbone that has one; "package:FILE" of weights that are shipped, such as
            "package:vild/stickers.safetensors"; or a checkpoint of a training or of compact weights.

    Raises:
        InputError: there is not exactly one whole trunk.
    """
    if origin.startswith(ZOO):
        found = getattr(create_vlm(origin.removeprefix(ZOO)), "trunk", None)
        if not isinstance(found, CompactTrunk):
            raise InputError(f"{origin} has no compact trunk; sticker-clip has one")
        return found.state_dict()
    if origin.startswith(PACKAGE):
        origin = str(HOME / origin.removeprefix(PACKAGE))
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
    weights: dict[str, Any] = {name: state.get(f"{prefixes[0]}{name}") for name in wanted}
    wrong = [name for name, value in weights.items() if value is None or value.shape != wanted[name].shape]
    if wrong:
        raise InputError(f"{origin}: {prefixes[0]}{wrong[0]} is missing or of another size")
    return weights
