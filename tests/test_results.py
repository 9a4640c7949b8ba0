import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from ovdet.errors import InputError
from ovdet.results import Detections, Grounding

NAMES = ("cat", "coffee cup", "zebra")
SIZE = (40, 60)


def some_masks():
    masks = np.zeros((3, *SIZE), bool)
    masks[0, 5:20, 10:30] = masks[1, 0:40, 0:60] = masks[2, 39, 59] = True
    return masks


def detections(**changes):
    fields = {
        "boxes_xyxy": [[10, 5, 30, 20], [0, 0, 60, 40], [59, 39, 60, 40]],
        "scores": [0.9, 0.5, 0.25],
        "labels": [2, 0, 0],
        "class_names": NAMES,
        "size_hw": SIZE,
        "rles": some_masks(),
        "source": "picture.jpg",
        "model": "blobs",
    }
    return Detections(**{**fields, **changes})


def test_lists_arrays_and_tensors_are_taken():
    for boxes in ([[1, 2, 3, 4]], np.array([[1, 2, 3, 4]], np.float64), torch.tensor([[1, 2, 3, 4]])):
        found = detections(boxes_xyxy=boxes, scores=torch.tensor([1.0]), labels=np.array([1], np.uint8), rles=None)
        assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
        assert found.labels.dtype == np.int64
        assert found.names == ["coffee cup"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes_xyxy": [[1, 2, 3]] * 3}, r"boxes_xyxy must be \(N, 4\), got \(3, 3\)"),
        ({"boxes_xyxy": [[10, 5, 5, 20]] * 3}, "x1 <= x2"),
        ({"boxes_xyxy": [[0, 0, np.nan, 1]] * 3}, "finite"),
        ({"scores": [0.9, 0.5]}, r"scores must be \(3,\).*got \(2,\)"),
        ({"scores": [0.9, 0.5, 1.5]}, r"\[0, 1\]"),
        ({"scores": [0.9, 0.5, np.nan]}, r"\[0, 1\]"),
        ({"labels": [0, 1, 3]}, "index the 3 class_names"),
        ({"labels": [0, 1, -1]}, "index the 3 class_names"),
        ({"rles": some_masks()[:2]}, "one mask for each of 3 boxes, got 2"),
        ({"rles": some_masks()[:, :, :-1]}, r"mask 0 must be a COCO run length of size \[40, 60\]"),
        ({"rles": ["x", "y", "z"]}, "mask 0"),
    ],
)
def test_contradictions_are_refused_at_birth(changes, message):
    with pytest.raises(ValueError, match=message):
        detections(**changes)


def test_nothing_found():
    for masks in (False, True):
        none = Detections.empty(NAMES, SIZE, masks=masks, source="picture.jpg")
        assert len(none) == 0
        assert none.boxes_xyxy.shape == (0, 4)
        assert (none.masks is None) is not masks
        assert none.to_dict()["detections"] == none.to_coco(7) == list(none) == none.names == []
        assert len(none[none.scores > 0.5]) == 0
    assert none.masks.shape == (0, *SIZE)


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (slice(None, None, -1), [2, 1, 0]),
        ([2, 0], [2, 0]),
        ([], []),
        (np.array([True, False, True]), [0, 2]),
        (torch.tensor([1, 1]), [1, 1]),
    ],
)
def test_indexing_filters_every_field(index, kept):
    found = detections()
    some = found[index]
    assert np.array_equal(some.boxes_xyxy, found.boxes_xyxy[kept])
    assert np.array_equal(some.scores, found.scores[kept])
    assert np.array_equal(some.labels, found.labels[kept])
    assert np.array_equal(some.masks, some_masks()[kept])
    assert (some.class_names, some.size_hw, some.source, some.model) == (NAMES, SIZE, "picture.jpg", "blobs")


def test_indexing_beyond_the_end_and_by_a_wrong_mask_fails():
    with pytest.raises(IndexError):
        detections()[3]
    with pytest.raises(IndexError):
        detections()[np.array([True, False])]


def test_iterating_gives_one_at_a_time():
    assert [(one.names, len(one)) for one in detections()] == [(["zebra"], 1), (["cat"], 1), (["cat"], 1)]


def test_masks_are_decoded_when_asked_for():
    found = detections()
    assert "masks" not in vars(found)
    assert np.array_equal(found.mask(1), some_masks()[1])
    assert "masks" not in vars(found)
    assert np.array_equal(found.masks, some_masks())
    assert found.masks is found.masks
    with pytest.raises(ValueError, match="masks=True"):
        detections(rles=None).mask(0)


def test_nothing_can_be_overwritten():
    with pytest.raises(AttributeError):
        detections().scores = np.ones(3)


def test_the_dict_is_json():
    answer = json.loads(json.dumps(detections().to_dict()))
    assert answer.keys() == {"source", "size_hw", "model", "detections"}
    assert answer["size_hw"] == [40, 60]
    first = answer["detections"][0]
    assert (first["name"], first["label"], first["score"]) == ("zebra", 2, 0.9)
    assert first["box_xyxy"] == [10, 5, 30, 20]
    assert np.array_equal(coco_mask.decode(first["segmentation"]).astype(bool), some_masks()[0])
    assert "segmentation" not in detections(rles=None).to_dict()["detections"][0]


