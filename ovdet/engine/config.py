"""Loading a config and overriding its fields, with mistakes told in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch.utils.data import DataLoader

from ovdet.errors import InputError

RUNNER_KEYS = (
    "auto_scale_lr", "cfg", "custom_hooks", "data_preprocessor", "default_hooks", "default_scope", "env_cfg",
    "experiment_name", "find_unused_parameters", "launcher", "load_from", "log_level", "log_processor", "model",
    "model_wrapper_cfg", "optim_wrapper", "param_scheduler", "randomness", "resume", "sync_bn", "test_cfg",
    "test_dataloader", "test_evaluator", "train_cfg", "train_dataloader", "val_cfg", "val_dataloader",
    "val_evaluator", "visualizer", "work_dir",
)  # fmt: skip
"""Top-level fields that mmengine's Runner reads, so that they may be set where a config does not state them."""

_LOADER = {"batch_sampler", "collate_fn", "dataset", "num_batch_per_epoch", "sampler"}
_LOADER |= set(inspect.signature(DataLoader).parameters)
SECTIONS = {
    "auto_scale_lr": {"base_batch_size", "enable"},
    "default_hooks": {"checkpoint", "logger", "param_scheduler", "runtime_info", "sampler_seed", "timer"},
    "env_cfg": {"cudnn_benchmark", "dist_cfg", "mp_cfg", "resource_limit"},
    "optim_wrapper": {"accumulative_counts", "clip_grad", "constructor", "dtype", "loss_scale", "paramwise_cfg"},
    "randomness": {"deterministic", "diff_rank_seed", "seed"},
    **{f"{phase}_dataloader": _LOADER for phase in ("train", "val", "test")},
}
"""Fields of top-level sections that their readers know, whether a config states them or not."""


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a Python config and override fields.

    Args:
        path: of the config.
        options: dotted field -> value, as of `--cfg-options`; list items by number ("custom_hooks.0.templates").

    Raises:
        InputError: there is no such file, it does not run or has no model, or a field is unknown (the nearest is
            suggested).
    """
    if not Path(path).is_file():
        raise InputError(f"there is no config {path}")
    try:
        config = Config.fromfile(str(path))
    except Exception as error:
        # A config is code: whatever it may raise is its author's mistake, and is told as such.
        raise InputError(f"the config {path} does not load: {type(error).__name__}: {error}") from error
    if "model" not in config:
        raise InputError(f"{path} is no config of a detector: it has no `model`")
    for key in options or {}:
        _check_field(config, key)
    if options:
        config.merge_from_dict(dict(options), allow_list_keys=True)
    return config


def apply_seed(config: Config, seed: int | None = None) -> None:
    """Give one seed to everything that draws: the Runner, the training data and its sampler.

    Args:
        config: changed in place.
        seed: None takes `randomness.seed` of the config, or 0.
    """
    randomness = dict(config.get("randomness") or {})
    randomness["seed"] = randomness.get("seed", 0) if seed is None else seed
    config.randomness = randomness
    loader = config.get("train_dataloader")
    for part in ("sampler", "dataset") if loader else ():
        if "seed" in _parameters((loader.get(part) or {}).get("type")):
            loader[part]["seed"] = randomness["seed"]


def _check_field(config: Config, key: str) -> None:
    """Refuse a dotted field that neither the config states nor its owner takes."""
    parts = key.split(".")
    owner: Any = config
    for depth, part in enumerate(parts):
        if isinstance(owner, list | tuple):
            if not part.isdigit() or int(part) >= len(owner):
                raise InputError(
                    f"--cfg-options {key}: {'.'.join(parts[:depth])} is a list of {len(owner)}, so {part!r} "
                    f"should be a number below {len(owner)}"
                )
            owner = owner[int(part)]
            continue
        known = _known_fields(owner, parts[:depth])
        if known is None:
            return
        section = part in SECTIONS and depth == 0
        if part not in _stated(owner) and not (part in known and (depth == len(parts) - 1 or section)):
            near = get_close_matches(part, sorted(known), 1, cutoff=0.5)
            hint = f"; did you mean {'.'.join([*parts[:depth], near[0]])!r}?" if near else ""
            raise InputError(f"--cfg-options: the config has no field {key!r}{hint}")
        owner = owner.get(part, {})


def _stated(owner: Any) -> set[str]:
    return set(owner.keys()) if isinstance(owner, Mapping | Config) else set()


def _known_fields(owner: Any, path: Sequence[str]) -> set[str] | None:
    """Fields that may be set on the part of a config at a path; None if there is no telling."""
    stated = _stated(owner)
    if not path:
        return stated | set(RUNNER_KEYS)
    if len(path) == 1 and path[0] in SECTIONS:
        return stated | SECTIONS[path[0]]
    if "type" not in stated:
        return stated
    taken = _parameters(owner.get("type"))
    return None if "**" in taken else stated | taken


def _parameters(builder: Any) -> set[str]:
    """Names of a callable's arguments, with "**" where it takes any; also "**" where it cannot be looked into."""
    if not callable(builder):
        return {"**"}
    taken = inspect.signature(builder).parameters.values()
    return {"**" if one.kind is one.VAR_KEYWORD else one.name for one in taken}
