"""Sprite packs: drawings of concepts by several artists, small on disk and quick to scale.

A pack is a folder with `pack.json` (artists, licences, sources) and, for each artist, one `.npz` sheet of WebP
pictures. When it is first opened, the sprites are decoded once, scaled to a few sizes, and laid beside the sheets in a
file that all processes share by memory map.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from ovdet.errors import InputError
from ovdet.files import write_whole

LEVELS = (128, 96, 64, 48, 32, 24)
"""Long sides, in pixels, at which every sprite is kept."""
FORMAT = 1
PACK_VARIABLE = "OVDET_STICKERS"
"""Environment variable that names the folder of the pack."""


@dataclass(frozen=True)
class ArtistRecord:
    """Whose drawings a sheet holds and on what terms."""

    package: str
    version: str
    integrity: str
    author: str
    url: str
    licence: str
    licence_url: str


@dataclass(frozen=True, eq=False)
class SpriteSheet:
    """The drawings of one artist before packing.

    Attributes:
        style: short name of the artist's set.
        artist: author and licence.
        concepts: N names.
        sources: N names that the artist's set gives the drawings.
        pictures: N arrays (h, w, 4) uint8, straight alpha, cut tight, the longer side `LEVELS[0]`.
    """

    style: str
    artist: ArtistRecord
    concepts: tuple[str, ...]
    sources: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]


class SpriteKey(NamedTuple):
    """One drawing: the artist's set, and its row in the sheet."""

    style: str
    row: int


