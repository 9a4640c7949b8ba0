from collections import Counter

import numpy as np
import pytest

from ovdet.data.in_context import CanvasConfig, InContextSamples, ViewConfig
from ovdet.data.stickers.colours import WORDS
from ovdet.data.stickers.curation import TRAIN_STYLES
from ovdet.data.stickers.episodes import (
    CastWorld,
    Ramp,
    StickerClasses,
    StickerContexts,
    StickerEpisodes,
    sticker_canvases,
    sticker_contexts,
    sticker_world,
)
from ovdet.errors import InputError


def test_a_ramp_goes_along_a_straight_line():
    ramp = Ramp(1.0, 0.2, 100, 300)
    assert [ramp(number) for number in (0, 100, 150, 200, 300, 10_000)] == pytest.approx([1, 1, 0.8, 0.6, 0.2, 0.2])
    step = Ramp(1.0, 0.0, 50, 50)
    assert [step(number) for number in (0, 49, 50, 51)] == [1, 1, 0, 0]
    for wrong in ((1.2, 0.0, 0, 1), (1.0, 0.0, 5, 1)):
        with pytest.raises(InputError, match="a ramp wants"):
            Ramp(*wrong)


def test_the_wanted_name_is_always_shown(world):
    rng = np.random.default_rng(0)
    for label in world.labels.tolist():
        cast = CastWorld(world, label)
        assert all(label in cast.draw(rng).labels for _ in range(5))


def drawings(scenes, label):
    return {key for scene in scenes for key, own in zip(scene.sprites, scene.labels, strict=True) if own == label}


@pytest.fixture
def spied(world, monkeypatch):
    """Contexts that also tell the scenes they were made of."""
    drawn = []
    original = CastWorld.draw

    def draw(self, rng):
        scene = original(self, rng)
        drawn.append((self._label, scene))
        return scene

    monkeypatch.setattr(CastWorld, "draw", draw)

    def make(number=0, count=2, tries=12, **settings):
        contexts = StickerContexts(world, same_picture=0.0, **settings)
        rng = np.random.default_rng(1)
        for _ in range(tries):
            drawn.clear()
            context = contexts.draw(rng, number, count)
            yield context, [scene for _, scene in drawn], drawn[0][0]

    return make


def test_semantic_contexts_share_the_name(spied):
    for context, scenes, label in spied(count=3):
        assert len(scenes) == 3 and all(label in picture.shown() for picture in context.pictures)
        for picture, scene in zip(context.pictures, scenes, strict=True):
            assert np.array_equal(picture.mask(label), scene.masks[scene.labels == label].any(axis=0))


def test_training_goes_from_one_drawing_to_one_artist_to_anybody(spied):
    schedule = dict(same_drawing=Ramp(1, 0, 0, 10), same_artist=Ramp(1, 0, 20, 30))
    for _, scenes, label in spied(number=0, **schedule):
        assert len(drawings(scenes, label)) == 1
    artists = set()
    for _, scenes, _ in spied(number=15, **schedule):
        styles = {key.style for scene in scenes for key in scene.sprites}
        # fxemoji did not draw the star, so somebody else's stands in
        assert len(styles) == 1 or styles == {"fxemoji", *styles - {"fxemoji"}}
        artists |= styles
    assert len(artists) > 3
    mixed = [
        len({key.style for scene in scenes for key in scene.sprites}) for _, scenes, _ in spied(number=99, **schedule)
    ]
    assert np.mean(mixed) > 2


def test_instances_are_views_of_one_scene(spied):
    for context, scenes, _ in spied(kinds={"instance": 1.0}):
        assert len(scenes) == 1 and context.pictures[0] is context.pictures[1] and context.kind == "instance"
        assert context.pictures[0].keys.tolist() == list(range(len(scenes[0].labels)))


