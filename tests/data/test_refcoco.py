import json
import pickle
from dataclasses import replace

import pytest

from ovdet.data import refcoco
from ovdet.data.refcoco import (
    COUNTS,
    Count,
    check_counts,
    count_splits,
    pictures_to_leave_out,
    read_detector_boxes,
    read_refcoco,
    split_digest,
)
from ovdet.errors import InputError


@pytest.fixture
def root(tmp_path):
    """RefCOCO+ in the official layout: three objects on two pictures, four sentences."""

    def sentences(*said):
        return [{"raw": text.title(), "sent": text, "sent_id": key, "tokens": text.split()} for key, text in said]

    rows = [
        {"ref_id": 2, "ann_id": 21, "category_id": 1, "image_id": 7, "split": "testA", "file_name": "x_21.jpg",
         "sent_ids": [5], "sentences": sentences((5, "girl in white"))},
        {"ref_id": 1, "ann_id": 20, "category_id": 1, "image_id": 7, "split": "testA", "file_name": "x_20.jpg",
         "sent_ids": [3, 4], "sentences": sentences((3, "man in red"), (4, "red shirt"))},
        {"ref_id": 9, "ann_id": 30, "category_id": 2, "image_id": 8, "split": "train", "file_name": "y_30.jpg",
         "sent_ids": [6], "sentences": sentences((6, "pizza"))},
    ]  # fmt: skip
    instances = {
        "images": [
            {"id": 7, "file_name": "COCO_train2014_000000000007.jpg", "height": 40, "width": 60},
            {"id": 8, "file_name": "COCO_train2014_000000000008.jpg", "height": 30, "width": 50},
        ],
        "annotations": [
            {"id": 20, "image_id": 7, "category_id": 1, "bbox": [1.5, 2, 10, 20]},
            {"id": 21, "image_id": 7, "category_id": 1, "bbox": [30, 2, 10, 30]},
            {"id": 30, "image_id": 8, "category_id": 2, "bbox": [0, 0, 20, 20]},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "pizza"}],
    }
    folder = tmp_path / "refcoco+"
    folder.mkdir()
    (folder / "refs(unc).p").write_bytes(pickle.dumps(rows, protocol=2))
    (folder / "instances.json").write_text(json.dumps(instances))
    return tmp_path


def test_every_sentence_has_its_box_and_picture(root):
    found = read_refcoco(root, "refcoco+", "unc", verify=False)
    assert [(one.ref_id, one.sent_id, one.text) for one in found] == [
        (1, 3, "man in red"),
        (1, 4, "red shirt"),
        (2, 5, "girl in white"),
        (9, 6, "pizza"),
    ]
    assert found[0].box_xywh == (1.5, 2, 10, 20) and found[0].size_hw == (40, 60) and found[0].split == "testA"
    assert found[0].file_name == "COCO_train2014_000000000007.jpg"
    assert count_splits(found) == {"testA": Count(2, 3, 1), "train": Count(1, 1, 1)}


def test_other_numbers_than_the_official_ones_are_refused(root):
    with pytest.raises(InputError, match="train has 1 referrals, officially 42278"):
        read_refcoco(root, "refcoco+", "unc")


def test_counts_are_compared_one_by_one(root):
    found = read_refcoco(root, "refcoco+", "unc", verify=False)
    wanted = {"testA": Count(2, 3, 1), "train": Count(1, None, 1)}
    check_counts(found, wanted, "it")
    for wrong, message in (
        ({"testA": Count(2, 4, 1)}, "testA has 3 sentences, officially 4"),
        ({"testA": Count(2, 3, 2)}, "testA has 1 pictures, officially 2"),
        ({"testA": Count(2, 3, 1), "val": Count(1, 1, 1)}, "val has 0 referrals, officially 1"),
        ({"testA": Count(2, 3, 1)}, "train has 1 referrals, officially 0"),
    ):
        with pytest.raises(InputError, match=message):
            check_counts(found, wrong, "it")


@pytest.mark.parametrize(
    ("name", "referrals", "sentences"),
    [("refcoco", 50000, 142210), ("refcoco+", 49856, 141564), ("refcocog", 49822, 95010)],
)
def test_the_official_numbers_add_up(name, referrals, sentences):
    """The papers state the totals; all divisions of a data set must reach them."""
    for (one, _), splits in COUNTS.items():
        if one == name:
            assert sum(count.referrals for count in splits.values()) == referrals
            known = [count.sentences for count in splits.values()]
            assert None in known or sum(known) == sentences
    by_picture = {key: sum(c.pictures for c in splits.values()) for key, splits in COUNTS.items() if key[1] != "google"}
    assert by_picture == {("refcoco", "unc"): 19994, ("refcoco+", "unc"): 19992, ("refcocog", "umd"): 25799}


def test_a_digest_tells_evaluations_apart(root):
    found = read_refcoco(root, "refcoco+", "unc", verify=False)
    assert split_digest(found) == split_digest(list(found)) != split_digest(found[1:])
    assert split_digest([replace(found[0], text="another")]) != split_digest(found[:1])


def test_pictures_of_tests_are_left_out_of_pretraining(root, monkeypatch):
    monkeypatch.setitem(COUNTS, ("refcoco+", "unc"), {"testA": Count(2, 3, 1), "train": Count(1, 1, 1)})
    assert pictures_to_leave_out(root, ["refcoco+"]) == {7}


def test_mistakes_are_told(root):
    with pytest.raises(InputError, match=r"no 'refcoco\+' divided by 'google'; there are refcoco by unc"):
        read_refcoco(root, "refcoco+", "google")
    with pytest.raises(InputError, match=r"cannot read .*refs\(unc\)\.p"):
        read_refcoco(root, "refcoco", "unc")
    path = root / "refcoco+" / "refs(unc).p"
    rows = pickle.loads(path.read_bytes())
    del rows[1]["sentences"]
    path.write_bytes(pickle.dumps(rows))
    with pytest.raises(InputError, match=r"referral 1 lacks 'sentences'"):
        read_refcoco(root, "refcoco+", "unc", verify=False)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="no list of referrals"):
        read_refcoco(root, "refcoco+", "unc", verify=False)


def test_boxes_of_a_detector(tmp_path):
    (tmp_path / "dets.json").write_text('{"7": [[1, 2, 3, 4, 0.9, 1], [5, 6, 7, 8]], "8": []}')
    assert read_detector_boxes(tmp_path / "dets.json") == {7: [(1, 2, 3, 4), (5, 6, 7, 8)], 8: []}
    (tmp_path / "dets.json").write_text('[["x"]]')
    with pytest.raises(InputError, match="boxes by picture id"):
        refcoco.read_detector_boxes(tmp_path / "dets.json")
