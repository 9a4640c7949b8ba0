"""A result that says how it was measured, so that two of them can be compared or refused."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovdet.files import write_whole
from ovdet.version import __version__

if TYPE_CHECKING:
    from torch import nn


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def module_digest(module: nn.Module) -> str:
    """SHA-256 of a model's weights and their names, for one that is not a file of its own."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_result(path: str | Path, metrics: dict[str, float], report: dict[str, Any], stamp: dict[str, Any]) -> None:
    """Write metrics, numbers of each class and the protocol as one JSON file, whole or not at all.

    Args:
        path: of the file.
        metrics: name -> number.
        report: "per_class", "protocol" and "evaluator" (who counted) of the evaluator; all may be missing.
        stamp: what only the tool knows: command, config, checkpoint, vocabulary.

    Raises:
        InputError: the file cannot be written.
    """
    evaluator = report.get("evaluator", f"pycocotools {version('pycocotools')}")
    software = {"ovdet": __version__, "evaluator": evaluator}
    content = {
        "metrics": metrics,
        "per_class": report.get("per_class", []),
        "protocol": {**report.get("protocol", {}), **stamp, **software},
    }
    write_whole(Path(path), (json.dumps(content, indent=2) + "\n").encode())
