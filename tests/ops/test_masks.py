import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchvision.ops import masks_to_boxes

from ovdet.ops.masks import areas, boxes_xyxy_of_masks, decode_masks, encode_masks

shapes = st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 12))
some_masks = shapes.flatmap(lambda shape: hnp.arrays(bool, shape))


def run_lengths(mask):
    """COCO's uncompressed counts, by walking down the columns: zeros first, then ones, and so on."""
    counts, value, length = [], False, 0
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return [*counts, length]


@given(some_masks)
def test_masks_survive_compression(masks):
    rles = encode_masks(masks)
    assert json.loads(json.dumps(rles)) == rles
    assert np.array_equal(decode_masks(rles, masks.shape[1:]), masks)
    assert areas(rles).tolist() == masks.sum(axis=(1, 2)).tolist()


@given(some_masks)
def test_the_format_is_cocos(masks):
    from pycocotools import mask as coco_mask

    for mask, rle in zip(masks, encode_masks(masks), strict=True):
        uncompressed = {"size": list(mask.shape), "counts": run_lengths(mask)}
        assert coco_mask.frPyObjects(uncompressed, *mask.shape)["counts"].decode() == rle["counts"]


def test_numbers_are_masks_too():
    masks = np.array([[[0, 1], [1, 0]]], np.uint8)
    for same in (masks, masks.astype(float), masks.astype(np.int64), masks[:, :, ::-1][:, :, ::-1]):
        assert encode_masks(same) == encode_masks(masks.astype(bool))


def test_a_single_mask_is_refused():
    with pytest.raises(ValueError, match=r"\(N, H, W\).*\(5, 6\)"):
        encode_masks(np.zeros((5, 6), bool))


@given(some_masks)
def test_boxes_are_torchvisions_with_pixel_edges(masks):
    boxes = boxes_xyxy_of_masks(masks)
    assert boxes.dtype == np.float32
    assert boxes.shape == (len(masks), 4)
    for mask, box in zip(masks, boxes, strict=True):
        expected = [0, 0, 0, 0]
        if mask.any():
            x1, y1, x2, y2 = masks_to_boxes(torch.from_numpy(mask[None]))[0].tolist()
            expected = [x1, y1, x2 + 1, y2 + 1]
        assert box.tolist() == expected


def test_nothing_is_nothing():
    assert encode_masks(np.zeros((0, 5, 6), bool)) == []
    assert decode_masks([], (5, 6)).shape == (0, 5, 6)
    assert areas([]).shape == (0,)
