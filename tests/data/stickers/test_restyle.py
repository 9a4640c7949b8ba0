"""Sprites redrawn in other manners."""

import numpy as np
import pytest

from ovdet.data.stickers.render import render_sprite, solid
from ovdet.data.stickers.restyle import restyle

SEEDS = range(40)


@pytest.fixture
def patch(pack):
    return render_sprite(np.random.default_rng(0), pack.sprite(pack.sprites_of("disc")["noto"][0], 60), 60, 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_shapes_stay_and_colours_never_exceed_their_alpha(patch, seed):
    drawn = restyle(np.random.default_rng(seed), patch)
    assert drawn.shape == patch.shape and drawn.dtype == np.uint8
    assert (drawn[..., :3] <= drawn[..., 3:]).all()
    assert solid(drawn)[solid(patch)].all()
    assert (solid(drawn) & ~solid(patch)).sum() <= 0.2 * solid(patch).sum()  # the rim


def test_equal_generators_draw_alike_and_others_differ(patch):
    first, again = (restyle(np.random.default_rng(3), patch) for _ in range(2))
    assert np.array_equal(first, again)
    assert len({restyle(np.random.default_rng(seed), patch).tobytes() for seed in SEEDS}) > 20


def test_some_get_dark_rims_some_few_colours_some_other_colours(patch):
    inside = solid(patch)
    rim = inside & ~np.pad(inside, 2)[:-4, 2:-2]
    drawn = [restyle(np.random.default_rng(seed), patch) for seed in SEEDS]
    dark = [one[rim][:, :3].mean() < 60 for one in drawn]
    assert 0.2 < np.mean(dark) < 0.8
    hues = {tuple((one[inside][:, :3].mean(axis=0) // 64).astype(int)) for one in drawn}
    assert len(hues) >= 4


def test_scenes_without_restyling_draw_as_ever(pack):
    sprite = pack.sprite(pack.sprites_of("star")["noto"][0], 60)
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    assert np.array_equal(
        render_sprite(one, sprite, 50, 10.0), render_sprite(other, sprite, 50, 10.0, restyle_share=0.0)
    )
    assert one.random() == other.random()


def test_too_small_a_patch_stays():
    tiny = np.full((5, 9, 4), 200, np.uint8)
    assert restyle(np.random.default_rng(0), tiny) is tiny
