"""A model that remembers how it was built, for checkpoints that explain themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

from mmengine.registry import DefaultScope

from ovdet.vild.model import ViLDModel

INITIAL_WEIGHTS = ("backbone_checkpoint", "trunk_checkpoint", "with_projection")
"""Arguments that say where training starts from: of no interest to who has the weights."""


def records_recipe(builder: Callable[..., ViLDModel]) -> Callable[..., ViLDModel]:
    """Let the model remember by which builder and arguments it was made."""

    @wraps(builder)
    def build(*arguments: Any, **named: Any) -> ViLDModel:
        with DefaultScope.overwrite_default_scope("mmdet"):  # a Runner of this process may have set another
            model = builder(*arguments, **named)
        given = signature(builder).bind(*arguments, **named)
        given.apply_defaults()
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in given.arguments.items()}
        for name in INITIAL_WEIGHTS:
            plain.pop(name, None)
        model.recipe = {"builder": builder.__name__, "arguments": plain}
        return model

    return build
