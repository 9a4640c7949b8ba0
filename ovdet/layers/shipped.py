"""Weights that the package brings along: where they lie, and what is to be known of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ovdet.errors import InputError


@dataclass(frozen=True)
class ShippedModel:
    """A model whose weights lie in the package.

    Attributes:
        path: of its compact checkpoint.
        domain: what pictures it reads, and which it does not.
        licence: of the weights; whose work they were trained on stands in NOTICE.
        source: how they were made.
    """

    path: Path
    domain: str
    licence: str
    source: str

    @property
    def is_here(self) -> bool:
        """Whether the weights are in this installation."""
        return self.path.is_file()

    @property
    def size_mb(self) -> int:
        """Of the weights, rounded up; 0 if they are not here."""
        return -(-self.path.stat().st_size // 1_000_000) if self.is_here else 0

    def checked_path(self, name: str) -> Path:
        """The path, if the file is there.

        Args:
            name: by which the user asked for the model.

        Raises:
            InputError: it is missing.
        """
        if not self.is_here:
            raise InputError(
                f"the weights of model {name!r} are missing from this installation of ovdet; install it again"
            )
        return self.path


def unknown_model(model: object, shipped: Iterable[str]) -> InputError:
    """Say in one sentence that no model has this name, and which may be meant."""
    names = list(shipped)
    near = get_close_matches(str(model), names, 1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"give a checkpoint, or one of {', '.join(names)}"
    return InputError(f"unknown model {model!r}; {hint}")
