"""Checkpoints: our own, which say how to build themselves, whole or compact; and DetPro's, turned into ours."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
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
from ovdet.vild.build import BUILDERS
from ovdet.vild.config import Variant
from ovdet.vild.model import ViLDModel

FORMAT = 1
"""Of the dictionary under "ovdet"."""
COMPACT = ".safetensors"
"""Suffix of compact files."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint says about itself, beside the weights, under the key "ovdet".

    Attributes:
        builder: a key of `BUILDERS`.
        arguments: plain values for it.
        text_tower: "name" as `create_vlm` takes it, optionally "weights" and "fingerprint".
        templates: prompt set that the class embeddings of training were made with.
        class_names: of the training set.
        base_mask: which of them were learned; as long as class_names.
        test_scale: long and short side in pixels that a picture is fitted into; empty for its own size.
        score_threshold: below which a detection is not worth showing to a person.
    """

    builder: str
    arguments: dict[str, Any] = field(default_factory=dict)
    text_tower: dict[str, Any] = field(default_factory=dict)
    templates: str = "vild63"
    class_names: Sequence[str] = ()
    base_mask: Sequence[bool] = ()
    test_scale: Sequence[int] = (1333, 800)
    score_threshold: float = 0.3

    def __post_init__(self) -> None:
        if self.builder not in BUILDERS:
            raise InputError(f"the builder must be one of {', '.join(BUILDERS)}, got {self.builder!r}")
        for name, kind in (
            ("arguments", Mapping),
            ("text_tower", Mapping),
            ("templates", str),
            ("score_threshold", float),
        ):
            if not isinstance(getattr(self, name), kind):
                raise InputError(
                    f"{name} must be of type {getattr(kind, '__name__', kind)}, got {getattr(self, name)!r}"
                )
        if not all(isinstance(name, str) for name in self.class_names):
            raise InputError("class_names must be texts")
        if len(self.class_names) != len(self.base_mask):
            raise InputError(f"{len(self.class_names)} class_names but {len(self.base_mask)} values in base_mask")
        if len(self.test_scale) not in (0, 2) or not all(
            isinstance(side, int) and side > 0 for side in self.test_scale
        ):
            raise InputError(f"test_scale must be two sides in pixels, or none, got {self.test_scale!r}")

    @property
    def base_names(self) -> list[str]:
        """Names of the classes that were learned."""
        return [name for name, learned in zip(self.class_names, self.base_mask, strict=True) if learned]

    def build(self) -> ViLDModel:
        """Build the model, weights as they come."""
        try:
            return BUILDERS[self.builder](**self.arguments)
        except TypeError as error:
            raise InputError(f"{self.builder} does not take these arguments: {error}") from error


def load_model(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> tuple[ViLDModel, CheckpointFacts]:
    """Build the model that a checkpoint describes and load its weights, strictly; nothing in the file is run.

    Raises:
        InputError: no such file, damaged, not made by this room, or the weights do not fit.
    """
    checkpoint = read_checkpoint(path)
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


def read_checkpoint(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What a checkpoint holds, "state_dict" and "ovdet", whole or compact; nothing in the file is run.

    Raises:
        InputError: no such file, damaged, or no checkpoint.
    """
    file = Path(path)
    if file.suffix != COMPACT or not file.is_file():
        return load_checkpoint_file(path)
    state_dict, facts = read_compact(file)
    return {"state_dict": state_dict, "ovdet": facts}


def read_facts(checkpoint: Mapping[str, Any]) -> CheckpointFacts:
    """Read and check what a checkpoint says about itself; unknown entries are left alone.

    Raises:
        InputError: nothing is said, or something that cannot be.
    """
    said = checkpoint.get("ovdet")
    if not isinstance(said, Mapping):
        raise InputError(
            "it does not say how to build its model (no 'ovdet' entry); train with tools/train.py, or convert a "
            "foreign file with tools/convert/vild.py"
        )
    check_room(said, "vild", FORMAT)
    known = {key: said[key] for key in CheckpointFacts.__dataclass_fields__ if said.get(key) is not None}
    try:
        return CheckpointFacts(**known)
    except TypeError as error:
        raise InputError(f"its 'ovdet' entry is damaged: {error}") from error