@pytest.mark.parametrize("kind", ["colour", "part"])
def test_colours_and_parts_are_shared(spied, kind):
    apart = 0
    for context, _, label in spied(kinds={kind: 1.0}, tries=8):
        first, second = (set(picture.shown().tolist()) for picture in context.pictures)
        assert first & second
        apart += context.pictures[0] is not context.pictures[1]
        if kind == "part":
            assert context.pictures[0] is context.pictures[1] or label in {key // len(WORDS) for key in first & second}
    assert apart >= 5


def test_novel_things_are_in_the_pictures_but_never_coloured(world):
    contexts = StickerContexts(world, {"semantic": 1.0, "part": 1.0, "colour": 1.0}, base_only=True)
    whole = StickerContexts(world, {"semantic": 1.0}, same_picture=0.0)
    novel = {label for label, base in enumerate(world.vocabulary.base_mask) if not base}
    assert not set(contexts.labels.tolist()) & novel and novel <= set(whole.labels.tolist())
    rng = np.random.default_rng(0)
    for _ in range(12):
        context = contexts.draw(rng, 0, 2)
        keys = {key for picture in context.pictures for key in picture.keys.tolist()}
        labels = {key // len(WORDS) for key in keys} if context.kind == "part" else keys
        assert context.kind == "colour" or not labels & novel
    shown = {key for _ in range(12) for picture in whole.draw(rng, 0, 2).pictures for key in picture.shown().tolist()}
    assert shown & novel


def test_contexts_become_samples(world):
    config = CanvasConfig(view=ViewConfig(size=64), patch=8)
    kinds = {"semantic": 0.5, "instance": 0.2, "colour": 0.2, "part": 0.1}
    samples = InContextSamples([StickerContexts(world, kinds)], config=config, length=12)
    found = [samples[index] for index in range(12)]
    assert {sample["kind"] for sample in found} == {0, 1}
    assert sum(bool(sample["painting"].any()) for sample in found) >= 10


def test_mistakes_are_told(world):
    for kinds in ({"motion": 1.0}, {"semantic": 0.0}, {"semantic": -1.0, "part": 2.0}):
        with pytest.raises(InputError, match="kinds must weigh"):
            StickerContexts(world, kinds)
    with pytest.raises(InputError, match="side must be"):
        StickerEpisodes(world, 5, side="rare")
    with pytest.raises(InputError, match="no stream"):
        StickerEpisodes(world, 5, stream="dev")
    with pytest.raises(InputError, match="length and shots"):
        StickerEpisodes(world, 5, shots=0)
    with pytest.raises(IndexError):
        StickerEpisodes(world, 5)[5]


def test_episodes_ask_for_every_name_in_turn(world):
    novel = {label for label, base in enumerate(world.vocabulary.base_mask) if not base}
    for side, wanted in (("base", set(range(6)) - novel), ("novel", novel), ("all", set(range(6)))):
        episodes = StickerEpisodes(world, 24, side=side)
        counts = Counter(episodes.label(index) for index in range(24))
        assert set(counts) == wanted and len(set(counts.values())) == 1


def test_an_episode_is_a_query_and_its_examples(world):
    one, four = StickerEpisodes(world, 6, 1, seed=2), StickerEpisodes(world, 6, 4, seed=2)
    for index in range(6):
        episode, more = one[index], four[index]
        assert episode.label == more.label == one.label(index)
        assert np.array_equal(episode.query, more.query) and np.array_equal(episode.truth, more.truth)
        assert np.array_equal(episode.examples[0][0], more.examples[0][0]), "a longer list begins like a shorter one"
        assert len(more.examples) == 4 and len({picture.tobytes() for picture, _ in more.examples}) == 4
        assert episode.truth.any() and all(mask.any() for _, mask in more.examples) and episode.judged.all()
        assert not any(np.array_equal(picture, episode.query) for picture, _ in more.examples)
    other = StickerEpisodes(world, 6, 1, seed=2, stream="validation")
    assert not any(np.array_equal(one[i].query, other[i].query) for i in range(3))
    assert np.array_equal(one[3].query, StickerEpisodes(world, 4, 1, seed=2)[3].query)


def test_pictures_of_a_few_names_take_turns(world):
    names = [world.vocabulary.names[label] for label in world.labels[:2].tolist()]
    pictures = StickerClasses(world, names, length=6, seed=1)
    for index in range(6):
        picture = pictures[index]
        (key,) = pictures.keys_of(index)
        assert key == index % 2 and picture.mask(key).any() and set(picture.shown().tolist()) <= {0, 1}
        assert np.array_equal(picture.key_map, pictures[index].key_map)
    assert not np.array_equal(pictures[0].image, pictures[2].image)
    with pytest.raises(IndexError, match="picture 6 of 6"):
        pictures[6]
    for wrong in (["unicorn"], [names[0], names[0]]):
        with pytest.raises(InputError, match="draws nothing called"):
            StickerClasses(world, wrong, length=6)
    with pytest.raises(InputError, match="at least one name"):
        StickerClasses(world, names, length=0)


def test_beside_each_episode_there_is_a_picture_without_the_thing(world, monkeypatch):
    drawn = []
    draw = type(world).draw
    monkeypatch.setattr(type(world), "draw", lambda self, rng: drawn.append(draw(self, rng)) or drawn[-1])
    episodes = StickerEpisodes(world, 12)
    families = world.vocabulary.families
    for index in range(12):
        image = episodes.without(index)
        assert image is drawn[-1].image and families[episodes.label(index)] not in {
            families[label] for label in drawn[-1].labels.tolist()
        }
        assert np.array_equal(image, episodes.without(index))


def test_a_config_says_it_all(pack_folder, monkeypatch, shapes_vocabulary):
    monkeypatch.setattr("ovdet.data.stickers.teaching.load_vocabulary", lambda split: shapes_vocabulary)
    world = dict(split="shapes", pack=str(pack_folder), side=96, objects=[2, 3])
    contexts = sticker_contexts(world, {"semantic": 1.0}, [1.0, 0.0, 5, 9], 0.5, base_only=True)
    assert contexts.same_drawing == Ramp(1.0, 0.0, 5, 9) and contexts.same_artist(77) == 0.5
    assert contexts.world.config.size_hw == (96, 96) and contexts.world.config.objects == (2, 3)
    assert contexts.world.styles == TRAIN_STYLES
    assert contexts.world.config.long_side == pytest.approx((9.0, 52.5))
    canvases = sticker_canvases({**world, "stream": "evaluation", "styles": "twemoji"}, 3, 32, 8, side="novel")
    assert canvases.episodes.stream == "evaluation" and canvases.episodes.world.styles == ("twemoji",)
    assert canvases[2]["image"].shape == (3, 64, 32)
    with pytest.raises(InputError, match="never trained on"):
        sticker_world("shapes", "train", "openmoji", pack_folder)
