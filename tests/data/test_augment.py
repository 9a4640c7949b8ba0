from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ovdet.data import augment
from ovdet.data.augment import ALL_OPERATIONS, COLOUR_OPERATIONS, RandAugment, apply_operation
from ovdet.errors import InputError


@pytest.fixture
def picture():
    pixels = np.full((60, 80, 3), 60, np.uint8)
    pixels[20:30, 30:45] = (100, 80, 70)
    return Image.fromarray(pixels)


def centre(picture):
    pixels = np.asarray(picture).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 90) & (pixels[..., 2] < 75))
    return columns.mean(), rows.mean()


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("translate_x", lambda x, y, sign: (x - 7 * sign, y)),
        ("translate_y", lambda x, y, sign: (x, y - 7 * sign)),
        ("shear_x", lambda x, y, sign: (x + sign * 0.21 * y, y)),
        ("shear_y", lambda x, y, sign: (x, y + sign * 0.21 * x)),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_moves(picture, name, moved, sign):
    changed = apply_operation(name, picture, 0.7, sign)
    assert centre(changed) == pytest.approx(moved(*centre(picture), sign), abs=0.7)
    assert changed.size == picture.size and (np.asarray(changed) == 128).all(axis=2).any()


def test_turning(picture):
    for sign in (1, -1):
        x, y = np.array(centre(picture)) - (39.5, 29.5)
        angle = np.deg2rad(21 * sign)
        turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        found = centre(apply_operation("rotate", picture, 0.7, sign))
        assert np.array(found) - (39.5, 29.5) == pytest.approx(turned, abs=0.7)


def test_colours(picture):
    brighter = np.asarray(apply_operation("brightness", picture, 0.7)).astype(float)
    assert brighter == pytest.approx(np.asarray(picture) * 1.36, abs=1)
    stretched = np.asarray(apply_operation("autocontrast", picture, 0.7))
    assert stretched.min() == 0 and stretched.max() == 255
    sharper = np.asarray(apply_operation("sharpness", picture, 0.7)).astype(int)
    assert sharper[25, 44, 0] > 100 and sharper[10, 10].tolist() == [60, 60, 60]
    assert np.asarray(apply_operation("identity", picture, 0.7)).tolist() == np.asarray(picture).tolist()


@pytest.mark.parametrize("name", COLOUR_OPERATIONS)
def test_colour_operations_leave_boxes_where_they_are(picture, name):
    changed = np.asarray(apply_operation(name, picture, 0.7)).astype(int)
    edges = np.abs(np.diff(changed[..., 0], axis=1)).max(axis=0)
    assert set(np.argsort(edges)[-2:]) == {29, 44}


def test_two_of_the_operations_each_by_half_a_chance(monkeypatch, picture):
    applied = []
    monkeypatch.setattr(
        augment, "apply_operation", lambda name, one, strength, sign: applied.append((name, sign)) or one
    )
    rng = np.random.default_rng(0)
    for _ in range(1000):
        RandAugment(ALL_OPERATIONS)(rng, picture)
    names = Counter(name for name, _ in applied)
    assert abs(len(applied) - 1000) < 115 and set(names) == set(ALL_OPERATIONS)  # 5 sigma of binomial(2000, 1/2)
    assert all(abs(count - 100) < 50 for count in names.values())
    assert 400 < sum(sign == 1 for _, sign in applied) < 600


def test_unknown_operations_are_refused():
    with pytest.raises(InputError, match="operations must be of"):
        RandAugment(("solarize",))
