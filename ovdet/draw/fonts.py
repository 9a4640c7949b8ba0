"""A font that has the letters of a text, among DejaVu Sans (it comes with matplotlib) and the system's fonts."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

from ovdet.draw.bidi import has_rtl, visual_order

_log = logging.getLogger(__name__)
_FONT_SUFFIXES = {".ttf", ".otf", ".ttc"}
_PREFERRED = ("noto", "cjk", "dejavu", "unicode", "unifont", "wqy", "msyh", "gothic", "pingfang", "hiragino", "arial")
_NOT_FOR_TEXT = ("lastresort", "emoji", "symbol", "math", "mono", "italic", "oblique", "serif-bold", "black", "thin")
_INVISIBLE = {"Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp"}


@dataclass(frozen=True)
class Text:
    """A label that can be drawn as it is.

    Attributes:
        text: in drawing order if the layout engine needs that.
        font: has a glyph for every letter.
    """

    text: str
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """What it covers, in pixels from the point at which it is drawn."""
        left, top, right, bottom = self.font.getbbox(self.text)
        return int(left), int(top), int(right) + 1, int(bottom) + 1


def typeset(text: str, size: int) -> Text:
    """Choose the font and the order of letters for a one-line text.

    A letter that no font has is written as its base letter if that helps (NFKD), else as its code point, so
    that no label turns into empty boxes.

    Args:
        text: any Unicode; line breaks and control characters are dropped.
        size: of the font in pixels.
    """
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no letter
    text = "".join(" " if letter.isspace() else letter for letter in text)
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cc")
    wanted = _visible(text)
    path = font_for(wanted)
    if path is None or not _covers(path, wanted):
        text = _spell_out(text, path)
    font = _load(path, size)
    if has_rtl(text) and not _orders_itself(font):
        text = visual_order(text)
    return Text(text, font)


@lru_cache(maxsize=512)
def font_for(letters: frozenset[str]) -> Path | None:
    """The first font that has all the letters; else the one of the usual fonts, for a text to be spelled out."""
    usual = _usual_font()
    if usual is not None and _covers(usual, letters):
        return usual
    missing = letters if usual is None else frozenset(letter for letter in letters if not _covers(usual, {letter}))
    for path in system_fonts(_font_folders()):
        if path != usual and _covers(path, missing) and _covers(path, letters):
            return path
    return usual


@lru_cache(maxsize=4)
def system_fonts(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """Font files under the folders, those that are likely to have many letters first."""
    found = {path for folder in folders for path in _walk(folder)}

    def rank(path: Path) -> tuple[bool, int, int, str]:
        name = path.name.lower()
        place = next((index for index, part in enumerate(_PREFERRED) if part in name), len(_PREFERRED))
        return any(part in name for part in _NOT_FOR_TEXT), place, len(name), str(path)

    return tuple(sorted(found, key=rank))


def _font_folders() -> tuple[Path, ...]:
    home = Path.home()
    if sys.platform == "win32":
        return (Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts", home / "AppData/Local/Microsoft/Windows/Fonts")
    if sys.platform == "darwin":
        return (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    return (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".fonts", home / ".local/share/fonts")


def _walk(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names if Path(name).suffix.lower() in _FONT_SUFFIXES)


@lru_cache(maxsize=1)
def _usual_font() -> Path | None:
    """DejaVu Sans out of matplotlib, found without importing it; mmdet and mmengine bring matplotlib."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "mpl-data/fonts/ttf/DejaVuSans.ttf")
        if path.exists():
            return path
    return None


@lru_cache(maxsize=32)
def _load(path: Path | None, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


def _covers(path: Path, letters: frozenset[str] | set[str]) -> bool:
    """Whether the font has all the letters: none is drawn as the box that stands for a missing glyph."""
    try:
        return all(_has_glyph(path, letter) for letter in letters)
    except OSError:  # not a font that FreeType reads
        return False


@lru_cache(maxsize=8192)
def _has_glyph(path: Path, letter: str) -> bool:
    font = _probe(path)
    return bytes(font.getmask(letter)) != _missing_glyph(path)


@lru_cache(maxsize=256)
def _missing_glyph(path: Path) -> bytes:
    return bytes(_probe(path).getmask("\U0010fffe"))  # a code point that is never a character


@lru_cache(maxsize=32)
def _probe(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), 24, layout_engine=ImageFont.Layout.BASIC)


def _visible(text: str) -> frozenset[str]:
    return frozenset(letter for letter in text if unicodedata.category(letter) not in _INVISIBLE)


def _spell_out(text: str, path: Path | None) -> str:
    """Write letters that the font lacks in letters that it has."""
    written, unwritten = [], []
    for letter in text:
        if letter.isascii() or (path is not None and _covers(path, {letter})):
            written.append(letter)
            continue
        base = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        written.append(base or (f"U+{ord(letter):04X} " if _visible(letter) else ""))
        unwritten.append(letter)
    _log_once("".join(unwritten))
    return " ".join("".join(written).split())


@lru_cache(maxsize=512)
def _log_once(letters: str) -> None:
    _log.warning("no font here has %r, which is drawn in other letters; install one, such as Noto Sans", letters)


def _orders_itself(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> bool:
    """Whether Pillow's layout orders right-to-left text and joins Arabic letters: it needs libfribidi."""
    engine = getattr(font, "layout_engine", ImageFont.Layout.BASIC)
    return engine == ImageFont.Layout.RAQM and bool(features.check("raqm"))
