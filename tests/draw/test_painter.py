"""What is drawn, measured in pixels: where lines, tints and labels are, and that nothing leaves the picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdet.draw import draw_detections
from ovdet.draw.fonts import typeset
from ovdet.draw.painter import PALETTE_RGB, Style, _label_size, color_of_label, fit_text, place_label
from ovdet.results import Detections

NAMES = ("cat", "coffee cup", "חתול קטן", "a class name that is much longer than most pictures are wide")


def _detections(size_hw, boxes, labels, masks=None):
    return Detections(boxes, np.linspace(0.9, 0.5, len(boxes)), labels, NAMES, size_hw, masks)


def test_the_picture_is_not_changed_and_nothing_found_draws_nothing():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    before = image.copy()
    drawn = draw_detections(image, Detections.empty(NAMES, (50, 70), masks=True))
    np.testing.assert_array_equal(drawn, before)
    draw_detections(image, _detections((50, 70), [[5, 5, 60, 40]], [1], np.ones((1, 50, 70), bool)))
    np.testing.assert_array_equal(image, before)


def test_box_and_mask_are_where_they_should_be():
    size_hw = (400, 640)
    image = np.full((*size_hw, 3), 100, np.uint8)
    mask = np.zeros((1, *size_hw), bool)
    mask[0, 200:300, 300:400] = True
    drawn = draw_detections(image, _detections(size_hw, [[250, 150, 450, 350]], [0], mask)).astype(int)
    color = np.array(color_of_label(0))
    for x, y in ((250, 250), (449, 250), (350, 349)):  # on the box's left, right and lower line
        np.testing.assert_array_equal(drawn[y, x], color)
    np.testing.assert_allclose(drawn[250, 350], 0.6 * 100 + 0.4 * color, atol=1)  # inside the mask
    np.testing.assert_array_equal(drawn[320, 350], 100)  # in the box, out of the mask
    np.testing.assert_allclose(drawn[250, 300], color, atol=30)  # the mask's outline
    np.testing.assert_array_equal(drawn[:100], 100)


def test_a_box_on_the_border_shows_all_four_lines():
    for size_hw in ((300, 500), (3000, 4000)):
        height, width = size_hw
        drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), _detections(size_hw, [[0, 0, width, height]], [1]))
        color = color_of_label(1)
        for y, x in ((0, width // 2), (height - 1, width // 2), (height // 2, 0), (height // 2, width - 1)):
            assert tuple(drawn[y, x]) == color


def test_the_best_lies_on_top():
    size_hw = (100, 100)
    masks = np.ones((2, *size_hw), bool)
    boxes = [[10, 10, 90, 90], [10, 10, 90, 90]]
    drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), _detections(size_hw, boxes, [0, 1], masks))
    assert tuple(drawn[50, 10]) == color_of_label(0)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.lists(st.tuples(*[st.floats(-50, 350)] * 4), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_labels_never_leave_the_picture_of_any_size(height, width, corners, label):
    size_hw = (height, width)
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), _detections(size_hw, boxes, [label] * len(boxes)))
    assert drawn.shape == (*size_hw, 3)
    style = Style.for_size(size_hw)
    text = fit_text(NAMES[label], "0.90", style.font, size_hw)
    if text is not None:
        x1, y1, x2, y2 = place_label(text, np.array(boxes[0]), size_hw, style, [])
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 30_000), (30_000, 20), (12, 40)])
def test_odd_sizes(size_hw):
    boxes = [[0, 0, size_hw[1], size_hw[0]]]
    masks = np.ones((1, *size_hw), bool)
    drawn = draw_detections(np.zeros((*size_hw, 3), np.uint8), _detections(size_hw, boxes, [0], masks))
    assert drawn.shape == (*size_hw, 3) and drawn.any()


def test_letters_grow_with_the_picture():
    heights = []
    for size_hw in ((240, 320), (1200, 1600), (3000, 4000)):
        text = fit_text("cat", "0.90", Style.for_size(size_hw).font, size_hw)
        heights.append(_label_size(text)[1] / size_hw[0])
    assert max(heights) < 2.5 * min(heights) and min(heights) > 0.015


def test_a_long_name_is_cut_but_keeps_its_score():
    text = fit_text(NAMES[3], "0.90", 15, (100, 120))
    assert text.text.startswith("a class") and text.text.endswith("… 0.90")
    cuts = [f"{NAMES[3][:length].rstrip()}… 0.90" for length in range(1, len(NAMES[3]))]
    sizes = [typeset(cut, text.font.size) for cut in cuts]
    assert text.text == [cut.text for cut in sizes if _label_size(cut)[0] <= 120][-1]
    assert fit_text(NAMES[3] + " and more" * 10_000, "0.90", 15, (100, 120)).text == text.text
    assert fit_text("cat", "0.90", 15, (3, 3)) is None


def test_labels_at_one_place_give_way_to_each_other():
    size_hw, box, style = (300, 300), np.array([100, 100, 200, 200]), Style.for_size((300, 300))
    text = fit_text("cat", "0.90", style.font, size_hw)
    first = place_label(text, box, size_hw, style, [])
    second = place_label(text, box, size_hw, style, [first])
    assert first[3] <= second[1] or second[3] <= first[1] or first[2] <= second[0] or second[2] <= first[0]


def test_colours_are_many_and_unlike_one_another():
    assert len(set(PALETTE_RGB)) == len(PALETTE_RGB) == 12 and color_of_label(13) == color_of_label(1)
    palette = np.array(PALETTE_RGB)
    apart = np.linalg.norm(palette[:, None] - palette, axis=2)[np.triu_indices(12, 1)]
    assert apart.min() > 40


@pytest.mark.parametrize(
    "image", [np.zeros((10, 10, 3), np.float32), np.zeros((10, 11, 3), np.uint8), np.zeros((10, 10))]
)
def test_wrong_pictures(image):
    with pytest.raises(ValueError, match=r"image_rgb must be \(10, 10, 3\) uint8"):
        draw_detections(image, Detections.empty(NAMES, (10, 10)))
