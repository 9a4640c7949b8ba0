import logging

import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.seggpt import predict as predict_module
from ovdet.seggpt.colours import class_colours, paint_labels
from ovdet.seggpt.examples import Example
from ovdet.seggpt.model import Kind
from ovdet.seggpt.postprocess import MaskRules
from ovdet.seggpt.predict import SegGPTSegmenter
from ovdet.seggpt.prompts import TunedPrompt, fingerprint

GRAY, RED, BLUE, GREEN = (90, 90, 90), (250, 0, 0), (0, 0, 250), (0, 250, 0)
SIDE = 32


@pytest.fixture
def desk(colour_desk):
    return colour_desk


def scene(*patches, size_hw=(SIDE, SIDE)):
    """A gray picture with rectangles of colours: (colour, rows, columns)."""
    image = np.full((*size_hw, 3), GRAY, np.uint8)
    for colour, rows, columns in patches:
        image[rows, columns] = colour
    return image


def example_of(colour, name):
    image = scene((colour, slice(4, 12), slice(8, 24)))
    return Example.from_mask(image, (image == colour).all(2), name)


TARGET = scene(
    (RED, slice(0, 16), slice(8, 24)),
    (BLUE, slice(40, 60), slice(0, 30)),
    (RED, slice(40, 48), slice(40, 64)),
    size_hw=(64, 64),
)


def test_a_class_is_found_with_its_box_score_and_mask(desk):
    prompt = desk.learn([example_of(RED, "poppy")])
    assert desk.model.asked == [("SEMANTIC", 1)]
    (found,) = desk.predict([TARGET], prompt)
    assert found.names == ["poppy"] and found.size_hw == (64, 64) and found.model == "colours"
    wanted = (TARGET == RED).all(2)
    assert (found.masks[0] & wanted).sum() / (found.masks[0] | wanted).sum() > 0.9
    np.testing.assert_allclose(found.boxes_xyxy[0], [8, 0, 64, 48], atol=1)
    assert found.scores[0] > 0.9


