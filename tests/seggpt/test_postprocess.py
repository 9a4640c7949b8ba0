import numpy as np
import pytest
from scipy import ndimage

from ovdet.errors import InputError
from ovdet.seggpt.postprocess import MaskRules, fill_holes, things, tidy

RNG = np.random.default_rng(0)
MASKS = [RNG.random((12, 15)) < share for share in (0.0, 0.3, 0.5, 0.7, 1.0)]
EIGHT = np.ones((3, 3), int)


@pytest.mark.parametrize("mask", MASKS)
def test_holes_are_scipys(mask):
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("mask", MASKS)
def test_things_are_the_connected_parts_largest_first(mask):
    labelled, count = ndimage.label(mask, EIGHT)
    found = list(things(mask, 1000))
    assert len(found) == count
    areas = [int(part.sum()) for part in found]
    assert areas == sorted(areas, reverse=True)
    for part in found:
        assert len(np.unique(labelled[part])) == 1
    assert np.array_equal(np.any(found, axis=0) if found else np.zeros_like(mask), mask)
    assert len(list(things(mask, 2))) == min(count, 2)


@pytest.mark.parametrize("mask", MASKS)
def test_small_parts_go_and_the_largest_stays(mask):
    labelled, count = ndimage.label(mask, EIGHT)
    areas = ndimage.sum_labels(mask, labelled, range(1, count + 1))
    big = np.isin(labelled, 1 + np.flatnonzero(areas >= 4))
    assert np.array_equal(tidy(mask, MaskRules(min_pixels=4)), big)
    largest = tidy(mask, MaskRules(largest=True))
    assert largest.sum() == (areas.max() if count else 0)
    assert not (largest & ~mask).any()
    assert np.array_equal(tidy(mask, MaskRules()), mask)


def test_holes_are_filled_before_the_largest_is_chosen():
    mask = np.zeros((9, 20), bool)
    mask[1:8, 1:8] = True
    mask[2:7, 2:7] = False  # a ring of 24 pixels
    mask[1:8, 10:15] = True  # 35 pixels
    assert tidy(mask, MaskRules(largest=True))[1, 10]
    assert tidy(mask, MaskRules(largest=True, fill_holes=True))[4, 4]


@pytest.mark.parametrize(("change", "said"), [({"threshold": 1.0}, "threshold"), ({"min_pixels": 0}, "min_pixels")])
def test_rules_are_checked(change, said):
    with pytest.raises(InputError, match=said):
        MaskRules(**change)
