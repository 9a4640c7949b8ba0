"""All models whose weights the package brings along, whatever room they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from ovdet.layers.shipped import ShippedModel

_ROOMS = {"detect": ("detector", "vild"), "ground": ("grounder", "xvlm"), "segment": ("segmenter", "seggpt")}


@dataclass(frozen=True)
class Entry:
    """A shipped model, and the verb that takes it.

    Attributes:
        verb: of the command line.
        family: what it is.
        name: that `--model` takes.
        model: where it lies and what is known of it.
        load: gives its desk, on the CPU; raises InputError if the file is missing or damaged.
    """

    verb: str
    family: str
    name: str
    model: ShippedModel
    load: Callable[[], Any]


def shipped_models() -> Iterator[Entry]:
    """Detectors, then grounders, then segmenters."""
    for verb, (family, room) in _ROOMS.items():
        module = import_module(f"ovdet.{room}.shipped")
        for name, model in module.SHIPPED.items():
            yield Entry(verb, family, name, model, partial(module.load_shipped, name))
