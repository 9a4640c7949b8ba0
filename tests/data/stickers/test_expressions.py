import numpy as np
import pytest

from ovdet.data.stickers.colours import WORDS
from ovdet.data.stickers.expressions import (
    RELATIONS,
    SUPERLATIVES,
    SceneGraph,
    caption,
    counted,
    referring_expressions,
    region_texts,
    with_article,
)
from ovdet.data.stickers.scenes import Scene


def scene_of(vocabulary, *things, ground=""):
    """A scene of (name, colour, box) with filled boxes."""
    boxes = np.array([box for _, _, box in things], np.float32)
    masks = np.zeros((len(things), 100, 100), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    colours = np.zeros((len(things), len(WORDS)), np.float32)
    for row, (_, colour, _) in zip(colours, things, strict=True):
        for word, share in colour.items() if isinstance(colour, dict) else [(colour, 1.0)]:
            row[WORDS.index(word)] = share
    labels = np.array([vocabulary.names.index(name) for name, _, _ in things])
    return Scene(np.zeros((100, 100, 3), np.uint8), masks, boxes, labels, (), colours, ground)


def texts_of(vocabulary, *things, **more):
    graph = SceneGraph(scene_of(vocabulary, *things), vocabulary)
    return {one.text: one.things for one in referring_expressions(graph, **more)}


def holds(text, index, scene, vocabulary, easy):
    """Is `text` true of a thing? By brute force over all things; `easy` takes every benefit of doubt."""
    names = [vocabulary.names[label] for label in scene.labels]
    families = dict(zip(vocabulary.names, vocabulary.families, strict=True))
    centres = (scene.boxes_xyxy[:, :2] + scene.boxes_xyxy[:, 2:]) / 2
    sizes = [(b[2] - b[0]) * (b[3] - b[1]) for b in scene.boxes_xyxy.astype(float)]

    def is_named(i, name):
        return names[i] == name or (easy and families[names[i]] == families[name])

    words = text.removeprefix("the ")
    for relation in RELATIONS:
        if f" {relation} the " in words:
            noun, anchor = words.split(f" {relation} the ")
            targets = [i for i in range(len(names)) if names[i] == anchor]
            assert len(targets) == 1, f"the anchor of {text!r} is ambiguous"
            dx, dy = centres[index] - centres[targets[0]]
            ahead = {"to the left of": -dx, "to the right of": dx, "above": -dy, "below": dy}[relation]
            return index != targets[0] and is_named(index, noun) and ahead > 0
    head, _, noun = words.partition(" ")
    if head in SUPERLATIVES and noun in vocabulary.names:
        value = {
            "leftmost": -centres[:, 0],
            "rightmost": centres[:, 0],
            "topmost": -centres[:, 1],
            "bottommost": centres[:, 1],
            "largest": np.array(sizes),
            "smallest": -np.array(sizes),
        }[head]
        members = [i for i in range(len(names)) if is_named(i, noun)]
        return is_named(index, noun) and value[index] == max(value[i] for i in members)
    if head in WORDS and noun in vocabulary.names:
        return is_named(index, noun) and scene.colours[index, WORDS.index(head)] >= (0.26 if easy else 0.5)
    return is_named(index, words)


def test_every_expression_fits_one_thing_only(world):
    kinds = set()
    for seed in range(120):
        scene = world.draw(np.random.default_rng((21, seed)))
        for one in referring_expressions(SceneGraph(scene, world.vocabulary)):
            kinds.add(one.kind)
            (target,) = one.things
            for easy in (False, True):
                fits = [i for i in range(len(scene.labels)) if holds(one.text, i, scene, world.vocabulary, easy)]
                assert fits == [target], (one, seed, easy)
            assert one.box_xyxy == tuple(scene.boxes_xyxy[target].tolist())
    assert kinds == {"name", "colour", "superlative", "relation"}


def test_names_and_near_duplicates(shapes_vocabulary):
    far, near = (5, 5, 25, 25), (60, 60, 80, 80)
    assert texts_of(shapes_vocabulary, ("square", "red", far))["the square"] == (0,)
    two = texts_of(shapes_vocabulary, ("square", "red", far), ("square", "blue", near))
    assert "the square" not in two and two["the red square"] == (0,) and two["the leftmost square"] == (0,)
    alike = texts_of(shapes_vocabulary, ("disc", "red", far), ("ring", "red", near))  # one family
    assert not {"the disc", "the red disc"} & set(alike)


def test_doubtful_colours_are_not_relied_on(shapes_vocabulary):
    far, near = (5, 5, 25, 25), (60, 60, 80, 80)
    half = {"red": 0.4, "blue": 0.6}
    texts = texts_of(shapes_vocabulary, ("square", "red", far), ("square", half, near))
    assert "the red square" not in texts and texts["the blue square"] == (1,)


def test_narrow_margins_are_not_relied_on(shapes_vocabulary):
    texts = texts_of(shapes_vocabulary, ("square", "red", (5, 5, 25, 25)), ("square", "red", (8, 60, 29, 81)))
    assert not {"the leftmost square", "the largest square"} & set(texts)
    assert texts["the topmost square"] == (0,)


def test_relations_need_one_anchor_and_a_clear_side(shapes_vocabulary):
    left, right, middle = (2, 40, 20, 60), (75, 40, 95, 60), (40, 40, 60, 60)
    texts = texts_of(shapes_vocabulary, ("square", "red", left), ("square", "red", right), ("star", "yellow", middle))
    assert texts["the square to the left of the star"] == (0,)
    assert texts["the square to the right of the star"] == (1,)
    assert "the star to the left of the square" not in texts
    slanted = texts_of(shapes_vocabulary, ("square", "red", (2, 2, 20, 20)), ("star", "red", (60, 60, 80, 80)))
    assert not any(relation in text for text in slanted for relation in RELATIONS)


def test_things_that_are_not_mentioned_still_count(shapes_vocabulary):
    things = [("square", "red", (5, 5, 25, 25)), ("square", "blue", (60, 60, 80, 80)), ("star", "red", (5, 60, 25, 80))]
    texts = texts_of(shapes_vocabulary, *things, mentioned=[True, False, True])
    assert "the square" not in texts and texts["the red square"] == (0,)
    assert "the blue square" not in texts
    texts = texts_of(shapes_vocabulary, *things, mentioned=[True, True, False])
    assert not any("star" in text for text in texts)


def test_things_can_be_told_without_a_name(shapes_vocabulary):
    things = (
        ("square", "red", (0, 0, 60, 60)),
        ("star", "red", (70, 10, 90, 20)),
        ("star", "blue", (40, 80, 60, 95)),
    )
    plain = texts_of(shapes_vocabulary, *things)
    texts = texts_of(shapes_vocabulary, *things, nouns=("thing",))
    assert {text: things for text, things in texts.items() if " thing" not in text} == plain
    assert {text: things for text, things in texts.items() if " thing" in text} == {
        "the blue thing": (2,),  # two are red
        "the leftmost thing": (0,),
        "the rightmost thing": (1,),
        "the topmost thing": (1,),
        "the bottommost thing": (2,),
        "the largest thing": (0,),
        "the smallest thing": (1,),
        "the thing below the square": (2,),  # what is to its right, or above, is not clear
    }
    said = texts_of(shapes_vocabulary, *things, nouns=("thing",), mentioned=(True, False, True))
    assert "the rightmost thing" not in said and said["the largest thing"] == (0,)


def test_captions_count_and_name(shapes_vocabulary):
    things = [("square", "red", (5, 5, 25, 25)), ("square", "blue", (60, 60, 80, 80)), ("star", "red", (5, 60, 25, 80))]
    graph = SceneGraph(scene_of(shapes_vocabulary, *things, ground="on grass"), shapes_vocabulary)
    assert caption(graph) == "two squares and a red star on grass"
    assert caption(graph, [True, False, False]) == "a red square on grass"
    assert caption(graph, [False] * 3) == "nothing to name on grass"


def test_texts_of_regions_are_true(shapes_vocabulary):
    graph = SceneGraph(
        scene_of(shapes_vocabulary, ("square", "red", (2, 40, 30, 68)), ("star", "blue", (40, 40, 68, 68))),
        shapes_vocabulary,
    )
    texts = {one.text: (one.things, one.box_xyxy) for one in region_texts(graph)}
    assert texts["a red square"][0] == (0,) and texts["a star in the middle"][0] == (1,)
    assert texts["a square on the left"][0] == (0,)
    assert texts["a square to the left of a star"] == ((0, 1), (2.0, 40.0, 68.0, 68.0))
    assert "a square to the right of a star" not in texts


@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("cat", "a cat"),
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("scissors", "scissors"),
        ("cactus", "a cactus"),
        ("x-ray", "an x-ray"),
        ("wine glass", "a wine glass"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
    ],
)
def test_articles(noun, text):
    assert with_article(noun) == text


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [
        ("cat", 2, "two cats"),
        ("computer mouse", 3, "three computer mice"),
        ("canoe", 12, "12 canoes"),
        ("box", 2, "two boxes"),
        ("cherry", 2, "two cherries"),
        ("key", 2, "two keys"),
        ("socks", 2, "two socks"),
        ("wine glass", 2, "two wine glasses"),
    ],
)
def test_counting(name, count, text):
    assert counted(name, count) == text
