"""The benchmark of modes, with segmenters whose scores are known."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest

from ovdet.data.stickers.episodes import sticker_world
from ovdet.errors import InputError
from ovdet.results import Detections

ARGS = Namespace(side="all", stream="validation", episodes=4)


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("benchmarks/sticker_modes.py")


@pytest.fixture
def world(real_names_pack, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    return sticker_world("48-17", stream="validation", objects=(1, 4), long_side=(30, 70), side=96)


def marks(names, masks):
    """What a segmenter gives that marks these masks by these names."""
    masks = np.stack(masks)
    boxes = np.tile(np.float32([0, 0, *masks.shape[:0:-1]]), (len(names), 1))
    return Detections(boxes, [1.0] * len(names), range(len(names)), list(names), masks.shape[1:], masks)


def test_pairs_share_two_or_three_names_and_show_nothing_else(tool, world):
    pairs = tool.sharing(world, tool.labels_of(world, "base"), ARGS)
    for _ in range(3):
        one, other = next(pairs)
        assert set(one.shown().tolist()) == set(other.shown().tolist()) and 2 <= len(one.shown()) <= 3
        assert np.asarray(world.vocabulary.base_mask)[one.shown()].all()


def test_together_is_measured_beside_one_by_one(tool, world, monkeypatch):
    """One by one is all right; together the two names change places."""
    seen = []
    pairs = tool.sharing
    monkeypatch.setattr(tool, "sharing", lambda *args: (seen.append(pair) or pair for pair in pairs(*args)))

    def segmenter(image, examples, together):
        query = seen[-1][1]
        keys = query.shown().tolist()
        masks = [query.mask(key) for key in keys]
        return marks([str(key) for key in keys], masks[1:] + masks[:1] if together else masks)

    measured = tool.together(segmenter, world, ARGS)
    assert measured == {"mIoU one by one": pytest.approx(100), "mIoU together": pytest.approx(0)}


def test_instances_count_how_often_the_other_drawing_is_marked(tool, world, monkeypatch):
    seen = []
    twos = tool.twos
    monkeypatch.setattr(tool, "twos", lambda *args: (seen.append(two) or two for two in twos(*args)))

    def segmenter(image, examples, mode):
        _, _, _, meant, other = seen[-1]
        assert meant.any() and other.any() and not (meant & other).any()
        return marks(["thing"], [meant if mode == "instance" else meant | other])

    measured = tool.instance(segmenter, world, ARGS)
    assert measured["mIoU instance"] == pytest.approx(100) and measured["mIoU semantic"] < 90
    assert measured["other one marked, instance %"] == 0 and measured["other one marked, semantic %"] == 100


def test_a_prompt_is_measured_beside_examples(tool, world):
    """A segmenter that marks everything has the names' share of the pixels, by whatever it is told."""
    names = [world.vocabulary.names[label] for label in world.labels[:2]]
    told = []

    class Marker:
        def learn_tuned(self, path):
            return SimpleNamespace(names=names)

        def learn(self, examples):
            return len(examples)

        def __call__(self, image, learned):
            told.append(learned)
            return marks(names, [np.ones(image.shape[:2], bool)] * 2)

    measured = tool.prompt(Marker(), world, Namespace(**vars(ARGS), prompt="tuned.safetensors"))
    assert set(measured) == {"mIoU tuned", "mIoU 1 examples", "mIoU 8 examples"}
    assert len(set(measured.values())) == 1 and 0 < measured["mIoU tuned"] < 60
    assert told[0].names == names and told[1:3] == [2, 16]


def test_a_prompt_is_named_where_it_is_measured_and_nowhere_else(tool):
    with pytest.raises(InputError, match="give the FILE of a prompt with 'prompt'"):
        tool.main(["prompt"])
    with pytest.raises(InputError, match="and none otherwise"):
        tool.main(["instance", "tuned.safetensors"])
