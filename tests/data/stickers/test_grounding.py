from collections import Counter

import numpy as np
import pytest
import torch

from ovdet.data.batches import collate_texts
from ovdet.data.sampling import Draw
from ovdet.data.stickers.dataset import StickerScenes
from ovdet.data.stickers.expressions import Expression
from ovdet.data.stickers.grounding import StickerExpressions, StickerTexts, draw_evenly
from ovdet.errors import InputError

NOVEL = ("bar", "star")


@pytest.fixture(scope="module")
def training(world):
    return StickerTexts(world, 40, seed=1)


@pytest.fixture(scope="module")
def expressions(make_world):
    return StickerExpressions(make_world(styles=("twemoji",), long_side=(20.0, 80.0)), 60, seed=1)


def test_a_sample_is_a_function_of_seed_and_index(training, world):
    again = StickerTexts(world, 40, seed=1)
    for index in (0, 7):
        first, second = training[index], again[Draw(index, 99)]
        assert first["texts"] == second["texts"] and torch.equal(first["image"], second["image"])
    assert StickerTexts(world, 40, seed=2)[0]["texts"] != training[0]["texts"]


def test_boxes_are_shares_of_the_picture(training, world):
    scenes = StickerScenes(world, 40, seed=1, base_only=True)
    for index in range(10):
        sample, scene = training[index], scenes[index]
        height, width = scene["image"].shape[1:]
        known = {(one.text, one.box_xyxy) for one in (*scene["regions"], *scene["expressions"])}
        centre, size = sample["boxes_cxcywh_norm"].split(2, dim=1)
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=1) * torch.tensor([width, height] * 2)
        for text, box, whole in zip(sample["texts"], corners.tolist(), sample["is_image"].tolist(), strict=True):
            edges = tuple(round(value, 3) for value in box)
            assert (edges == (0, 0, width, height)) if whole else ((text, edges) in known)


def test_the_caption_takes_one_of_the_places(training):
    sizes = Counter()
    for index in range(40):
        sample = training[index]
        sizes[len(sample["texts"])] += 1
        assert sample["is_image"].tolist() == [True] + [False] * (len(sample["texts"]) - 1)
        assert len(set(sample["texts"])) == len(sample["texts"]) <= 5
    assert sizes[5] > 20


def test_training_says_no_novel_name(training):
    for index in range(40):
        assert not any(name in text.split() for text in training[index]["texts"] for name in NOVEL)


@pytest.mark.parametrize(
    ("grains", "whole"), [("caption", {True}), (("region", "expression"), {False}), (("expression",), {False})]
)
def test_grains_can_be_left_out(world, grains, whole):
    data = StickerTexts(world, 8, grains=grains, base_only=False)
    flags = {flag for index in range(8) for flag in data[index]["is_image"].tolist() if len(data[index]["texts"]) > 1}
    assert flags == (whole if grains != "caption" else set())
    assert all(len(data[index]["texts"]) >= 1 for index in range(8))


def test_things_without_a_name_are_a_kind_of_their_own(make_world, world):
    kinds = Counter()
    data = StickerExpressions(make_world(styles=("twemoji",)), 30, seed=1, nouns=("thing",))
    for index in range(30):
        for text, (kind, _, both) in zip(data[index]["texts"], data[index]["tags"], strict=True):
            assert (kind == "thing") == ("thing" in text.split()) and both.startswith(f"{kind}_")
            kinds[kind] += 1
    assert kinds["thing"] > 15
    training = StickerTexts(world, 30, seed=1, nouns=("thing", "object"))
    words = Counter(word for index in range(30) for text in training[index]["texts"] for word in text.split())
    assert words["thing"] and words["object"]


def test_expressions_are_told_apart_by_kind_and_side(expressions):
    scenes, tags = expressions.scenes, Counter()
    for index in range(60):
        sample, scene = expressions[index], scenes.scene(index)
        names = [scenes.world.vocabulary.names[label] for label in scene.labels]
        for text, box, tag in zip(sample["texts"], sample["boxes_xyxy"], sample["tags"], strict=True):
            kind, side, both = tag
            tags.update(tag)
            target = names[int((scene.boxes_xyxy == box.numpy()).all(axis=1).argmax())]
            said = [name for name in set(names) if name in text.split()]
            expected = "novel" if target in NOVEL else "mixed" if set(said) & set(NOVEL) else "base"
            assert side == expected and both == f"{kind}_{side}" and target in said
        assert sample["things_xyxy"].tolist() == scene.boxes_xyxy.tolist() and len(sample["texts"]) <= 8
    assert {"name", "colour", "superlative", "relation", "base", "novel", "mixed", "relation_mixed"} <= set(tags)


def test_both_forms_make_batches(training, expressions):
    batch = collate_texts([training[0], training[1]])
    assert len(batch["texts"]) == len(batch["boxes_cxcywh_norm"]) and "tags" not in batch
    batch = collate_texts([expressions[0], expressions[1]])
    assert len(batch["tags"]) == len(batch["texts"]) == len(batch["boxes_xyxy"]) and len(batch["things_xyxy"]) == 2
    assert batch["boxes_cxcywh_norm"].dtype == batch["boxes_xyxy"].dtype == torch.float32


def test_kinds_are_drawn_evenly_and_nothing_twice():
    texts = [Expression(str(i), "relation", (0,), (0, 0, 1, 1)) for i in range(30)]
    texts += [Expression("n", "name", (0,), (0, 0, 1, 1)), Expression("c", "colour", (0,), (0, 0, 1, 1))]
    first = Counter(draw_evenly(np.random.default_rng(seed), texts, 1)[0].kind for seed in range(600))
    assert all(abs(count - 200) < 60 for count in first.values()) and len(first) == 3
    drawn = draw_evenly(np.random.default_rng(0), texts, 50)
    assert len(drawn) == len({one.text for one in drawn}) == 32


def test_captions_can_have_batches_of_their_own(world):
    data = StickerTexts(world, 40, turn=4)
    told = set()
    for number in range(32):
        sample = data[Draw(number, number)]
        captions = number // 4 % 4 == 0
        assert (
            sample["is_image"].tolist() == [True] if captions else sample["is_image"][0] == (len(sample["texts"]) < 2)
        )
        told |= {name for name in NOVEL for text in sample["texts"] if f" {name}" in text and captions}
        assert captions or not any(name in text.split() for text in sample["texts"] for name in NOVEL)
    assert told == set(NOVEL)  # in captions alone


def test_mistakes(world):
    with pytest.raises(InputError, match="grains must be of"):
        StickerTexts(world, 4, grains=("captions",))
    with pytest.raises(InputError, match="evaluated on scenes"):
        StickerExpressions(world, 4, stream="train")
