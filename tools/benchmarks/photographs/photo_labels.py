"""The hand-labelled photographs: read and check `labels.json`, and find each picture in its package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

LABELS_FILE = Path(__file__).with_name("labels.json")
HALVES = ("development", "report")


@dataclass(frozen=True)
class Box:
    """One named box; `xyxy` in pixels of the picture, x to the right, y down."""

    name: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Photograph:
    """One picture and everything that was said about it by hand.

    Attributes:
        id: short name, unique.
        half: "development" or "report".
        kind: "animal", "vehicle", "household", "people" or "place".
        package: the pip or Debian package that carries the picture.
        path: inside the package's site-packages (pip) or inside its unpacked tree (Debian).
        sha256: of the picture's file.
        size_hw: height and width in pixels.
        licence: of the picture, and who says so.
        objects: every instance of every name that is asked for and present.
        ignore: where a detection of that name is neither right nor wrong (crowds, unlabelled or doubtful things).
        absent: names to ask for that are not in the picture.
    """

    id: str
    half: str
    kind: str
    package: str
    path: str
    sha256: str
    size_hw: tuple[int, int]
    licence: str
    objects: tuple[Box, ...]
    ignore: tuple[Box, ...]
    absent: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names of the objects, each once, in the file's order."""
        return list(dict.fromkeys(box.name for box in self.objects))


@dataclass(frozen=True)
class Labels:
    """The whole of `labels.json`.

    Attributes:
        photographs: all of them, both halves.
        packages: package name -> {"kind": "pip" or "deb", "version", and for a Debian package "release"}.
        not_in_imagenet: names for which none of the 1,000 ImageNet classes is that thing or a kind of it.
        sha256: of the file.
    """

    photographs: tuple[Photograph, ...]
    packages: Mapping[str, Mapping[str, str]]
    not_in_imagenet: frozenset[str]
    sha256: str

    def half(self, half: str) -> list[Photograph]:
        """The photographs of one half, in the file's order."""
        return [photo for photo in self.photographs if photo.half == half]

    def names_of(self, half: str) -> list[str]:
        """Every name, present or absent, that is asked of any picture of one half; sorted."""
        photos = self.half(half)
        return sorted({name for photo in photos for name in (*photo.names, *photo.absent)})


def read_labels(file: Path = LABELS_FILE) -> Labels:
    """Read the labels.

    Raises:
        ValueError: the file breaks a rule of README.md; the message names the photograph and the field.
    """
    content = file.read_bytes()
    data = json.loads(content)
    labels = Labels(
        photographs=tuple(_photograph(entry) for entry in data["photographs"]),
        packages=data["packages"],
        not_in_imagenet=frozenset(data["not_in_imagenet"]),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    check_labels(labels)
    return labels


def check_labels(labels: Labels) -> None:
    """Raise ValueError for the first rule that is broken: see README.md for the rules."""
    ids = [photo.id for photo in labels.photographs]
    hashes = [photo.sha256 for photo in labels.photographs]
    if len(set(ids)) < len(ids) or len(set(hashes)) < len(hashes):
        raise ValueError("labels: an id or a picture occurs twice")
    for photo in labels.photographs:
        problem = _problem(photo, labels)
        if problem:
            raise ValueError(f"labels, photograph {photo.id}: {problem}")


def _problem(photo: Photograph, labels: Labels) -> str | None:
    height, width = photo.size_hw
    if photo.half not in HALVES:
        return f"half must be one of {HALVES}, got {photo.half!r}"
    if photo.package not in labels.packages:
        return f"package {photo.package!r} is not listed under packages"
    if not photo.objects:
        return "no object"
    for box in (*photo.objects, *photo.ignore):
        x1, y1, x2, y2 = box.xyxy
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            return f"box {box.xyxy} of {box.name!r} leaves the picture of {width}x{height} or is empty"
    names = [*photo.names, *photo.absent]
    if any(not name.strip() or name != name.strip() for name in [*names, *(box.name for box in photo.ignore)]):
        return "a name is blank or has spaces around it"
    if len(set(names)) < len(names):
        return "a name is listed as absent twice, or both as present and as absent"
    if not 3 <= len(names) <= 10:
        return f"3 to 10 names a picture, got {len(names)}"
    return None


def _photograph(entry: Mapping[str, Any]) -> Photograph:
    fields = dict(entry)
    for key in ("objects", "ignore"):
        fields[key] = tuple(Box(box["name"], tuple(box["box_xyxy"])) for box in fields[key])
    fields["size_hw"] = tuple(fields["size_hw"])
    fields["absent"] = tuple(fields["absent"])
    return Photograph(**fields)


def find_photograph(photo: Photograph, roots: Sequence[Path]) -> Path | None:
    """The picture's file, or None if it is nowhere.

    Looked for, in this order: ROOT/PACKAGE/PATH and ROOT/PATH for each root, the installed Python packages,
    and the system (`apt-get install` of a Debian package).
    """
    candidates = [root / folder / photo.path for root in roots for folder in (photo.package, "")]
    top, _, inside = photo.path.partition("/")
    spec = find_spec(top) if top.isidentifier() else None
    candidates += [Path(folder) / inside for folder in (spec.submodule_search_locations or () if spec else ())]
    candidates.append(Path("/") / photo.path)
    return next((file for file in candidates if file.is_file()), None)


def how_to_get(packages: Iterable[str], labels: Labels, root: Path) -> list[str]:
    """One shell command for each package; Debian packages are unpacked below `root`, not installed."""
    commands = []
    for name in sorted(set(packages)):
        about = labels.packages[name]
        if about["kind"] == "pip":
            commands.append(f"pip install {name}=={about['version']}")
        else:
            commands.append(
                f"apt-get download {name}={about['version']} && dpkg -x {name}_*.deb {root / name}"
                f"    # Debian {about['release']}"
            )
    return commands


def read_photograph(photo: Photograph, file: Path) -> np.ndarray:
    """The picture as (H, W, 3) uint8 RGB, upright.

    Raises:
        ValueError: it is not the picture that was labelled.
    """
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != photo.sha256:
        raise ValueError(f"{file} is not the picture that was labelled as {photo.id}: its SHA-256 differs")
    with Image.open(file) as image:
        array = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if array.shape[:2] != photo.size_hw:
        raise ValueError(f"{file} is {array.shape[:2]}, the labels of {photo.id} say {photo.size_hw}")
    return array
