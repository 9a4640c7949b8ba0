"""What sticker scenes lie on: procedural grounds, and photographs where a folder of them is given.

Grounds for training and for evaluation are of different kinds and, for photographs, different files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ovdet.errors import InputError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PHOTO_SIDE = 512
"""Photographs are kept at this short side, in pixels."""
SIDES = ("training", "evaluation")
"""Folders of photographs that say themselves what they are for."""


@dataclass(frozen=True, eq=False)
class Ground:
    """One ground.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        phrase: what a caption says of it, such as "on stripes"; empty where there is nothing to say.
        horizon: row where the floor begins, as a share of the height; None where there is no floor.
    """

    image: np.ndarray
    phrase: str = ""
    horizon: float | None = None


Painter = Callable[[np.random.Generator, int, int], Ground]


def _colour(rng: np.random.Generator, low: int = 30, high: int = 236) -> np.ndarray:
    """(3,) float32; often pale or dull, as walls and floors are."""
    colour = rng.uniform(low, high, 3)
    return (colour.mean() + (colour - colour.mean()) * rng.uniform(0.2, 1.0)).astype(np.float32)


def _blend(share: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: `first` where share is 0, `second` where it is 1."""
    return np.clip(first + share[..., None] * (second - first), 0, 255).astype(np.uint8)


