"""Candidates against the rule written out: what is taken, what is joined, and by what the score moves."""

import math

import numpy as np
import pytest

from ovdet.ops.masks import boxes_xyxy_of_masks
from ovdet.results import Detections
from ovdet.seggpt.candidates import AGREEMENT, EVEN, SURE_ENOUGH, agreed, choose, things_of_example
from ovdet.seggpt.postprocess import MaskRules
from ovdet.seggpt.predict import Prompt, SoftMaps
from ovdet.seggpt.views import find_windows

SIZE_HW = (16, 24)
LEFT, MIDDLE, RIGHT = (0, 0, 8, 16), (8, 0, 16, 16), (16, 0, 24, 8)


def mask_of(*boxes):
    mask = np.zeros(SIZE_HW, bool)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = True
    return mask


def maps(*classes):
    """Soft maps of the picture's size, one for each class, that are `value` in a box and 0 elsewhere."""
    small = np.zeros((len(classes), 1, *SIZE_HW), np.float32)
    for label, filled in enumerate(classes):
        for box, value in filled:
            small[label, 0][mask_of(box)] = value
    return SoftMaps(small, find_windows(SIZE_HW, 4.0, 24))


def candidates(names, *found):
    masks = np.stack([mask_of(box) for _, _, box in found]) if found else np.zeros((0, *SIZE_HW), bool)
    return Detections(
        boxes_xyxy_of_masks(masks), [each[1] for each in found], [each[0] for each in found], names, SIZE_HW, masks
    )


def prompt(*names, mode="semantic"):
    return Prompt(names, mode, ())


def test_agreement_moves_the_logit():
    assert agreed(0.3, EVEN) == pytest.approx(0.3)
    for score, inside in ((0.1, 0.9), (0.6, 0.0), (0.02, 1.0)):
        moved = math.log(score / (1 - score)) + AGREEMENT * (inside - EVEN)
        assert agreed(score, inside) == pytest.approx(1 / (1 + math.exp(-moved)))
    assert 0 < agreed(0.0, 0.0) < agreed(1.0, 1.0) < 1


def test_cut_off_bits_are_no_things_of_an_example():
    mask = mask_of((0, 0, 8, 8), (12, 0, 20, 6), (22, 14, 24, 16))
    assert things_of_example(mask).tolist() == [[0, 0, 8, 8], [12, 0, 20, 6]]


def test_what_both_find_is_joined_and_what_one_finds_is_not():
    soft = maps([(LEFT, 0.9), (RIGHT, 0.8), (MIDDLE, 0.0)])
    least = 0.5
    found = candidates(["cup"], (0, 0.6, LEFT), (0, 0.55, RIGHT), (0, 0.5, MIDDLE))
    result = choose(soft, found, prompt("cup"), MaskRules(least), name="both")
    assert result.names == ["cup"] and result.model == "both"
    assert np.array_equal(result.masks[0], mask_of(LEFT, RIGHT)) and result.boxes_xyxy.tolist() == [[0, 0, 24, 16]]
    assert result.scores[0] == pytest.approx(agreed(0.6, 0.9), abs=1e-6)
    nothing = choose(soft, candidates(["cup"]), prompt("cup"))
    assert len(nothing) == 0 and nothing.masks.shape == (0, *SIZE_HW)


def test_the_threshold_is_of_the_score():
    soft = maps([(LEFT, EVEN), (RIGHT, EVEN)])
    found = candidates(["cup"], (0, SURE_ENOUGH + 0.01, LEFT), (0, SURE_ENOUGH - 0.01, RIGHT))
    assert np.array_equal(choose(soft, found, prompt("cup")).masks[0], mask_of(LEFT))
    assert np.array_equal(choose(soft, found, prompt("cup"), MaskRules(0.05)).masks[0], mask_of(LEFT, RIGHT))
    assert len(choose(soft, found, prompt("cup"), MaskRules(0.9))) == 0


def test_modes():
    soft = maps([(LEFT, 0.5), (RIGHT, 0.9)])
    found = candidates(["cup"], (0, 0.6, LEFT), (0, 0.6, RIGHT))
    things = choose(soft, found, prompt("cup", mode="similar"))
    assert [mask.tolist() for mask in things.masks] == [mask_of(RIGHT).tolist(), mask_of(LEFT).tolist()]
    assert things.scores[0] > things.scores[1]
    assert len(choose(soft, found, prompt("cup", mode="similar"), max_dets=1)) == 1
    assert np.array_equal(choose(soft, found, prompt("cup", mode="instance")).masks, [mask_of(RIGHT)])


def test_a_pixel_goes_to_the_surer_class_unless_overlap_is_asked_for():
    soft = maps([(LEFT, 0.9)], [(LEFT, 0.4), (MIDDLE, 0.4)])
    wide = (0, 0, 14, 16)
    found = candidates(["cup", "jug"], (0, 0.6, LEFT), (1, 0.6, wide), (1, 0.5, LEFT))
    apart = choose(soft, found, prompt("cup", "jug"))
    assert apart.names == ["cup"], "less than half of the jug is left"
    overlapping = choose(soft, found, prompt("cup", "jug"), MaskRules(exclusive=False))
    assert overlapping.names == ["cup", "jug"] and np.array_equal(overlapping.masks[1], mask_of(wide))
    found = candidates(["cup", "jug"], (0, 0.6, LEFT), (1, 0.6, (6, 0, 16, 16)))
    apart = choose(soft, found, prompt("cup", "jug"))
    assert apart.names == ["cup", "jug"] and np.array_equal(apart.masks[1], mask_of(MIDDLE))


def test_rules_hold_for_what_is_taken():
    soft = maps([(LEFT, 0.9), (RIGHT, 0.9)])
    found = candidates(["cup"], (0, 0.6, LEFT), (0, 0.6, RIGHT))
    assert np.array_equal(choose(soft, found, prompt("cup"), MaskRules(largest=True)).masks[0], mask_of(LEFT))
    assert len(choose(soft, found, prompt("cup"), MaskRules(min_pixels=200))) == 0
