import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_convert, clip_boxes_to_image

from ovdet.ops.boxes import clip_boxes, enlarge_boxes, squares_about, xyxy_to_xywh

coordinate = st.floats(-500, 500, width=32)
boxes = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=5).map(
    lambda rows: torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
)


def test_half_as_long_again():
    """1.25 x1 - 0.25 x2 and 1.25 x2 - 0.25 x1, as ViLD's code writes it."""
    grown = enlarge_boxes(torch.tensor([[10.0, 20, 50, 60]]), 1.5)
    assert grown.tolist() == [[0, 10, 60, 70]]


@given(boxes, st.floats(0.25, 4))
def test_enlarging_keeps_centres_and_scales_sides(boxes_xyxy, scale):
    before = box_convert(boxes_xyxy, "xyxy", "cxcywh")
    after = box_convert(enlarge_boxes(boxes_xyxy, scale), "xyxy", "cxcywh")
    torch.testing.assert_close(after[:, :2], before[:, :2], atol=1e-2, rtol=0)
    torch.testing.assert_close(after[:, 2:], before[:, 2:] * scale, atol=1e-2, rtol=0)


@given(boxes)
def test_enlarging_by_one_changes_nothing(boxes_xyxy):
    assert torch.equal(enlarge_boxes(boxes_xyxy, 1.0), boxes_xyxy)


@given(boxes, st.integers(1, 300), st.integers(1, 300))
def test_clipping_is_torchvisions(boxes_xyxy, height, width):
    assert torch.equal(clip_boxes(boxes_xyxy, (height, width)), clip_boxes_to_image(boxes_xyxy, (height, width)))


def test_clipping_leaves_its_input_alone():
    boxes_xyxy = torch.tensor([[-5.0, -5, 500, 500]])
    assert clip_boxes(boxes_xyxy, (10, 20)).tolist() == [[0, 0, 20, 10]]
    assert boxes_xyxy.tolist() == [[-5, -5, 500, 500]]


@given(boxes)
def test_width_and_height_are_torchvisions(boxes_xyxy):
    assert torch.equal(xyxy_to_xywh(boxes_xyxy), box_convert(boxes_xyxy, "xyxy", "xywh"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_types_are_kept(dtype):
    boxes_xyxy = torch.tensor([[1, 2, 30, 40]], dtype=dtype)
    for result in (enlarge_boxes(boxes_xyxy, 1.5), clip_boxes(boxes_xyxy, (20, 20)), xyxy_to_xywh(boxes_xyxy)):
        assert result.dtype == dtype
        assert np.isfinite(result.numpy()).all()


@given(boxes, st.floats(0.5, 3))
def test_squares_share_centres_and_hold_the_longer_side(boxes_xyxy, scale):
    ordered = torch.cat([boxes_xyxy[:, :2].minimum(boxes_xyxy[:, 2:]), boxes_xyxy[:, :2].maximum(boxes_xyxy[:, 2:])], 1)
    squares = squares_about(ordered, scale)
    expected, found = (box_convert(each.double(), "xyxy", "cxcywh") for each in (ordered, squares))
    torch.testing.assert_close(found[:, :2], expected[:, :2], atol=1e-3, rtol=1e-5)
    sides = (expected[:, 2:].amax(1, keepdim=True) * scale).expand(-1, 2)
    torch.testing.assert_close(found[:, 2:], sides, atol=1e-3, rtol=1e-4)