def _waves(rng: np.random.Generator, height: int, width: int, octaves: int = 4) -> np.ndarray:
    """(H, W) float32 smooth noise in [0, 1]."""
    total = np.zeros((height, width), np.float32)
    cells = int(rng.integers(2, 5))
    for octave in range(octaves):
        coarse = rng.random((cells << octave, cells << octave), dtype=np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 0.55**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _axes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return rows, columns


def _slanted(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) pixels along a random direction."""
    rows, columns = _axes(height, width)
    angle = rng.uniform(0, np.pi)
    return rows * np.sin(angle) + columns * np.cos(angle)


def plain(rng: np.random.Generator, height: int, width: int) -> Ground:
    """One colour with a slow slope."""
    along = _slanted(rng, height, width)
    share = (along - along.min()) / max(float(np.ptp(along)), 1.0)
    return Ground(_blend(share, _colour(rng), _colour(rng)))


def clouds(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Smooth noise of two colours."""
    return Ground(_blend(_waves(rng, height, width), _colour(rng), _colour(rng)))


def stripes(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Bands of two colours."""
    period = rng.uniform(10, 60)
    share = ((_slanted(rng, height, width) % period) < period * rng.uniform(0.3, 0.7)).astype(np.float32)
    return Ground(_blend(share, _colour(rng), _colour(rng)), "on stripes")


def checks(rng: np.random.Generator, height: int, width: int) -> Ground:
    """A board of two colours."""
    side = rng.uniform(12, 50)
    rows, columns = _axes(height, width)
    share = ((rows // side + columns // side) % 2).astype(np.float32)
    return Ground(_blend(share, _colour(rng), _colour(rng)), "on a checkered board")


def dots(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Round spots in rows."""
    period = rng.uniform(16, 48)
    rows, columns = _axes(height, width)
    away = np.hypot(rows % period - period / 2, columns % period - period / 2)
    share = np.clip(period * rng.uniform(0.15, 0.35) - away, 0, 1)
    return Ground(_blend(share, _colour(rng), _colour(rng)), "on dots")


def polygons(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Overlapping triangles and discs of many colours."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = _colour(rng)
    for _ in range(int(rng.integers(6, 22))):
        colour = tuple(float(value) for value in _colour(rng))
        centre = rng.uniform(0, 1, 2) * (width, height)
        if rng.random() < 0.5:
            corners = (centre + rng.uniform(-0.3, 0.3, (3, 2)) * (width, height)).astype(np.int32)
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
        else:
            radius = int(rng.uniform(0.03, 0.2) * width)
            cv2.circle(image, (int(centre[0]), int(centre[1])), radius, colour, -1, cv2.LINE_AA)
    return Ground(image, "on many shapes")


def grain(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Wood-like rings, stretched along one side."""
    rows, columns = _axes(height, width)
    bend = _waves(rng, height, width, 3) * rng.uniform(10, 40)
    share = 0.5 + 0.5 * np.sin((rows if rng.random() < 0.5 else columns) / rng.uniform(3, 12) + bend / 4)
    return Ground(_blend(share * 0.6, _colour(rng), _colour(rng)), "on wood")


def room(rng: np.random.Generator, height: int, width: int) -> Ground:
    """A wall and a floor, tiled in perspective or plain."""
    horizon = float(rng.uniform(0.25, 0.6))
    edge = int(horizon * height)
    image = np.empty((height, width, 3), np.float32)
    image[:edge] = _colour(rng, 90) + 25 * (_waves(rng, edge, width)[..., None] - 0.5)
    rows, columns = _axes(height - edge, width)
    depth = 1.0 / (rows + 6)
    tiles = (
        np.floor(depth * 900 * rng.uniform(0.5, 2)) + np.floor((columns - width / 2) * depth * rng.uniform(3, 9))
    ) % 2
    first, second = _colour(rng), _colour(rng)
    image[edge:] = first + (tiles * rng.choice([0.0, 0.5, 1.0]))[..., None] * (second - first)
    return Ground(np.clip(image, 0, 255).astype(np.uint8), "in a room", horizon)


def meadow(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Sky above, green or sandy ground below, with grass-like noise."""
    horizon = float(rng.uniform(0.2, 0.55))
    edge = int(horizon * height)
    sky = np.array([rng.uniform(110, 200), rng.uniform(170, 225), rng.uniform(215, 255)], np.float32)
    sand = rng.random() < 0.3
    land = np.array([205, 180, 120] if sand else [rng.uniform(60, 130), rng.uniform(130, 180), rng.uniform(40, 90)])
    image = np.empty((height, width, 3), np.float32)
    image[:edge] = sky + np.linspace(0, 35, edge)[:, None, None]
    image[:edge] += (np.clip(_waves(rng, edge, width) - 0.6, 0, 1) * 120)[..., None]
    tufts = rng.normal(0, 14, (height - edge, width, 1)) + 40 * (_waves(rng, height - edge, width)[..., None] - 0.5)
    image[edge:] = land + tufts
    return Ground(np.clip(image, 0, 255).astype(np.uint8), "on sand" if sand else "on grass", horizon)


def cells(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Each pixel takes the colour of the nearest of some points."""
    count = int(rng.integers(12, 60))
    points = rng.uniform(0, 1, (count, 2)) * (width, height)
    seeds = np.full((height, width), 255, np.uint8)
    columns, rows = points.astype(int).T
    seeds[rows, columns] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    palette = np.stack([_colour(rng) for _ in range(int(labels.max()) + 1)])
    return Ground(palette[labels].astype(np.uint8), "on a mosaic")


def hills(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Ridges one before the other, paler with distance."""
    image = np.empty((height, width, 3), np.float32)
    far, near = _colour(rng, 150), _colour(rng, 30, 150)
    image[:] = far + np.linspace(-20, 30, height)[:, None, None]
    top, count = float(rng.uniform(0.2, 0.4)), 4
    rows, _ = _axes(height, width)
    for layer in range(count):
        line = (top + (0.75 - top) * layer / count) * height + (_waves(rng, 2, width)[0] - 0.5) * height * 0.18
        image[rows >= line[None]] = far + (near - far) * (layer + 1) / count
    return Ground(np.clip(image, 0, 255).astype(np.uint8), "before hills", 0.65)


def marble(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Veins: bands bent by noise."""
    bent = _slanted(rng, height, width) / rng.uniform(15, 40) + _waves(rng, height, width) * rng.uniform(3, 8)
    return Ground(_blend(np.abs(np.sin(bent)) ** 0.4, _colour(rng), _colour(rng)), "on marble")


def plaid(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Bands of several widths, crossing."""
    image = np.zeros((height, width, 3), np.float32)
    image[:] = _colour(rng)
    rows, columns = _axes(height, width)
    for axis in (rows, columns, rows, columns):
        period, colour = rng.uniform(20, 80), _colour(rng)
        band = (((axis + rng.uniform(0, period)) % period) < period * rng.uniform(0.15, 0.5)).astype(np.float32)
        image += 0.5 * band[..., None] * (colour - image)
    return Ground(np.clip(image, 0, 255).astype(np.uint8), "on plaid")


TRAIN_PAINTERS: tuple[Painter, ...] = (
    plain,
    clouds,
    stripes,
    checks,
    dots,
    polygons,
    grain,
    room,
    meadow,
    meadow,
    room,
)
EVALUATION_PAINTERS: tuple[Painter, ...] = (cells, hills, marble, plaid, hills)
"""Kinds of grounds that no training scene lies on."""


class GroundSource:
    """Gives grounds, procedural ones and, where there are any, crops of photographs.

    Args:
        painters: kinds to draw from, each as likely.
        photographs: (h, w, 3) uint8 RGB arrays.
        photo_share: how often a photograph is taken, if there are any.
    """

    def __init__(
        self, painters: Sequence[Painter], photographs: Sequence[np.ndarray] = (), photo_share: float = 0.5
    ) -> None:
        self.painters = tuple(painters)
        self.photographs = tuple(photographs)
        self.photo_share = photo_share if self.photographs else 0.0

    def draw(self, rng: np.random.Generator, size_hw: tuple[int, int]) -> Ground:
        """One ground of this size, at random."""
        if rng.random() < self.photo_share:
            return _crop(rng, self.photographs[int(rng.integers(len(self.photographs)))], size_hw)
        return self.painters[int(rng.integers(len(self.painters)))](rng, *size_hw)


def training_grounds(photographs: str | Path | None = None) -> GroundSource:
    """Grounds of the training kinds, and the photographs of a folder that are not set aside for evaluation."""
    return GroundSource(TRAIN_PAINTERS, read_photographs(photographs, evaluation=False) if photographs else ())


def evaluation_grounds(photographs: str | Path | None = None) -> GroundSource:
    """Grounds of the kinds set aside for evaluation, and the photographs of a folder that are set aside."""
    return GroundSource(EVALUATION_PAINTERS, read_photographs(photographs, evaluation=True) if photographs else ())


def read_photographs(folder: str | Path, *, evaluation: bool) -> list[np.ndarray]:
    """The photographs of one side.

    A folder that holds the folders `training` and `evaluation` is taken by its word. Of any other one in five is set
    aside for evaluation, by a hash of what is in the file: copies, whatever their names, are on the same side.

    Raises:
        InputError: there is no such folder, a file is no picture, or this side has none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of photographs")
    divided = all((folder / side).is_dir() for side in SIDES)
    if divided:
        folder = folder / SIDES[evaluation]
    kept = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES):
        if divided or (hashlib.sha256(path.read_bytes()).digest()[0] % 5 == 0) == evaluation:
            try:
                picture = Image.open(path).convert("RGB")
            except OSError as error:
                raise InputError(f"{path} is no picture that can be read ({error}); remove it") from error
            scale = PHOTO_SIDE / min(picture.size)
            if scale < 1:
                picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
            kept.append(np.asarray(picture))
    if not kept:
        side = "evaluation" if evaluation else "training"
        raise InputError(f"{folder} has no photograph on the {side} side (one in five is evaluated on); add more")
    return kept


def _crop(rng: np.random.Generator, photograph: np.ndarray, size_hw: tuple[int, int]) -> Ground:
    """A random cut-out of the wanted shape, at a random scale, mirrored half of the time."""
    height, width = photograph.shape[:2]
    share = rng.uniform(0.5, 1.0) * min(height / size_hw[0], width / size_hw[1])
    cut_h, cut_w = max(1, int(size_hw[0] * share)), max(1, int(size_hw[1] * share))
    top, left = int(rng.integers(0, height - cut_h + 1)), int(rng.integers(0, width - cut_w + 1))
    cut = photograph[top : top + cut_h, left : left + cut_w]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    image = cv2.resize(np.ascontiguousarray(cut), (size_hw[1], size_hw[0]), interpolation=cv2.INTER_AREA)
    return Ground(image, "in a photograph")
