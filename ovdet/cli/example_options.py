"""Examples on the command line: `[NAME=]PICTURE MASK`, where a mask is a file, an annotation or a box."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ovdet.errors import InputError

if TYPE_CHECKING:
    from ovdet.detector import ClassImages
    from ovdet.examples import Mask

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BOX = re.compile(",".join([_NUMBER] * 4))
_ANNOTATION = re.compile(r"(.+\.json):(-?\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """Something with the names that the user gave it.

    Attributes:
        names: None if there are none.
        text: what was named.
    """

    names: tuple[str, ...] | None
    text: str


def split_names(argument: str, option: str) -> Named:
    """Take "NAME=TEXT" or "NAME,NAME=TEXT" apart; a text alone, or one that is a file as it stands, has no name.

    Raises:
        InputError: a name is blank.
    """
    if "=" not in argument or Path(argument).exists():
        return Named(None, argument)
    before, text = argument.split("=", 1)
    names = tuple(name.strip() for name in before.split(","))
    if not all(names):
        raise InputError(f"{option} {argument}: a name before '=' is blank")
    return Named(names, text)


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """x1, y1, x2, y2 of "x,y,w,h" in pixels; None if it is no such text.

    Raises:
        InputError: a side is not positive.
    """
    match = _BOX.fullmatch(text)
    if match is None:
        return None
    left, top, width, height = map(float, match.groups())
    if width <= 0 or height <= 0:
        raise InputError(f"the box {text} (x,y,w,h) must be wider and higher than 0")
    return left, top, left + width, top + height


def parse_mask(text: str, option: str) -> Mask:
    """A mask as `ovdet.examples.make_example` takes it: "mask.png", "annotations.json:17" or "x,y,w,h".

    Raises:
        InputError: it is none of these, there is no such file, or it is a COCO file without an annotation's id.
    """
    if Path(text).is_file():
        if text.lower().endswith(".json"):
            raise InputError(f"{option}: say which annotation of {text} is the mask: {text}:ID")
        return text
    annotation = _ANNOTATION.fullmatch(text)
    if annotation is not None:
        if not Path(annotation[1]).is_file():
            raise InputError(f"{option}: there is no COCO file {annotation[1]}")
        return annotation[1], int(annotation[2])
    box_xyxy = parse_box(text)
    if box_xyxy is not None:
        return box_xyxy
    raise InputError(f"{option}: there is no mask {text}; give a file, FILE.json:ANNOTATION or a box x,y,w,h in pixels")


def parse_class_images(arguments: Sequence[str]) -> ClassImages:
    """The values of --class-image, "NAME=PICTURE" or "NAME=PICTURE:x,y,w,h", as `Detector` takes them.

    Raises:
        InputError: one is of another form, its picture is missing, or a name comes twice.
    """
    images: dict[str, str | tuple[str, tuple[float, ...]]] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        name, option = name.strip(), f"--class-image {argument}"
        if not equals or not name or not text:
            raise InputError(f"{option}: give NAME=PICTURE or NAME=PICTURE:x,y,w,h")
        if name in images:
            raise InputError(f"{option}: the name {name!r} has a picture already; one stands for a class")
        path, _, tail = text.rpartition(":")
        box_xyxy = None if Path(text).is_file() else parse_box(tail)
        if not Path(text if box_xyxy is None else path).is_file():
            raise InputError(f"{option}: there is no picture {text if box_xyxy is None else path}")
        images[name] = text if box_xyxy is None else (path, box_xyxy)
    return images
