"""The untrained detector finds what is there, leaves out what is not, and answers each name and picture alone."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from ovdet.errors import InputError
from ovdet.ops.masks import boxes_xyxy_of_masks
from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.zeroshot import predict
from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.predict import ZeroShotDetector

CAT_XYXY = np.array([0, 0, 400, 300])  # by hand
NAMES = ["cat", "bicycle", "coffee cup", "piano", "airplane"]


def detect(detector, images, names, **options):
    return detector.predict(images, names, detector.embed(names), **options)


def iou(one, other):
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def as_set(result, names=None):
    """What was found, without the order of names."""
    return sorted(
        (name, float(score), *map(float, box))
        for name, score, box in zip(result.names, result.scores, result.boxes_xyxy, strict=True)
        if names is None or name in names
    )


def same(one, other):
    assert one.class_names == other.class_names
    for field in ("boxes_xyxy", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert one.rles == other.rles


def test_finds_the_cat_and_nothing_else(detector, cat):
    (result,) = detect(detector, [cat], NAMES)
    assert set(result.names) == {"cat"}
    assert iou(result.boxes_xyxy[0], CAT_XYXY) > 0.5
    assert result.scores[0] > 0.6 and result.model == "imagenet-words" and result.source is None
    assert result.size_hw == cat.shape[:2]


def test_finds_it_where_it_is(quick, small_cat):
    mirrored = np.ascontiguousarray(small_cat[:, ::-1])
    left, right = detect(quick, [small_cat, mirrored], ["cat"], score_threshold=0.3)
    assert iou(left.boxes_xyxy[0], np.array([10, 20, 170, 140])) > 0.5
    assert iou(right.boxes_xyxy[0], np.array([150, 20, 310, 140])) > 0.5


def test_labels_index_the_callers_list(quick, small_cat):
    (result,) = detect(quick, [small_cat], ["piano", "bicycle", "cat"], score_threshold=0.3)
    assert len(result) and set(result.labels) == {2}


def test_masks_agree_with_boxes(quick, small_cat):
    (result,) = detect(quick, [small_cat], ["cat", "dog", "animal"], score_threshold=0.02)
    assert len(result) > 1
    np.testing.assert_array_equal(boxes_xyxy_of_masks(result.masks), result.boxes_xyxy)
    (bare,) = detect(quick, [small_cat], ["cat", "dog", "animal"], score_threshold=0.02, masks=False)
    assert bare.rles is None
    np.testing.assert_array_equal(bare.boxes_xyxy, result.boxes_xyxy)


def test_order_and_company_of_names_change_nothing(quick, small_cat):
    names = ["cat", "dog", "animal", "tiger", "coffee cup", "giraffe", "plastic bag"]
    options = {"score_threshold": 0.02, "max_dets": 1000}
    (together,) = detect(quick, [small_cat], names, **options)
    assert len(set(together.names)) >= 3
    (shuffled,) = detect(quick, [small_cat], names[::-1], **options)
    assert as_set(together) == as_set(shuffled)
    for part in (names[:1], names[1:4], names[4:]):
        (alone,) = detect(quick, [small_cat], part, **options)
        assert as_set(alone) == as_set(together, part)


def test_batch_equals_one_at_a_time(quick, cat, small_cat):
    images = [small_cat, cat[:200, :150].copy(), small_cat[:, ::-1].copy()]
    together = detect(quick, images, NAMES, score_threshold=0.05)
    for image, expected in zip(images, together, strict=True):
        same(detect(quick, [image], NAMES, score_threshold=0.05)[0], expected)


def test_asking_twice_gives_the_same(quick, small_cat):
    first, second = (detect(quick, [small_cat], NAMES, score_threshold=0.02)[0] for _ in range(2))
    same(first, second)


def test_threshold_and_max_dets_keep_the_best(quick, small_cat):
    names = ["cat", "animal", "tiger"]
    (everything,) = detect(quick, [small_cat], names, score_threshold=0.02, max_dets=1000)
    assert (np.diff(everything.scores) <= 0).all()
    (best,) = detect(quick, [small_cat], names, score_threshold=0.02, max_dets=2)
    same(best, everything[:2])
    (none,) = detect(quick, [small_cat], names, score_threshold=0.02, max_dets=0)
    assert len(none) == 0


def test_nothing_found_is_well_formed(quick):
    grey = np.full((60, 80, 3), 127, np.uint8)
    (result,) = detect(quick, [grey], ["cat", "dog"])
    assert len(result) == 0 and result.boxes_xyxy.shape == (0, 4) and result.masks.shape == (0, 60, 80)
    assert detect(quick, [], ["cat"]) == []


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (20, 3000), (3000, 20), (33, 31)])
def test_odd_sizes(quick, size_hw):
    image = np.random.default_rng(0).integers(0, 255, (*size_hw, 3), dtype=np.uint8)
    (result,) = detect(quick, [image], ["cat", "animal"], score_threshold=0.001)
    assert result.size_hw == size_hw
    np.testing.assert_array_equal(boxes_xyxy_of_masks(result.masks), result.boxes_xyxy)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_refuses_what_is_no_picture(quick, image):
    with pytest.raises(InputError, match="picture 0 must be"):
        detect(quick, [image], ["cat"])


def test_refuses_embeddings_of_other_names(quick, small_cat):
    with pytest.raises(InputError, match="2 names but 1"):
        quick.predict([small_cat], ["cat", "dog"], quick.embed(["cat"]))


def test_warns_once_of_names_it_cannot_know(quick, caplog, monkeypatch):
    monkeypatch.setattr(predict, "_warned", set())
    with caplog.at_level(logging.WARNING):
        quick.embed(["giraffe", "cat"])
        quick.embed(["cat", "giraffe"])
    assert caplog.text.count("'giraffe'") == 1 and "'cat'" not in caplog.text


class Reds(VLMBackbone):
    """A contrastive backbone of three dimensions: a picture's vector is its colour, a text's too."""

    def __init__(self, capabilities=frozenset({"image", "text", "dense"})):
        spec = BackboneSpec(
            "reds", "contrastive", 3, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "CC0-1.0", 0.02, capabilities
        )
        super().__init__(spec)

    def encode_image(self, images):
        return nn.functional.normalize(images.mean(dim=(2, 3)), dim=1)

    def forward_dense(self, images):
        return nn.functional.normalize(nn.functional.avg_pool2d(images, 8) + 1e-6, dim=1)

    def encode_text(self, texts):
        colours = {"red": (1.0, 0, 0), "green": (0, 1.0, 0)}
        found = [next((colours[c] for c in colours if c in text), (0.6, 0.6, 0.6)) for text in texts]
        return nn.functional.normalize(torch.tensor(found), dim=1)


def test_any_contrastive_backbone_with_maps_will_do():
    image = np.full((96, 128, 3), 128, np.uint8)
    image[32:64, 64:96] = (255, 0, 0)
    detector = ZeroShotDetector(Reds(), ZeroShotConfig(view_sides=(96, 128, 192), mirror_below=0))
    names = ["red", "green"]
    (result,) = detector.predict([image], names, detector.embed(names), score_threshold=0.5)
    assert result.names == ["red"]
    assert iou(result.boxes_xyxy[0], np.array([64, 32, 96, 64])) > 0.6


def test_refuses_a_backbone_without_maps():
    with pytest.raises(InputError, match="no dense"):
        ZeroShotDetector(Reds(frozenset({"image", "text"})))


def test_boxes_become_masks():
    image = np.full((96, 1280, 3), 128, np.uint8)  # wider than what masks are drawn in
    image[32:64, 640:704] = (255, 0, 0)
    detector = ZeroShotDetector(Reds())
    masks = detector.masks_of_boxes(image, np.array([[600, 20, 740, 80], [10, 10, 30, 30]], np.float32))
    wanted = (image == (255, 0, 0)).all(axis=2)
    assert masks.shape == (2, 96, 1280) and (masks[0] & wanted).sum() / (masks[0] | wanted).sum() > 0.9
    assert detector.masks_of_boxes(image, np.zeros((0, 4), np.float32)).shape == (0, 96, 1280)