def save_model(model: ViLDModel, facts: CheckpointFacts, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint that `load_model` reads; it is whole or not there.

    Raises:
        InputError: it cannot be written.
    """
    content = {"state_dict": model.state_dict(), "ovdet": {"format": FORMAT, "room": "vild", **_plain(asdict(facts))}}
    file = Path(path)
    try:
        with replacing(file) as temporary:
            torch.save(content, temporary)
    except RuntimeError as error:  # as which torch reports a full disk
        raise InputError(f"cannot write checkpoint '{file}': {error}") from error


def save_compact(
    model: ViLDModel, facts: CheckpointFacts, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint of a quarter of the size, its matrices in bytes, which `load_model` reads too.

    Args:
        model: with its weights.
        facts: as for `save_model`.
        path: of the file (.safetensors).
        about: what else the file shall say of itself: licence, attribution, training. Plain values.

    Raises:
        InputError: it cannot be written, or its suffix is another.
    """
    if Path(path).suffix != COMPACT:
        raise InputError(f"a compact checkpoint must end in {COMPACT}, got {path}")
    said = {"format": FORMAT, "room": "vild", **_plain(asdict(facts)), "about": _plain(about or {})}
    write_compact(Path(path), model.state_dict(), said)


def _plain(value: Any) -> Any:
    """Lists for tuples, all the way down: what weights-only loading and JSON both take."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# ---- DetPro (github.com/dyabel/detpro), mmdet 2.7


@dataclass(frozen=True)
class DetProWeights:
    """A converted DetPro state dict.

    Attributes:
        state_dict: for `vild_detpro_r50_fpn(variant, embed_dim=embed_dim, with_mask=with_mask)`.
        variant: "ensemble", or "vild" where the file has no image branch.
        embed_dim: width of the projection.
        with_mask: whether the file has a mask head.
        summary: what was left out, in one line.
    """

    state_dict: dict[str, Tensor]
    variant: Variant
    embed_dim: int
    with_mask: bool
    summary: str


_SAME = ("backbone.", "neck.", "rpn_head.", "roi_head.mask_head.", "roi_head.bbox_head.fc_reg.")

_RENAMES = (
    (r"roi_head\.projection\.(.+)", r"roi_head.bbox_head.proj.\1"),
    (r"roi_head\.projection_for_image\.(.+)", r"roi_head.image_head.proj.\1"),
    (r"roi_head\.bbox_head\.shared_(convs\.\d+)\.conv\.(.+)", r"roi_head.bbox_head.shared_\1.conv.\2"),
    (r"roi_head\.bbox_head\.shared_(convs\.\d+)\.bn\.(.+)", r"roi_head.bbox_head.shared_\1.norm.\2"),
    (r"roi_head\.bbox_head\.shared_(fcs\.\d+)\.(weight|bias)", r"roi_head.bbox_head.shared_\1.fc.\2"),
    (r"roi_head\.bbox_head\.shared_convs_for_image\.(\d+)\.conv\.(.+)", r"roi_head.image_head.shared_convs.\1.conv.\2"),
    (r"roi_head\.bbox_head\.shared_convs_for_image\.(\d+)\.bn\.(.+)", r"roi_head.image_head.shared_convs.\1.norm.\2"),
    (r"roi_head\.bbox_head\.shared_fcs_for_image\.(\d+)\.(weight|bias)", r"roi_head.image_head.shared_fcs.\1.fc.\2"),
)

_TEACHER = "roi_head.clip_model."

_BACKGROUND = ("roi_head.bg_embedding.weight", "roi_head.bg_embedding.bias")


def convert_detpro(state_dict: Mapping[str, Tensor]) -> DetProWeights:
    """Rename the weights of a DetPro or ViLD* checkpoint (Mask R-CNN form).

    The teacher inside is dropped. DetPro's background is a linear layer on the number 1, so its vector is weight
    plus bias. Class embeddings, temperature and exponents were never in such a file.

    Raises:
        InputError: a weight is missing, or one has no place here.
    """
    if any(re.match(r"roi_head\.bbox_head\.\d+\.", key) for key in state_dict):
        raise InputError("this is a Cascade R-CNN checkpoint; only DetPro's Mask R-CNN form can be converted")
    missing = [key for key in (*_BACKGROUND, "roi_head.projection.weight") if key not in state_dict]
    if missing:
        raise InputError(f"this is no DetPro checkpoint: it has no {missing[0]}")
    dropped = [key for key in state_dict if key.startswith(_TEACHER)]
    weight, bias = (state_dict[key] for key in _BACKGROUND)
    converted = {"roi_head.bbox_head.bg_embedding": weight[:, 0] + bias}  # (D,)
    unknown = []
    for key, value in state_dict.items():
        name = _new_name(key)
        if name is not None:
            converted[name] = value
        elif key not in _BACKGROUND and not key.startswith(_TEACHER):
            unknown.append(key)
    if unknown:
        raise InputError(f"{len(unknown)} weights have no place in ViLD, the first of them {unknown[0]}")
    has_image_branch = any(key.startswith("roi_head.image_head.shared_convs.") for key in converted)
    if not has_image_branch:
        converted = {key: value for key, value in converted.items() if not key.startswith("roi_head.image_head.")}
    summary = f"{len(converted)} weights converted; {len(dropped)} of the CLIP teacher dropped; " + (
        "image branch found: ensemble" if has_image_branch else "no image branch: plain ViLD"
    )
    return DetProWeights(
        converted,
        "ensemble" if has_image_branch else "vild",
        len(state_dict["roi_head.projection.weight"]),
        any(key.startswith("roi_head.mask_head.") for key in converted),
        summary,
    )


def _new_name(key: str) -> str | None:
    """Our name for a DetPro weight, None if it has none."""
    if key.startswith(_SAME):
        return key
    for old, new in _RENAMES:
        if re.fullmatch(old, key):
            return re.sub(old, new, key)
    return None
