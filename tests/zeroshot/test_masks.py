import cv2
import numpy as np
import pytest

from ovdet.ops.masks import boxes_xyxy_of_masks
from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.masks import cut_out_box, outline, snap_to_edges, to_picture, work_size
from ovdet.zeroshot.regions import Region

CONFIG = ZeroShotConfig()


def blob(grid_hw, centre, radius, rim=0.3):
    """A round region on the grid, as the maps give it."""
    y, x = np.mgrid[: grid_hw[0], : grid_hw[1]]
    likely = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * radius**2)).astype(np.float32)
    cells = likely >= rim
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    return Region((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), 1.0, 1.0, cells, likely)


def disc(size_hw, centre, radius):
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_working_size_keeps_small_pictures_and_bounds_large_ones():
    assert work_size((300, 451)) == (300, 451)
    assert work_size((3000, 6000)) == (320, 640)
    assert work_size((20, 30000)) == (1, 640)


def test_outline_is_the_region_enlarged():
    region = blob((32, 32), (15.5, 15.5), 5)
    mask = outline(region, (320, 320))
    assert overlap(mask, disc((320, 320), (159.5, 159.5), 50 * np.sqrt(-2 * np.log(0.3)))) > 0.9


def test_outline_is_never_empty():
    region = blob((32, 32), (3, 3), 0.3)
    assert outline(region, (4, 4)).any() and outline(region, (1, 1)).any()


def test_mask_moves_to_the_edge_of_the_thing():
    """A red disc on textured grey; the map is a little off and too small."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 130, (240, 320, 3)).astype(np.uint8)
    thing = disc((240, 320), (120, 160), 60)
    image[thing] = np.clip(np.array([200, 40, 40]) + rng.integers(-15, 15, (thing.sum(), 3)), 0, 255)
    region = blob((96, 128), (46, 66), 14)
    rough = outline(region, (240, 320))
    snapped = snap_to_edges(image, region, rough, CONFIG)
    assert overlap(rough, thing) < 0.85 < 0.93 < overlap(snapped, thing)
    np.testing.assert_array_equal(snapped, snap_to_edges(image, region, rough, CONFIG))


def test_mask_stays_where_the_picture_has_no_edge():
    image = np.full((240, 320, 3), 77, np.uint8)
    region = blob((96, 128), (46, 66), 14)
    rough = outline(region, (240, 320))
    assert overlap(snap_to_edges(image, region, rough, CONFIG), rough) >= CONFIG.cut_trust


def test_picture_mask_is_the_working_mask_enlarged_with_its_tight_box():
    small = disc((30, 40), (12, 20), 8)
    box, mask = to_picture(small, (90, 160))
    expected = cv2.resize(small.astype(np.uint8), (160, 90), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(boxes_xyxy_of_masks(mask[None])[0], box)


def test_a_box_is_cut_along_the_edges_of_what_is_in_it():
    rng = np.random.default_rng(0)
    image = rng.integers(80, 100, (120, 160, 3)).astype(np.uint8)
    disc = np.hypot(*(np.indices((120, 160)) - np.array([60, 70])[:, None, None])) < 25
    image[disc] = rng.integers(190, 230, (disc.sum(), 3))
    cut = cut_out_box(image, np.array([40.0, 30.0, 100.0, 90.0]))
    assert (cut & disc).sum() / (cut | disc).sum() > 0.95
    assert not cut[:30].any() and not cut[:, 100:].any()


@pytest.mark.parametrize("box", [(10, 10, 10.5, 10.5), (0, 0, 160, 120), (-5, -5, 3, 400)])
def test_a_box_with_nothing_in_it_is_the_mask(box):
    cut = cut_out_box(np.full((120, 160, 3), 90, np.uint8), np.array(box, np.float32))
    assert cut.any() and cut.shape == (120, 160)
