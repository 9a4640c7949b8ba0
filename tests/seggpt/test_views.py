import itertools
import math

import numpy as np
import pytest

from ovdet.seggpt.views import enlarge, find_windows, resize_picture, tile


@pytest.mark.parametrize("size_hw", [(100, 100), (100, 399), (400, 100), (1, 1), (1, 60)])
def test_ordinary_and_small_pictures_are_one_view(size_hw):
    place = find_windows(size_hw, 4.0, 64)
    assert len(place.views) == 1
    rows, columns = place.views[0]
    assert (rows.stop - rows.start, columns.stop - columns.start) == size_hw


@pytest.mark.parametrize("size_hw", [(100, 401), (100, 1000), (3000, 7), (1, 10_000), (5001, 1000)])
def test_long_pictures_are_covered_by_windows_of_one_size_that_overlap(size_hw):
    place = find_windows(size_hw, 4.0, 64)
    long, short = max(size_hw), min(size_hw)
    axis = size_hw.index(long)
    spans = [view[axis] for view in place.views]
    lengths = {span.stop - span.start for span in spans}
    assert lengths == {max(2 * short, 64)}
    assert spans[0].start == 0 and spans[-1].stop == long
    for one, other in itertools.pairwise(spans):
        assert one.stop - other.start >= next(iter(lengths)) // 4
    assert len(spans) < 3 + long / (max(2 * short, 64) * 0.7)


def test_squeezing_is_a_choice():
    assert len(find_windows((10, 5000), math.inf, 64).views) == 1


def test_a_map_of_the_whole_is_enlarged_smoothly():
    place = find_windows((6, 8), 4.0, 64)
    small = np.array([[[0.0, 1.0], [0.0, 1.0]]], np.float32)
    soft = enlarge(small, place)
    assert soft.shape == (6, 8) and soft.dtype == np.float32
    assert (np.diff(soft, axis=1) >= 0).all() and soft[0, 0] == 0 and soft[0, -1] == 1


def test_windows_are_averaged_where_they_overlap():
    place = find_windows((10, 100), 4.0, 10)
    small = np.arange(len(place.views), dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    soft = enlarge(small, place)
    wanted = np.array(
        [
            np.mean([index for index, (_, span) in enumerate(place.views) if span.start <= x < span.stop])
            for x in range(100)
        ]
    )
    np.testing.assert_allclose(soft, np.broadcast_to(wanted, (10, 100)), rtol=1e-6)


@pytest.mark.parametrize(("count", "side"), [(1, 1), (2, 2), (4, 2), (5, 3)])
def test_tiles_stand_in_a_grid_and_repeat_to_fill_it(count, side):
    values = [40 * (index + 1) for index in range(count)]
    pairs = [(np.full((12, 12, 3), value, np.uint8), np.full((12, 12, 3), value + 1, np.uint8)) for value in values]
    picture, painting = tile(pairs)
    assert picture.shape == painting.shape == (12, 12, 3)
    size = 12 // side
    for cell in range(side * side):
        row, column = cell // side * size, cell % side * size
        assert (picture[row : row + size, column : column + size] == values[cell % count]).all()
        assert (painting[row : row + size, column : column + size] == values[cell % count] + 1).all()


def test_masks_of_tiles_keep_their_colours():
    rng = np.random.default_rng(0)
    painting = (rng.random((15, 15, 1)) < 0.5) * np.full(3, 255, np.uint8)
    _, tiled = tile([(painting, painting)] * 3)
    assert set(np.unique(tiled)) == {0, 255}


def test_pictures_are_resized_as_pillow_does():
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize((16, 24), Image.Resampling.BICUBIC))
    assert np.array_equal(resize_picture(image, (24, 16)), wanted)
    assert np.array_equal(
        resize_picture(image[:, ::-1], (24, 16)),
        np.asarray(Image.fromarray(image[:, ::-1].copy()).resize((16, 24), Image.Resampling.BICUBIC)),
    )
