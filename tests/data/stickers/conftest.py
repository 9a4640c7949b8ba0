"""A world of coloured shapes: what the artists' packs are to the real one."""

import pytest

from ovdet.data.stickers import sprites
from ovdet.data.stickers.curation import TRAIN_STYLES
from ovdet.data.stickers.grounds import evaluation_grounds, training_grounds
from ovdet.data.stickers.scenes import SceneConfig, StickerWorld
from ovdet.data.stickers.vocabulary import Concept, StickerVocabulary

SHAPES = ("disc", "ring", "square", "bar", "triangle", "star")
FAMILIES = ("disc", "disc", "square", "bar", "triangle", "star")
NOVEL = frozenset({"bar", "star"})


@pytest.fixture(scope="session")
def pack_folder(write_pack):
    return write_pack(SHAPES, lacking={"fxemoji": SHAPES[5:]})


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
