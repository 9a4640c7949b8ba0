"""What a teacher store says about itself, and where its files lie.

STORE/plan.json                what is to be made; written first
STORE/blocks/000000.rows.npy   (N, D) float16, the teacher's embeddings
STORE/blocks/000000.boxes.npy  (N, 5) float32: x1, y1, x2, y2 in pixels of the picture on disk, score
STORE/blocks/000000.json       pictures and rows of the block, sizes and checksums of its files; written after them
STORE/pictures.npy             (M, 6) int64, see COLUMNS; sorted by picture id
STORE/index.json               facts, totals and blocks; written last: without it a store is unfinished
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ovdet.errors import InputError

FORMAT = "ovdet teacher store"
VERSION = 1
PLAN, INDEX, PICTURES, BLOCKS = "plan.json", "index.json", "pictures.npy", "blocks"
COLUMNS = ("image_id", "block", "first", "count", "height", "width")
"""Of pictures.npy: rows first to first + count of a block are those of the picture, which has this size in pixels."""


@dataclass(frozen=True)
class TeacherFacts:
    """Who made the rows, and how.

    Attributes:
        name: as `create_vlm` takes it.
        fingerprint: hash of its weights; the rows of another are of no use.
        embed_dim: width D of the rows.
        crop_scales: of the crops about each box whose features were summed.
        image_size: side in pixels that a crop is warped to.
        mean: of RGB in [0, 1], subtracted from a crop.
        std: of RGB in [0, 1], divided by.
        interpolation: how a crop is resampled.
        precision: of the teacher's arithmetic: "float32", "bfloat16" or "float16".
    """

    name: str
    fingerprint: str
    embed_dim: int
    crop_scales: Sequence[float] = (1.0, 1.5)
    image_size: int = 224
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    interpolation: str = "roi_align"
    precision: str = "float32"


@dataclass(frozen=True)
class StoreFacts:
    """What a store says about its rows.

    Attributes:
        teacher: who made them.
        proposals: where the boxes come from: "kind" ("file", "rpn" or "annotations") and what describes them, with a
            SHA-256 of the file or checkpoint.
        annotations: "file" and "sha256" of the annotation file that lists the pictures.
    """

    teacher: TeacherFacts
    proposals: Mapping[str, Any]
    annotations: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they look when read again."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, said: Any, path: Path) -> StoreFacts:
        """Read what `as_json` gave.

        Raises:
            InputError: a field is missing or of another type.
        """
        try:
            teacher = TeacherFacts(**said["teacher"])
            facts = cls(teacher, dict(said["proposals"]), dict(said["annotations"]))
            if not isinstance(teacher.embed_dim, int) or not isinstance(teacher.fingerprint, str):
                raise TypeError("embed_dim or fingerprint")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} does not say which teacher made the rows, and from which boxes ({error})"
            ) from error
        return facts


def read_stated(path: Path) -> dict[str, Any]:
    """Read the plan or the index of a store: a JSON object of this format and version.

    Raises:
        InputError: it cannot be read, is something else, or is of another version.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: it is not valid JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not of a teacher store")
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} is of version {content.get('version')!r} of the format, but this ovdet reads version {VERSION}; "
            "make the store again"
        )
    return content


def stated(**content: Any) -> bytes:
    """The bytes of a plan or an index."""
    return json.dumps({"format": FORMAT, "version": VERSION, **content}, indent=1).encode()


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
