import numpy as np
import pytest

from ovdet.data.stickers.colours import WORDS, colour_shares
from ovdet.data.stickers.render import contact_shadow, darken, drop_shadow, overlap, paste, render_sprite, solid


@pytest.mark.parametrize("seed", range(12))
def test_a_patch_is_tight_and_has_the_wanted_size(pack, seed):
    sprite = pack.sprite(pack.sprites_of("square")["noto"][0], 60)
    patch = render_sprite(np.random.default_rng(seed), sprite, 60, 0.0)
    inside = solid(patch)
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    assert all(60 * 0.85 - 3 <= side <= 60 * 1.15 + 6 for side in patch.shape[:2])  # stretched by up to 12 %, paper
    assert (patch[..., :3] <= patch[..., 3:]).all()


@pytest.mark.parametrize(("place", "word"), [(0, "red"), (1, "green"), (2, "blue"), (3, "yellow"), (4, "purple")])
def test_jitter_leaves_colour_words_their_sense(pack, place, word):
    sprite = pack.sprite(pack.sprites_of("disc")[pack.styles[place]][0], 48)
    for seed in range(25):
        patch = render_sprite(np.random.default_rng(seed), sprite, 48, 0.0)
        shares = colour_shares(patch[patch[..., 3] == 255][:, :3])
        assert shares[WORDS.index(word)] > 0.5


def test_turning_by_a_right_angle_swaps_the_sides(pack):
    sprite = pack.sprite(pack.sprites_of("bar")["noto"][0], 96)
    assert np.diff(render_sprite(np.random.default_rng(0), sprite, 90, 0.0).shape[:2]) > 20
    assert np.diff(render_sprite(np.random.default_rng(0), sprite, 90, 90.0).shape[:2]) < -20


def test_nothing_solid_gives_an_empty_patch():
    assert render_sprite(np.random.default_rng(0), np.zeros((24, 24, 4), np.uint8), 30, 5.0).size == 0


@pytest.mark.parametrize(("left", "top"), [(3, 4), (-5, -2), (17, 15), (40, 0), (0, -30), (-9, 50)])
def test_pasting_is_what_compositing_says(left, top):
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (9, 11, 1))
    patch = np.concatenate([(rng.integers(0, 256, (9, 11, 3)) * alpha) // 255, alpha], axis=2).astype(np.uint8)
    expected = canvas.astype(float)
    for row in range(9):
        for column in range(11):
            y, x = top + row, left + column
            if 0 <= y < 20 and 0 <= x < 24:
                expected[y, x] = patch[row, column, :3] + expected[y, x] * (1 - patch[row, column, 3] / 255)
    paste(canvas, patch, left, top)
    assert np.abs(canvas - expected).max() <= 1


def test_shadows_darken_only():
    canvas = np.full((30, 30, 3), 200, np.uint8)
    shadow, margin = drop_shadow(np.full((6, 6), 255, np.uint8), 2.0, 0.5)
    assert shadow.shape == (6 + 2 * margin,) * 2 and 0.3 < shadow.max() <= 0.5 and shadow[0].max() < 0.05
    darken(canvas, shadow, -4, 20)
    assert canvas.max() == 200 and canvas.min() < 150
    assert contact_shadow(20, 0.6).max() <= 0.6 and contact_shadow(20, 0.6).shape[1] == 20


def test_overlap_is_empty_where_nothing_meets():
    assert np.zeros((9, 9))[overlap((9, 9), (3, 3), 30, -30)[0]].size == 0
