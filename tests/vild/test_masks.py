import pytest
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

from ovdet.vild.masks import paste_mask, paste_masks


def test_pasting_equals_mmdet():
    probabilities = torch.rand(30, 28, 28)
    boxes = torch.rand(30, 4) * 60
    boxes[:, 2:] += boxes[:, :2] + 1
    boxes[:5] -= 30  # reaching outside
    reference, _ = _do_paste_mask(probabilities[:, None], boxes, 70, 90, skip_empty=False)
    pasted = paste_masks(probabilities, boxes, (70, 90))
    differs = (pasted != (reference >= 0.5)) & ((reference - 0.5).abs() > 1e-4)  # rounding at the threshold apart
    assert not differs.any()
    assert pasted.any()


def test_a_full_mask_fills_the_pixels_whose_centres_lie_inside():
    mask = paste_mask(torch.ones(28, 28), torch.tensor([2.0, 3.0, 6.0, 5.0]), (10, 12))
    assert mask[3:5, 2:6].all()
    assert mask.sum() == 8


@pytest.mark.parametrize("box", [[5.0, 5.0, 5.0, 9.0], [-9.0, -9.0, -2.0, -2.0], [50.0, 50.0, 60.0, 60.0]])
def test_boxes_without_pixels_give_empty_masks(box):
    assert not paste_mask(torch.ones(28, 28), torch.tensor(box), (10, 12)).any()


def test_no_boxes():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 12)).shape == (0, 10, 12)
