import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdet.errors import InputError
from ovdet.seggpt.colours import check_names, class_colours, paint_labels, soft_masks


@pytest.mark.parametrize("count", [1, 2, 7, 8, 20, 133, 150, 2000])
def test_colours_are_apart_from_each_other_and_from_black(count):
    colours = class_colours(count).astype(int)
    assert colours.shape == (count, 3)
    assert colours[0].tolist() == [255, 255, 255]
    with_black = np.concatenate([[[0, 0, 0]], colours])
    distances = np.abs(with_black[:, None] - with_black[None]).sum(-1) + 1000 * np.eye(count + 1, dtype=int)
    assert distances.min() >= 256 // (round(count ** (1 / 3)) + 1)


def test_ade20k_palette_is_painters():
    """Six levels a channel, 42 apart: fact sheet 2.2."""
    colours = class_colours(150)
    assert colours[1].tolist() == [255, 255, 255 - 42]
    assert colours[6].tolist() == [255, 255 - 42, 255]
    assert colours[149].tolist() == [255 - 42 * (149 // 36), 255 - 42 * (149 % 36 // 6), 255 - 42 * (149 % 6)]


@pytest.mark.parametrize("count", [0, 2001])
def test_too_many_classes_are_refused(count):
    with pytest.raises(InputError, match="one by one"):
        class_colours(count)


def test_white_alone_is_the_mean_of_the_channels():
    painted = torch.rand(2, 3, 7, 5) * 255
    torch.testing.assert_close(soft_masks(painted, class_colours(1))[:, 0], painted.mean(1) / 255)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_the_surest_class_is_that_of_the_nearest_colour(count, seed):
    rng = np.random.default_rng(seed)
    colours = class_colours(count)
    painted = rng.integers(0, 256, (1, 3, 4, 4)).astype(np.float32)
    soft = soft_masks(torch.from_numpy(painted), colours)[0].numpy()
    assert ((soft >= 0) & (soft <= 1)).all()
    for row in range(4):
        for column in range(4):
            away = [
                np.abs(painted[0, :, row, column] - colour).sum() for colour in [np.zeros(3), *colours.astype(float)]
            ]
            for label in range(count):
                others = min(away[: label + 1] + away[label + 2 :])
                wanted = others / (others + away[label + 1])
                assert soft[label, row, column] == pytest.approx(wanted, abs=1e-5)
                if soft[label, row, column] > 0.5 + 1e-6:
                    assert np.argmin(away) == label + 1


def test_painting_and_reading_are_inverse():
    labels = np.random.default_rng(0).integers(0, 6, (9, 8))
    colours = class_colours(5)
    painted = torch.from_numpy(paint_labels(labels, colours)).permute(2, 0, 1)[None].float()
    soft = soft_masks(painted, colours)[0]
    for label in range(5):
        assert torch.equal(soft[label] == 1, torch.from_numpy(labels == label + 1))
        assert (soft[label][torch.from_numpy(labels == 0)] < 0.5).all()


@pytest.mark.parametrize(
    ("names", "said"), [((), "at least one"), (("a", " "), "name 1 is blank"), (("a", "a"), "twice")]
)
def test_names_are_checked(names, said):
    with pytest.raises(InputError, match=said):
        check_names(names)