def test_coco_rows_are_what_pycocotools_reads():
    rows = detections().to_coco(image_id=7)
    assert [row["category_id"] for row in rows] == [3, 1, 1]
    assert rows[0]["bbox"] == [10, 5, 20, 15]
    for row in rows:
        np.testing.assert_allclose(coco_mask.toBbox(row["segmentation"]), row["bbox"])
        assert row["image_id"] == 7
    assert [row["category_id"] for row in detections().to_coco(7, category_ids=[90, 5, 17])] == [17, 90, 90]
    with pytest.raises(ValueError, match="3 class names, got 2"):
        detections().to_coco(7, category_ids=[1, 2])


def test_supervision_gets_the_same():
    pytest.importorskip("supervision")
    theirs = detections().to_supervision()
    assert np.array_equal(theirs.xyxy, detections().boxes_xyxy)
    assert np.array_equal(theirs.mask, some_masks())
    assert theirs.class_id.tolist() == [2, 0, 0]
    assert theirs.data["class_name"].tolist() == ["zebra", "cat", "cat"]
    assert len(Detections.empty(NAMES, SIZE, masks=True).to_supervision()) == 0


def test_drawing_leaves_the_picture_alone():
    image = np.full((*SIZE, 3), 128, np.uint8)
    drawn = detections().draw(image)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 128).all()
    assert (drawn != image).any()


def test_the_repr_is_one_line():
    text = repr(detections())
    assert "zebra 0.90" in text
    assert "60x40" in text
    assert "\n" not in text


def test_input_errors_are_value_errors():
    assert issubclass(InputError, ValueError)


def grounding(**changes):
    fields = {
        "expression": "the dog left of the pizza",
        "boxes_xyxy": [[10, 5, 30, 20], [0, 0, 60, 40]],
        "scores": [0.9, 0.5],
        "size_hw": SIZE,
        "confidence": 0.9,
        "source": "picture.jpg",
        "model": "xvlm",
    }
    return Grounding(**{**fields, **changes})


def test_a_sentence_has_its_boxes_best_first():
    found = grounding()
    assert len(found) == 2 and not found.absent
    assert found.box_xyxy.tolist() == [10, 5, 30, 20] and found.score == pytest.approx(0.9)
    said = json.loads(json.dumps(found.to_dict()))
    assert said["expression"] == "the dog left of the pizza" and said["absent"] is False
    assert said["boxes"][1] == {"score": 0.5, "box_xyxy": [0.0, 0.0, 60.0, 40.0]}
    assert said["size_hw"] == list(SIZE) and said["source"] == "picture.jpg" and said["confidence"] == 0.9


def test_what_is_absent_has_a_confidence_and_no_box():
    found = grounding(boxes_xyxy=[], scores=[], confidence=0.1)
    assert found.absent and found.box_xyxy is None and found.score is None and len(found) == 0
    assert found.to_dict()["boxes"] == [] and "absent, confidence 0.10" in repr(found)
    assert len(found.to_detections()) == 0


def test_a_model_that_cannot_say_has_no_score():
    found = grounding(boxes_xyxy=[[0, 0, 1, 1]], scores=None, confidence=None)
    assert found.score is None and not found.absent
    assert found.to_dict()["boxes"][0]["score"] is None and found.to_dict()["confidence"] is None
    assert found.to_detections().scores.tolist() == [1.0]


def test_a_grounding_is_drawn_as_detections_named_by_the_sentence():
    found = grounding().to_detections()
    assert found.names == ["the dog left of the pizza"] * 2 and found.source == "picture.jpg"
    image = np.zeros((*SIZE, 3), np.uint8)
    drawn = grounding().draw(image)
    assert drawn.shape == image.shape and drawn.any() and not image.any()


@pytest.mark.parametrize(
    "wrong",
    [
        dict(expression=" "),
        dict(expression=None),
        dict(boxes_xyxy=[[10, 5, 3, 20]], scores=[0.5]),
        dict(boxes_xyxy=[[0, 0, 1]], scores=[0.5]),
        dict(scores=[0.5]),
        dict(scores=[0.5, 1.5]),
        dict(confidence=1.5),
        dict(confidence=float("nan")),
    ],
)
def test_groundings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError):
        grounding(**wrong)


def test_pixels_are_numbered_and_the_best_counts():
    found = detections(labels=[2, 0, 1])
    numbers = found.label_map()
    assert numbers.dtype == np.int32 and numbers[10, 15] == 3 and numbers[0, 0] == 1 and numbers[39, 59] == 1
    assert found.label_map(things=True)[10, 15] == 1 and found.label_map(things=True)[0, 0] == 2
    assert not found[:0].label_map().any()
    with pytest.raises(ValueError, match="carry no masks"):
        detections(rles=None).label_map()


@pytest.mark.parametrize("changes", [{}, {"rles": None}, {"source": None, "model": None}])
def test_json_comes_back(changes):
    found = detections(**changes)
    again = Detections.from_dict(json.loads(json.dumps(found.to_dict())), NAMES)
    assert again.to_dict() == found.to_dict() and again.class_names == NAMES
    empty = found[:0]
    assert Detections.from_dict(empty.to_dict(), NAMES).to_dict() == empty.to_dict()


def test_names_may_be_counted_otherwise():
    found = detections().with_names(["dog", "zebra", "cat"])
    assert found.names == detections().names and found.labels.tolist() == [1, 2, 2]
