"""A sprite pack of coloured shapes, drawn here: what the artists' packs are to the real world."""

import cv2
import numpy as np
import pytest

from ovdet.data.stickers import sprites
from ovdet.data.stickers.curation import TRAIN_STYLES
from ovdet.data.stickers.grounds import evaluation_grounds, training_grounds
from ovdet.data.stickers.scenes import SceneConfig, StickerWorld
from ovdet.data.stickers.vocabulary import Concept, StickerVocabulary, load_vocabulary

SHAPES = ("disc", "ring", "square", "bar", "triangle", "star")
FAMILIES = ("disc", "disc", "square", "bar", "triangle", "star")
NOVEL = frozenset({"bar", "star"})
STYLES = (*TRAIN_STYLES, "twemoji", "openmoji")
COLOURS = ((220, 30, 30), (40, 160, 50), (40, 70, 210), (240, 210, 40), (150, 60, 190), (120, 120, 120))


def drawing(shape, colour):
    """(200, 200, 4) uint8, straight alpha, smooth edges, margins all round."""
    big = np.zeros((800, 800), np.uint8)
    if shape in ("disc", "ring"):
        cv2.circle(big, (400, 400), 300, 255, -1 if shape == "disc" else 100)
    elif shape in ("square", "bar"):
        cv2.rectangle(big, (100, 100 if shape == "square" else 300), (700, 700 if shape == "square" else 480), 255, -1)
    else:
        count = 3 if shape == "triangle" else 10
        angles = np.arange(count) * 2 * np.pi / count - np.pi / 2
        reach = np.where(np.arange(count) % 2, 130, 330) if shape == "star" else 330
        corners = 400 + np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.reshape(reach, (-1, 1))
        cv2.fillPoly(big, [corners.astype(np.int32)], 255)
    alpha = cv2.resize(big, (200, 200), interpolation=cv2.INTER_AREA)
    return np.dstack([np.broadcast_to(np.uint8(colour), (200, 200, 3)), alpha])


@pytest.fixture(scope="session")
def pack_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    artist = sprites.ArtistRecord("none", "1", "sha512-none", "the tests", "https://example.org", "CC0-1.0", "")
    rows = {}
    for place, style in enumerate(STYLES):
        shapes = SHAPES[:5] if style == "fxemoji" else SHAPES
        pictures = [
            sprites.tight(drawing(shape, COLOURS[(place + index) % len(COLOURS)])) for index, shape in enumerate(shapes)
        ]
        sheet = sprites.SpriteSheet(style, artist, shapes, shapes, tuple(pictures))
        rows[style] = sprites.write_sheet(folder, sheet)
    sprites.write_pack(folder, rows)
    return folder


@pytest.fixture(scope="session")
def pack(pack_folder):
    return sprites.SpritePack(pack_folder)


@pytest.fixture(scope="session")
def shapes_vocabulary():
    concepts = [Concept(shape, "Shapes", family) for shape, family in zip(SHAPES, FAMILIES, strict=True)]
    return StickerVocabulary("shapes", tuple(concepts), NOVEL)


@pytest.fixture(scope="session")
def make_world(pack, shapes_vocabulary):
    def make(styles=TRAIN_STYLES, grounds=None, **config):
        held_out = styles[0] in ("twemoji", "openmoji")
        grounds = grounds or (evaluation_grounds() if held_out else training_grounds())
        return StickerWorld(pack, shapes_vocabulary, grounds, styles, SceneConfig(**{"size_hw": (128, 160), **config}))

    return make


@pytest.fixture(scope="session")
def world(make_world):
    return make_world(long_side=(20.0, 80.0))


@pytest.fixture(scope="session")
def real_names_pack(tmp_path_factory):
    """A pack whose drawings are called by names of the committed vocabulary, base and novel."""
    folder = tmp_path_factory.mktemp("named")
    artist = sprites.ArtistRecord("none", "1", "sha512-none", "the tests", "https://example.org", "CC0-1.0", "")
    vocabulary = load_vocabulary("48-17")
    names = [*vocabulary.names[:3], *sorted(vocabulary.novel)[:3]]
    rows = {}
    for place, style in enumerate(STYLES):
        pictures = tuple(
            sprites.tight(drawing(shape, COLOURS[(place + index) % len(COLOURS)])) for index, shape in enumerate(SHAPES)
        )
        rows[style] = sprites.write_sheet(folder, sprites.SpriteSheet(style, artist, tuple(names), SHAPES, pictures))
    sprites.write_pack(folder, rows)
    return folder
