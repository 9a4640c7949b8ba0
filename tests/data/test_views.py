import numpy as np
import pytest
from PIL import Image

from ovdet.data.sampling import Draw
from ovdet.data.views import (
    View,
    check_side_words,
    crop_anywhere,
    crop_around,
    mirror,
    to_tensor,
    view_generator,
    whole_view,
)
from ovdet.errors import InputError

BOX = (30, 20, 40, 25)


@pytest.mark.parametrize("crop", [(0, 0, 120, 90), (10, 5, 90, 80), (30, 20, 70, 45), (40, 30, 120, 90)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_box_stays_on_its_thing(red_picture, red_box, crop, mirrored):
    picture = Image.open(red_picture("a.png", (120, 90), BOX))
    view = View(crop, mirrored)
    (box,), (seen,) = view.boxes(np.array([BOX]))
    found = red_box(to_tensor(view.picture(picture, 192)))
    assert (*(box[:2] - box[2:] / 2), *(box[:2] + box[2:] / 2)) == pytest.approx(found, abs=0.02)
    visible = max(0, min(crop[2], 70) - max(crop[0], 30)) * max(0, min(crop[3], 45) - max(crop[1], 20))
    assert seen == pytest.approx(visible / (40 * 25))


def test_what_is_outside_is_not_seen():
    _, seen = View((80, 60, 120, 90)).boxes(np.array([BOX, (100, 70, 10, 10)]))
    assert seen.tolist() == [0, 1]


def test_crops_hold_the_box_and_reach_every_border():
    rng = np.random.default_rng(0)
    crops = np.array([crop_around(rng, (3.5, 2.2, 4.2, 3.3), (10, 8)).crop_xyxy for _ in range(400)])
    assert {*crops[:, 0]} == {0, 1, 2, 3} and {*crops[:, 1]} == {0, 1, 2}
    assert {*crops[:, 2]} == {8, 9, 10} and {*crops[:, 3]} == {6, 7, 8}


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 5, -5), (0, float("nan"), 5, 5)])
def test_boxes_that_cannot_be_cropped_around(box):
    with pytest.raises(InputError, match="no area or starts outside"):
        crop_around(np.random.default_rng(0), box, (10, 10))
    with pytest.raises(InputError, match="reaches out of the picture of 10 x 10"):
        crop_around(np.random.default_rng(0), (5, 5, 9, 2), (10, 10))


def test_random_parts_have_the_areas_and_aspects_asked_for():
    rng = np.random.default_rng(0)
    views = [crop_anywhere(rng, (200, 100), (0.2, 1.0)) for _ in range(300)]
    corners = np.array([view.crop_xyxy for view in views])
    size = corners[:, 2:] - corners[:, :2]
    share, aspect = size.prod(axis=1) / 20000, size[:, 0] / size[:, 1]
    assert 0.19 < share.min() < 0.24 and 0.6 < share.max() <= 1
    assert 0.73 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.36
    assert (corners >= 0).all() and (corners[:, 2:] <= (200, 100)).all()


def test_drawing_a_part_leaves_torchs_own_numbers_alone():
    import torch

    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    crop_anywhere(np.random.default_rng(0), (20, 20), (0.5, 1.0))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("side_words", "texts", "mirrored", "said"),
    [
        ("ignore", [["the left dog"]], True, [["the left dog"]]),
        ("keep", [["a cat"], ["the left dog"]], False, [["a cat"], ["the left dog"]]),
        ("keep", [["a cat"], ["a dog"]], True, [["a cat"], ["a dog"]]),
        ("swap", [["a cat"], ["the left dog"]], True, [["a cat"], ["the right dog"]]),
    ],
)
def test_mirrored_pictures_and_sides(side_words, texts, mirrored, said):
    view, groups = mirror(np.random.default_rng(0), View((0, 0, 5, 5)), texts, side_words, chance=1.0)
    assert (view.mirrored, groups) == (mirrored, said)
    assert mirror(np.random.default_rng(0), View((0, 0, 5, 5)), texts, side_words, chance=0.0)[1] == texts


def test_half_of_the_pictures_are_mirrored():
    rng = np.random.default_rng(0)
    count = sum(mirror(rng, View((0, 0, 5, 5)), [], "keep")[0].mirrored for _ in range(1000))
    assert 440 < count < 560


def test_a_draw_decides_the_view_and_not_the_place():
    first, second = (view_generator(3, index).random() for index in (Draw(1, 7), Draw(2, 7)))
    assert first == second == view_generator(3, 7).random() != view_generator(4, 7).random()


def test_policies_are_checked():
    with pytest.raises(InputError, match="side_words must be"):
        check_side_words("flip")


def test_the_whole_is_resized_by_pil(red_picture):
    picture = Image.open(red_picture("a.png", (50, 30), (5, 5, 20, 20)))
    expected = np.asarray(picture.resize((24, 24), Image.Resampling.BICUBIC))
    assert (to_tensor(whole_view(picture).picture(picture, 24)).permute(1, 2, 0).numpy() == expected).all()
