"""Small weight files: matrices as signed bytes with a scale for each output channel, all else in half precision.

A number is `code * scale`, the code in -127..127. Matrices too small to be worth a scale, and vectors, are kept in
half precision; running statistics of normalisation, and what half precision cannot hold, in single precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ovdet.errors import InputError
from ovdet.files import replacing

FORMAT = "ovdet-compact-1"
CODES, SCALES = ".int8", ".scale"
SMALLEST = 4096
"""A matrix of fewer numbers is kept in half precision."""
STATISTICS = ("running_mean", "running_var")
HIGHEST = 127


def pack_int8(state_dict: Mapping[str, Tensor], smallest: int = SMALLEST) -> dict[str, Tensor]:
    """Round a state dict to bytes.

    Args:
        state_dict: float tensors of any precision; others (counters, masks) go through unchanged.
        smallest: fewest numbers of a matrix or kernel, (R, ...), that is kept in bytes; a large value packs
            everything in half precision.

    Returns:
        For a packed tensor `name`: `name.int8` (R, ...) int8 and `name.scale` (R,) float16; else `name`.

    Raises:
        InputError: a weight is no number, as after a training that diverged.
    """
    packed: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        value = value.detach().cpu()
        if not value.is_floating_point():
            packed[name] = value.contiguous()
            continue
        value = value.float().contiguous()
        if not value.isfinite().all():
            raise InputError(f"weight {name!r} holds numbers that are not finite; its training diverged")
        if value.ndim >= 2 and value.numel() >= smallest:
            packed[name + CODES], packed[name + SCALES] = _round(value)
        else:
            keep = name.endswith(STATISTICS) or bool((value.abs() > torch.finfo(torch.float16).max).any())
            packed[name] = value if keep else value.half()
    return packed


def unpack_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack_int8`: floats come back in single precision.

    Raises:
        InputError: codes without their scales, or of another shape.
    """
    state_dict: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(SCALES) and name.removesuffix(SCALES) + CODES in tensors:
            continue
        if not name.endswith(CODES):
            state_dict[name] = value.float() if value.is_floating_point() else value
            continue
        base = name.removesuffix(CODES)
        scales = tensors.get(base + SCALES)
        if scales is None or value.dtype != torch.int8 or value.ndim < 2 or scales.shape != value.shape[:1]:
            raise InputError(f"weight {base!r} has no scales that fit")
        state_dict[base] = value.float() * _as_column(scales, value.ndim)
    return state_dict


def write_compact(
    path: Path, state_dict: Mapping[str, Tensor], facts: Mapping[str, Any], smallest: int = SMALLEST
) -> None:
    """Pack weights and write them with what is to be known of them; the file is whole or not there.

    Args:
        path: of the file (.safetensors).
        state_dict: as for `pack_int8`.
        facts: plain values that JSON can hold.
        smallest: as for `pack_int8`.

    Raises:
        InputError: it cannot be written, or a weight is no number.
    """
    packed = pack_int8(state_dict, smallest)
    metadata = {"format": FORMAT, "sha256": digest_of(packed), "facts": json.dumps(facts, sort_keys=True)}
    with replacing(path) as temporary:
        mode = temporary.stat().st_mode
        try:
            save_file(packed, temporary, metadata=metadata)
            temporary.chmod(mode)  # safetensors writes for the owner's eyes only
        except SafetensorError as error:  # as which it reports a full disk
            raise InputError(f"cannot write {path}: {error}") from error


def read_compact(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_compact` wrote; nothing in the file is run.

    Returns:
        The state dict in single precision, on the CPU, and the facts.

    Raises:
        InputError: no such file, damaged, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path} is no file of compact weights ({FORMAT}); give one that ovdet wrote")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if metadata.get("sha256") != digest_of(tensors):
            raise InputError(f"the weights in {path} are damaged: their digest differs; fetch the file again")
        facts = json.loads(metadata["facts"])
        if not isinstance(facts, dict):
            raise ValueError("no facts")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except InputError:
        raise
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    return unpack_int8(tensors), facts


def is_compact(path: Path) -> bool:
    """Whether a file is one that `read_compact` reads, by its header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes, types and bytes, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _round(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(R, ...) float32 -> codes of the same shape, int8, and scales (R,) float16."""
    scales = (weight.flatten(1).abs().amax(1) / HIGHEST).clamp(max=torch.finfo(torch.float16).max).half()  # (R,)
    steps = _as_column(scales, weight.ndim)  # codes fit the scales as stored
    codes = torch.where(steps > 0, weight / steps.clamp_min(torch.finfo(torch.float16).tiny / 1024), 0.0)
    return codes.round().clamp(-HIGHEST, HIGHEST).to(torch.int8), scales


def _as_column(scales: Tensor, ndim: int) -> Tensor:
    """(R,) -> (R, 1, ...) float32 of `ndim` axes."""
    return scales.float().view(-1, *[1] * (ndim - 1))
