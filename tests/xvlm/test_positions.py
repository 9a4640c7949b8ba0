import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.xvlm.positions import (
    geometric_knots,
    resize_absolute_positions,
    resize_relative_positions,
    spline_weights,
)


@pytest.mark.parametrize(("source", "target", "ratio"), [(13, 23, 1.240724), (13, 29, 1.337515), (23, 29, 1.047191)])
def test_knots_grow_by_the_published_ratio(source, target, ratio):
    knots = geometric_knots(source, target)
    gaps = np.diff(knots[source // 2 :])
    np.testing.assert_allclose(gaps[1:] / gaps[:-1], ratio, atol=2e-6)
    np.testing.assert_allclose(knots, -knots[::-1])
    assert gaps[0] == 1 and abs(knots[-1] - target // 2) < 5e-5


def test_knots_from_13_to_23():
    knots = geometric_knots(13, 23)[7:]
    np.testing.assert_allclose(knots, [1, 2.24072, 3.78012, 5.69009, 8.05983, 11.00002], atol=1e-5)


def test_a_table_of_rows_resizes_to_the_published_vector():
    table = torch.arange(13.0).repeat_interleave(13)[:, None]
    resized = resize_relative_positions(table, 12).view(23, 23)
    expected = [0, 0.3182, 0.6572, 1.0227, 1.4205, 1.8563, 2.3364, 2.8729, 3.4814, 4.1759, 5.0, 6.0, 7.0]
    torch.testing.assert_close(resized[:13, 11], torch.tensor(expected), atol=6e-5, rtol=0)
    torch.testing.assert_close(12 - resized.flip(0), resized, atol=1e-5, rtol=0)
    torch.testing.assert_close(resized, resized[:, :1].expand(-1, 23), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("before", "after"), [(7, 12), (7, 15), (12, 15), (12, 7), (3, 5), (2, 4)])
def test_resizing_is_the_bivariate_spline_of_fitpack(before, after):
    interpolate = pytest.importorskip("scipy.interpolate")
    side, heads = 2 * before - 1, 2
    table = torch.randn(side * side, heads, generator=torch.Generator().manual_seed(0))
    knots = geometric_knots(side, 2 * after - 1)
    places = np.clip(np.arange(-(after - 1), after), knots[0], knots[-1])
    order = min(3, side - 1)
    expected = []
    for head in range(heads):
        values = table[:, head].double().view(side, side).numpy()
        expected.append(interpolate.RectBivariateSpline(knots, knots, values, kx=order, ky=order, s=0)(places, places))
    found = resize_relative_positions(table, after).view(2 * after - 1, 2 * after - 1, heads)
    np.testing.assert_allclose(found.numpy(), np.stack(expected, -1), atol=2e-6)


def test_cubics_are_kept_by_the_spline_at_any_place():
    knots = np.array([-3.0, -1.0, 0.0, 2.0, 2.5])
    places = np.linspace(-3, 2.5, 23)
    weights = spline_weights(knots, places)
    for power in range(4):
        np.testing.assert_allclose(weights @ knots**power, places**power, atol=1e-11)


def test_the_same_window_and_the_middle_are_left_alone():
    table = torch.randn(169, 4)
    assert resize_relative_positions(table, 7) is table
    torch.testing.assert_close(resize_relative_positions(table, 12)[264], table[84])
    half = resize_relative_positions(table.half(), 8)
    assert half.dtype == torch.float16 and half.shape == (225, 4)


def test_absolute_positions_keep_the_class_token_and_flat_tables():
    table = torch.cat([torch.full((1, 3), 9.0), torch.full((16, 3), 2.0)])
    resized = resize_absolute_positions(table, 6)
    assert resized.shape == (37, 3)
    torch.testing.assert_close(resized[0], table[0])
    torch.testing.assert_close(resized[1:], torch.full((36, 3), 2.0))
    assert resize_absolute_positions(table, 4) is table


def test_absolute_positions_turn_with_the_grid():
    table = torch.randn(26, 2)
    turned = torch.cat([table[:1], table[1:].view(5, 5, 2).transpose(0, 1).reshape(25, 2)])
    expected = resize_absolute_positions(table, 8)[1:].view(8, 8, 2).transpose(0, 1).reshape(64, 2)
    torch.testing.assert_close(resize_absolute_positions(turned, 8)[1:], expected)


@pytest.mark.parametrize("rows", [0, 1, 12, 16])
def test_what_is_no_table_is_refused(rows):
    with pytest.raises(InputError):
        resize_relative_positions(torch.zeros(rows, 2), 4)


@pytest.mark.parametrize("rows", [0, 1, 12])
def test_what_is_no_grid_is_refused(rows):
    with pytest.raises(InputError):
        resize_absolute_positions(torch.zeros(rows, 2), 4)
