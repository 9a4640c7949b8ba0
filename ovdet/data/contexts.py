"""Contexts: a few pictures that share something, so that one can show what to colour in another.

SegGPT, section 3.1: on semantic data the context is, half of the time, another view of the same picture, else another
picture with a class in common; on instance data always another view of the same picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ovdet.data.segments import SegmentedPicture, by_colour, by_instance, by_part
from ovdet.errors import InputError

SEG_TYPES = {"semantic": 0, "part": 0, "colour": 0, "instance": 1}
"""Kind of context -> which of the two type tokens tells the model: 0 for categories, 1 for instances."""
_TRIES = 8
"""Other pictures looked at for a shared key before another view of the same one is taken."""


@dataclass(frozen=True, eq=False)
class Context:
    """Pictures of one context; the first is the target, the others show what is meant.

    Attributes:
        pictures: at least two; the same one may come several times, for several views of it.
        kind: of `SEG_TYPES`.
    """

    pictures: tuple[SegmentedPicture, ...]
    kind: str


class ContextSource(Protocol):
    """Where contexts come from."""

    def draw(self, rng: np.random.Generator, number: int, count: int) -> Context:
        """A context of `count` pictures.

        Args:
            rng: source of all randomness.
            number: of the sample in the stream of training, for sources that change as training goes on.
            count: at least 2.
        """


class PictureSource(Protocol):
    """Segmented pictures of one data set, read when asked for."""

    def __len__(self) -> int:
        """Number of pictures."""

    def keys_of(self, index: int) -> Sequence[int]:
        """Keys of a picture, without reading its pixels."""

    def __getitem__(self, index: int) -> SegmentedPicture:
        """One picture."""


class PictureContexts:
    """Contexts out of a data set on disk.

    Args:
        source: of the pictures. For kind "part" either its classes are parts, or `cut_parts` makes some.
        kind: "semantic" (things of a class), "part", "instance" (single things) or "colour" (things of a colour).
        same_picture: how often the context is another view of the target itself; None is 1 for instances and 0.5
            for all else. Videos, whose keys are objects, can show an instance in another frame.
        same_objects: keys of the source are objects, which are the same thing in several pictures (video).
        cut_parts: parts are the larger colours of each segment.

    Raises:
        InputError: the kind is unknown, no picture has a segment, or instances are looked for in other pictures.
    """

    def __init__(
        self,
        source: PictureSource,
        kind: str = "semantic",
        same_picture: float | None = None,
        *,
        same_objects: bool = False,
        cut_parts: bool = False,
    ) -> None:
        if kind not in SEG_TYPES:
            raise InputError(f"there is no kind of context {kind!r}; choose one of {', '.join(SEG_TYPES)}")
        alone = kind == "instance" and not same_objects
        self.same_picture = (1.0 if alone else 0.5) if same_picture is None else same_picture
        if alone and self.same_picture < 1:
            raise InputError("an instance is in one picture only: same_picture must be 1 unless keys are objects")
        self.source, self.kind = source, kind
        self._regroup: Callable[[SegmentedPicture], SegmentedPicture] | None = {
            "instance": by_instance if alone else None,
            "colour": by_colour,
            "part": by_part if cut_parts else None,
        }.get(kind)
        self.targets = np.flatnonzero([bool(len(source.keys_of(index))) for index in range(len(source))])
        if not len(self.targets):
            raise InputError("the data set has no picture with a segment: there is nothing to learn from")

    @cached_property
    def by_key(self) -> dict[int, np.ndarray]:
        """Key -> positions of the pictures that have it."""
        found: dict[int, list[int]] = {}
        for index in self.targets.tolist():
            for key in sorted(set(self.source.keys_of(index))):
                found.setdefault(key, []).append(index)
        return {key: np.asarray(indices) for key, indices in found.items()}

    def draw(self, rng: np.random.Generator, number: int, count: int) -> Context:
        """A context; see `ContextSource`."""
        index = int(self.targets[rng.integers(len(self.targets))])
        target = self._read(index)
        if rng.random() < self.same_picture:
            return Context((target,) * count, self.kind)
        others = self._others(rng, index, target, count - 1)
        return Context((target, *(others or (target,) * (count - 1))), self.kind)

    def _others(
        self, rng: np.random.Generator, index: int, target: SegmentedPicture, count: int
    ) -> tuple[SegmentedPicture, ...]:
        """Other pictures that share one key of the target, the same key for all; none if there are none."""
        keys = sorted(set(self.source.keys_of(index)))
        wanted = keys[int(rng.integers(len(keys)))]
        candidates = np.arange(len(self.source)) if self.kind == "colour" else self.by_key[wanted]
        shown, shared = set(target.shown().tolist()), None
        found: list[SegmentedPicture] = []
        for _ in range(_TRIES * count):
            if len(found) == count:
                break
            other = int(candidates[rng.integers(len(candidates))])
            if other == index and len(candidates) > 1:
                continue
            picture = self._read(other)
            common = (shown if shared is None else shared) & set(picture.shown().tolist())
            if common and other != index:
                shared = common
                found.append(picture)
        return tuple(found[place % len(found)] for place in range(count)) if found else ()

    def _read(self, index: int) -> SegmentedPicture:
        picture = self.source[index]
        return picture if self._regroup is None else self._regroup(picture)
