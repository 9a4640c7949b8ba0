import numpy as np
import pytest

from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.regions import find_regions, fuse

CONFIG = ZeroShotConfig()


def bump(shape, centre, radius, height=1.0):
    """A round hill."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    squared = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return (height * np.exp(-squared / (2 * radius**2))).astype(np.float32)


def test_fused_map_is_the_geometric_mean_of_three_neighbours():
    maps = np.random.default_rng(0).random((5, 4, 6), dtype=np.float32)
    fused = fuse(maps)
    assert len(fused) == 3
    np.testing.assert_allclose(fused[1], np.exp(np.log(maps[1:4]).mean(axis=0)), rtol=1e-5)


def test_one_thing_is_one_region_around_its_peak():
    maps = np.stack([bump((40, 60), (20, 30), 5)] * 5)
    (region,) = find_regions(maps, CONFIG, 0.3)
    left, top, right, bottom = region.box
    assert region.peak == pytest.approx(1)
    assert region.score == pytest.approx(float(maps[0][region.cells].mean()) ** 0.5, abs=1e-5)
    assert (left + right) / 2 == pytest.approx(30.5) and (top + bottom) / 2 == pytest.approx(20.5)
    assert region.cells[20, 30] and not region.cells[0, 0] and region.likely.max() == pytest.approx(1)
    radius = 5 * np.sqrt(-2 * np.log(min(CONFIG.rims)))  # where the hill falls to the lowest rim
    assert right - left == pytest.approx(2 * radius, abs=2)


def test_two_things_far_apart_are_two_regions():
    hills = bump((40, 80), (20, 20), 4) + bump((40, 80), (20, 60), 4, 0.8)
    regions = find_regions(np.stack([hills] * 5), CONFIG, 0.3)
    assert [round((r.box[0] + r.box[2] - 1) / 2) for r in regions] == [20, 60]
    assert [r.peak for r in regions] == pytest.approx([1, 0.8], abs=1e-3)


def test_what_one_size_alone_sees_is_nothing():
    maps = np.full((5, 40, 60), 0.001, np.float32)
    maps[2] += bump((40, 60), (20, 30), 5)
    assert find_regions(maps, CONFIG, 0.3) == []


def test_a_small_thing_shows_in_the_fine_sizes_alone():
    maps = np.full((5, 40, 60), 0.001, np.float32)
    maps[2:] += bump((40, 60), (10, 12), 3)
    (region,) = find_regions(maps, CONFIG, 0.3)
    assert region.cells[10, 12]


def test_best_first_and_never_below_the_threshold():
    heights = (0.7, 0.9, 0.5, 1.0, 0.65)
    hills = sum(bump((20, 100), (10, 10 + 20 * k), 2, height) for k, height in enumerate(heights))
    everything = find_regions(np.stack([hills] * 5), CONFIG, 0.0)
    scores = [region.score for region in everything]
    assert [region.peak for region in everything] == pytest.approx([1.0, 0.9, 0.7, 0.65, 0.5], abs=1e-3)
    assert scores == sorted(scores, reverse=True)
    best = find_regions(np.stack([hills] * 5), CONFIG, scores[2])
    assert [region.score for region in best] == scores[:3]


@pytest.mark.parametrize(
    "wrong", [{"view_sides": (64, 128)}, {"view_sides": (8, 64, 128)}, {"rims": ()}, {"apart": 2.0}]
)
def test_config_refuses_nonsense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ZeroShotConfig(**wrong)