def test_in_the_mirror_what_is_seen_is_the_mean_of_both_views(tiny_model):
    """By hand: the example beside its mirror image, the picture and its mirror image, turned back and averaged."""
    plain, mirrored = SegGPTSegmenter(tiny_model), SegGPTSegmenter(tiny_model, mirror=True, batch_size=2)
    rng = np.random.default_rng(0)
    side = tiny_model.config.picture_hw
    image, *pictures = rng.integers(0, 255, (3, *side, 3), dtype=np.uint8)
    mask = np.zeros(side, bool)
    mask[: side[0] // 2, : side[1] // 3] = True
    both = [Example.from_mask(image, mask), Example.from_mask(image[:, ::-1].copy(), mask[:, ::-1].copy())]
    prompt = plain.learn(both)
    for picture, found in zip(pictures, mirrored.soft_masks(pictures, mirrored.learn(both[:1])), strict=True):
        straight, back = plain.soft_masks([picture, picture[:, ::-1].copy()], prompt)
        np.testing.assert_allclose(found, (straight + back[:, :, ::-1]) / 2, atol=1e-5)
    (turned,) = mirrored.soft_masks([pictures[0][:, ::-1].copy()], mirrored.learn(both[1:]))
    (found,) = mirrored.soft_masks([pictures[0]], mirrored.learn(both[:1]))
    (asked,) = plain.soft_masks([pictures[0]], plain.learn(both[:1], mirror=True))
    np.testing.assert_allclose(asked, found, atol=1e-5)
    inside = (slice(None), slice(1, None))  # the seam depends on the first example more than on the others
    np.testing.assert_allclose(turned[:, :, ::-1][inside], found[inside], atol=1e-5)


def test_similar_things_are_taken_apart(desk):
    (found,) = desk.predict([TARGET], desk.learn([example_of(RED, "poppy")], mode="similar"))
    assert found.names == ["poppy", "poppy"]
    boxes = sorted(found.boxes_xyxy.tolist())
    np.testing.assert_allclose(boxes, [[8, 0, 24, 16], [40, 40, 64, 48]], atol=1)
    (one,) = desk.predict([TARGET], desk.learn([example_of(RED, "poppy")], mode="similar"), max_dets=1)
    assert len(one) == 1


def test_instances_ask_for_the_very_thing(desk):
    prompt = desk.learn([example_of(RED, "mine")], mode="instance")
    assert desk.model.asked == [("INSTANCE", 1)]
    assert desk.predict([TARGET], prompt)[0].names == ["mine"]


@pytest.mark.parametrize("together", [False, True])
def test_several_classes_in_one_answer(desk, together):
    image = scene((RED, slice(0, 8), slice(0, 32)), (BLUE, slice(20, 30), slice(0, 32)))
    labels = (image == RED).all(2) + 2 * (image == BLUE).all(2)
    prompt = desk.learn([Example.from_palette(image, labels, ["poppy", "sea"])], together=together)
    assert len(prompt.passes) == (1 if together else 2)
    (found,) = desk.predict([TARGET], prompt)
    assert found.class_names == ("poppy", "sea") and set(found.names) == {"poppy", "sea"}
    for index, name in enumerate(found.names):
        wanted = (TARGET == (RED if name == "poppy" else BLUE)).all(2)
        assert (found.mask(index) & wanted).sum() / (found.mask(index) | wanted).sum() > 0.85
    (soft,) = desk.soft_masks([TARGET], prompt)
    assert soft.shape == (2, 64, 64) and soft[0, 5, 15] > 0.95 and soft[0, 50, 15] < 0.05 < 0.95 < soft[1, 50, 15]


def test_classes_of_several_examples_are_joined_by_name(desk):
    prompt = desk.learn([example_of(RED, "poppy"), example_of(BLUE, "sea"), example_of(RED, "poppy")])
    assert prompt.names == ("poppy", "sea")
    assert desk.model.asked == [("SEMANTIC", 2), ("SEMANTIC", 1)]


def test_the_spatial_ensemble_is_one_canvas(desk):
    prompt = desk.learn([example_of(RED, "bright"), example_of(BLUE, "bright")], ensemble="spatial")
    assert desk.model.asked == [("SEMANTIC", 1)]
    (found,) = desk.predict([TARGET], prompt)
    wanted = (TARGET == RED).all(2) | (TARGET == BLUE).all(2)
    assert (found.masks[0] & wanted).sum() / (found.masks[0] | wanted).sum() > 0.9


def test_masks_exclude_each_other_unless_told_otherwise(desk):
    prompt = desk.learn([example_of(RED, "poppy"), example_of(RED, "red thing")])
    (apart,) = desk.predict([TARGET], prompt)
    (both,) = desk.predict([TARGET], prompt, rules=MaskRules(exclusive=False))
    assert len(apart) == 1 and len(both) == 2
    assert np.array_equal(both.masks[0], both.masks[1])


def test_nothing_found_is_an_empty_answer(desk):
    (found,) = desk.predict([scene()], desk.learn([example_of(RED, "poppy")]))
    assert len(found) == 0 and found.rles == () and found.class_names == ("poppy",)


def test_rules_reach_the_masks(desk):
    prompt = desk.learn([example_of(RED, "poppy")])
    (found,) = desk.predict([TARGET], prompt, rules=MaskRules(largest=True))
    assert found.masks[0].any(axis=1).nonzero()[0].max() < 20
    desk.threshold = 0.9999
    assert desk.predict([TARGET], prompt)[0].masks[0].sum() <= (TARGET == RED).all(2).sum()


def test_long_pictures_are_looked_at_in_windows(desk):
    strip = scene((RED, slice(0, 8), slice(1000, 1006)), size_hw=(8, 1500))
    prompt = desk.learn([example_of(RED, "poppy")])
    (found,) = desk.predict([strip], prompt)
    np.testing.assert_allclose(found.boxes_xyxy[0], [1000, 0, 1006, 8], atol=1)
    desk.max_aspect = float("inf")
    assert len(desk.predict([strip], prompt)[0]) == 0  # squeezed to an eighth of a pixel


@pytest.mark.parametrize("together", [False, True])
def test_pictures_of_a_batch_leave_each_other_alone(tiny_model, together):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20 + 7 * index, 90, 3), dtype=np.uint8) for index in range(3)]
    labels = np.zeros((30, 40), int)
    labels[5:20, 5:20], labels[15:28, 25:38] = 1, 2
    examples = [
        Example.from_palette(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), labels, ["a", "b"]) for _ in range(2)
    ]
    desk = SegGPTSegmenter(tiny_model)
    alone = [desk.soft_masks([image], desk.learn(examples, together=together))[0] for image in images]
    desk.batch_size = 2
    for one, other in zip(alone, desk.soft_masks(images, desk.learn(examples, together=together)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert not np.allclose(alone[0][0].mean(), alone[1][0].mean(), atol=1e-4)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_tuned_prompt_is_an_example(tiny_model, mirror):
    desk = SegGPTSegmenter(tiny_model, mirror=mirror)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    labels = np.zeros((32, 32), np.int32)
    labels[:9, :20], labels[20:, 12:] = 1, 2
    colours = class_colours(2)
    picture, painting = (
        tiny_model.normalise(torch.from_numpy(each).permute(2, 0, 1)[None])[0]
        for each in (image, paint_labels(labels, colours))
    )
    tuned = TunedPrompt(picture, painting, ("a", "b"), colours, Kind.SEMANTIC, fingerprint(tiny_model))
    prompt = desk.learn_tuned(tuned)
    wanted = desk.learn([Example.from_palette(image, labels, ["a", "b"])], together=True)
    assert (prompt.names, prompt.mode) == (wanted.names, wanted.mode)
    np.testing.assert_allclose(desk.soft_masks([image], prompt)[0], desk.soft_masks([image], wanted)[0], atol=1e-6)


def test_bfloat16_is_near(tiny_model):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    example = Example.from_mask(image, np.arange(32) + np.zeros((32, 1)) > 15)
    soft = [
        desk.soft_masks([image[::-1]], desk.learn([example]))[0]
        for desk in (SegGPTSegmenter(tiny_model), SegGPTSegmenter(tiny_model, precision="bf16"))
    ]
    assert not np.array_equal(*soft)
    assert np.abs(soft[0] - soft[1]).mean() < 0.02


def test_a_checkpoint_comes_back_as_the_same_desk(tiny_model, tmp_path):
    desk = SegGPTSegmenter(tiny_model, threshold=0.3)
    desk.save(tmp_path / "model.pth")
    again = SegGPTSegmenter.load(tmp_path / "model.pth", batch_size=2)
    assert again.threshold == 0.3 and again.batch_size == 2 and again.name == "seggpt:model.pth"
    example = example_of(RED, "poppy")
    one, other = (each.soft_masks([TARGET], each.learn([example]))[0] for each in (desk, again))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_many_examples_are_warned_of(desk, monkeypatch, caplog):
    monkeypatch.setattr(predict_module, "MANY_EXAMPLES", 2)
    with caplog.at_level(logging.WARNING):
        desk.learn([example_of(RED, "poppy")] * 3)
    assert "3 examples of 'poppy'" in caplog.text


def test_a_class_that_vanishes_is_named(desk):
    mask = np.zeros((320, 320), bool)
    mask[0, 0] = True
    with pytest.raises(InputError, match=r"'ant' is too small.*32x32"):
        desk.learn([Example.from_mask(np.zeros((320, 320, 3), np.uint8), mask, "ant")])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda desk: desk.learn([]), "at least one example"),
        (lambda desk: desk.learn([example_of(RED, "a")], mode="panoptic"), "mode must be one of semantic"),
        (lambda desk: desk.learn([example_of(RED, "a")], ensemble="mean"), "ensemble must be one of"),
        (lambda desk: desk.predict([TARGET, TARGET[..., 0]], desk.learn([example_of(RED, "a")])), "picture 1 must be"),
        (lambda desk: SegGPTSegmenter(desk.model, precision="int8"), "precision must be one of"),
        (lambda desk: SegGPTSegmenter(desk.model, batch_size=0), "batch_size"),
    ],
)
def test_mistakes_are_one_sentence(desk, call, said):
    with pytest.raises(InputError, match=said) as caught:
        call(desk)
    assert "\n" not in str(caught.value)
