"""The shipped detector of stickers on 100 fixed scenes that no training saw, with all 741 names as candidates."""

import pytest

from ovdet import Detector

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figures(figures_on_fixed_scenes):
    detector = Detector("stickers", device="cpu")
    return figures_on_fixed_scenes("75-25", lambda picture, names: detector(picture, names, score=0.001, max_dets=100))


def test_it_finds_what_it_saw_boxed(figures):
    assert figures["box_base"] >= 66


def test_it_finds_names_whose_boxes_it_never_saw(figures):
    assert figures["box_novel"] >= 60


def test_masks_follow_boxes(figures):
    assert figures["mask_all"] >= 60
    assert 0 < figures["box_all"] - figures["mask_all"] <= 7