def tight(rgba: np.ndarray, side: int = LEVELS[0]) -> np.ndarray | None:
    """Cut the transparent margin off and scale the longer side to `side`; None where nothing is opaque.

    Args:
        rgba: (H, W, 4) uint8, straight alpha.
        side: in pixels.
    """
    solid = rgba[..., 3] >= 128
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if not len(rows):
        return None
    cut = Image.fromarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = side / max(cut.size)
    size = (max(1, round(cut.width * scale)), max(1, round(cut.height * scale)))
    return np.asarray(cut.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA"))


def write_sheet(folder: Path, sheet: SpriteSheet, quality: int = 75) -> dict[str, Any]:
    """Write one artist's sheet; the row that `pack.json` has for it is returned."""
    blobs = []
    for picture in sheet.pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "WEBP", quality=quality, alpha_quality=90, method=4)
        blobs.append(buffer.getvalue())
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        webp=np.frombuffer(b"".join(blobs), dtype=np.uint8),
        offsets=np.cumsum([0, *map(len, blobs)]),
        sizes_hw=np.asarray([picture.shape[:2] for picture in sheet.pictures], dtype=np.int32).reshape(-1, 2),
        concepts=np.asarray(sheet.concepts, dtype=str),
        sources=np.asarray(sheet.sources, dtype=str),
    )
    name = f"{sheet.style}.npz"
    write_whole(folder / name, buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    return {"file": name, "sha256": digest, "sprites": len(blobs), **asdict(sheet.artist)}


def write_pack(folder: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Write `pack.json`, which makes a folder of sheets a pack; `rows` are what `write_sheet` returned, by style."""
    write_whole(folder / "pack.json", (json.dumps({"format": FORMAT, "styles": rows}, indent=1) + "\n").encode())


class SpritePack:
    """An opened pack. It can be sent to other processes, which map the same file.

    Args:
        folder: of the pack; None for the folder that $OVDET_STICKERS names.
        styles: artists to open; None for all there are.

    Raises:
        InputError: there is no pack, it is damaged, or it lacks a style.
    """

    def __init__(self, folder: str | Path | None = None, styles: Sequence[str] | None = None) -> None:
        folder = folder if folder is not None else os.environ.get(PACK_VARIABLE, "")
        if not str(folder):
            raise InputError(
                f"no sprite pack is given: make one with tools/data/pack_stickers.py and name its folder, or set "
                f"${PACK_VARIABLE}"
            )
        self.folder = Path(folder)
        self.records: dict[str, dict[str, Any]] = _read_index(self.folder)
        missing = [style for style in styles or () if style not in self.records]
        if missing:
            raise InputError(f"{self.folder} has no style {missing[0]!r}; it has {', '.join(self.records)}")
        self.styles = tuple(self.records if styles is None else styles)
        self._sheets = {style: _Sheet(self.folder / row["file"], row) for style, row in self._rows()}
        self._by_concept: dict[str, dict[str, list[SpriteKey]]] = {}
        for style, sheet in self._sheets.items():
            for row, concept in enumerate(sheet.concepts):
                self._by_concept.setdefault(concept, {}).setdefault(style, []).append(SpriteKey(style, row))

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names that some opened style draws."""
        return tuple(self._by_concept)

    @property
    def digest(self) -> str:
        """SHA-256 over the opened sheets: equal digests hold equal drawings."""
        return hashlib.sha256("".join(row["sha256"] for _, row in self._rows()).encode()).hexdigest()

    def sprites_of(self, concept: str) -> dict[str, list[SpriteKey]]:
        """Drawings of a concept by style; empty where there is none."""
        return self._by_concept.get(concept, {})

    def sprite(self, key: SpriteKey, side: float) -> np.ndarray:
        """A drawing, (h, w, 4) uint8 with colours multiplied by alpha, read-only.

        Its longer side is the smallest of `LEVELS` that is at least `side`, or the largest there is.
        """
        level = next((index for index in range(len(LEVELS) - 1, -1, -1) if LEVELS[index] >= side), 0)
        return self._sheets[key.style].picture(key.row, level)

    def _rows(self) -> Iterable[tuple[str, dict[str, Any]]]:
        return [(style, self.records[style]) for style in self.styles]


class _Sheet:
    """One artist's sprites at all sizes, in a memory map."""

    def __init__(self, path: Path, row: dict[str, Any]) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the sprite sheet {path}: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise InputError(
                f"the sprite sheet {path} is damaged: its SHA-256 is not the one in pack.json; pack it anew"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            self.concepts = tuple(arrays["concepts"].tolist())
            sizes_hw = arrays["sizes_hw"]
            scaled = [np.maximum(1, np.rint(sizes_hw * (level / LEVELS[0]))).astype(np.int64) for level in LEVELS]
            self._sizes = np.stack(scaled, axis=1)  # (N, levels, 2)
            lengths = (self._sizes.prod(axis=2) * 4).ravel()
            self._starts = np.concatenate([[0], np.cumsum(lengths)])
            self._path = path.with_name(f"{path.stem}.{row['sha256'][:12]}.mips")
            if not self._path.exists() or self._path.stat().st_size != self._starts[-1]:
                self._decode(arrays["webp"].tobytes(), arrays["offsets"])
        self._bytes: np.ndarray | None = None

    def picture(self, row: int, level: int) -> np.ndarray:
        if self._bytes is None:
            self._bytes = np.memmap(self._path, dtype=np.uint8, mode="r")
        index = row * len(LEVELS) + level
        height, width = self._sizes[row, level]
        return self._bytes[self._starts[index] : self._starts[index + 1]].reshape(height, width, 4)

    def _decode(self, webp: bytes, offsets: np.ndarray) -> None:
        """Write every sprite at every size, colours multiplied by alpha."""
        parts = bytearray()
        for row in range(len(self.concepts)):
            picture = Image.open(io.BytesIO(webp[offsets[row] : offsets[row + 1]])).convert("RGBA").convert("RGBa")
            whole = np.frombuffer(picture.tobytes(), np.uint8).reshape(picture.height, picture.width, 4)
            for height, width in self._sizes[row]:
                scaled = cv2.resize(whole, (int(width), int(height)), interpolation=cv2.INTER_AREA)
                parts += scaled.tobytes()
        write_whole(self._path, bytes(parts))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}


def _read_index(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "pack.json"
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{folder} is no sprite pack (cannot read {path.name}: {error.strerror or error}); make one with "
            "tools/data/pack_stickers.py"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not of format {FORMAT}; make the pack anew with tools/data/pack_stickers.py")
    return content["styles"]
