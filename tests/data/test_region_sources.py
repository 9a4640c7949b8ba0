import json
from collections import Counter
from itertools import islice

import pytest
from PIL import Image

from ovdet.data.captions import CaptionedPictures
from ovdet.data.karpathy import CaptionedPicture
from ovdet.data.records import LineFiles
from ovdet.data.refcoco import Referral
from ovdet.data.region_sources import captioned, coco_captions, coco_objects, genome_objects, genome_regions, referrals
from ovdet.data.regions import RegionTexts

IMAGES = [
    {"image_id": 1, "width": 60, "height": 40, "url": "https://example.org/x/VG_100K_2/1.jpg", "coco_id": None},
    {"image_id": 2, "width": 60, "height": 40, "url": "https://example.org/x/VG_100K/2.jpg", "coco_id": 77},
    {"image_id": 3, "width": 60, "height": 40, "url": "https://example.org/x/VG_100K/3.jpg", "coco_id": 78},
]


def test_objects_of_coco(annotations):
    left_out = Counter()
    (row,) = coco_objects(annotations, "train/", without={11}, left_out=left_out)
    assert row == {
        "image_rpath": "train/a.png",
        "image_id": 10,
        "elems": [{"caption": "cat", "bb": [5, 6, 20, 10]}, {"caption": "dog", "bb": [30, 5, 10, 20]}],
    }
    assert left_out == {
        "crowd": 1, "box without area inside the picture": 1, "picture of a test": 1, "picture without a region": 1
    }  # fmt: skip


@pytest.fixture
def annotations(annotations):
    """The shared ones with a file name for every picture."""
    annotations["images"][2]["file_name"] = "c.png"
    return annotations


def test_objects_of_visual_genome_with_attributes():
    objects = [
        {"image_id": 1, "objects": [
            {"object_id": 5, "x": -2, "y": 3, "w": 10, "h": 10, "names": ["clock"]},
            {"object_id": 6, "x": 50, "y": 30, "w": 30, "h": 30, "names": ["man", "person"]},
            {"object_id": 7, "x": 5, "y": 5, "w": 0, "h": 3, "names": ["dot"]},
            {"object_id": 8, "x": 5, "y": 5, "w": 4, "h": 3, "names": []},
        ]},
        {"image_id": 2, "objects": [{"object_id": 9, "x": 0, "y": 0, "w": 5, "h": 5, "names": ["cat"]}]},
        {"image_id": 9, "objects": []},
    ]  # fmt: skip
    attributes = [{"image_id": 1, "attributes": [{"object_id": 5, "attributes": ["green", "tall"]}, {"object_id": 6}]}]
    left_out = Counter()
    (row,) = genome_objects(objects, IMAGES, attributes, without={77}, left_out=left_out)
    assert row["image_rpath"] == "VG_100K_2/1.jpg" and row["image_id"] == 1
    assert row["elems"] == [
        {"caption": "clock", "bb": [0, 3, 8, 10], "attributes": ["green", "tall"]},
        {"caption": ["man", "person"], "bb": [50, 30, 10, 10]},
    ]
    assert left_out == {
        "box without area inside the picture": 1, "no text": 1, "picture of a test": 1, "picture without data": 1
    }  # fmt: skip


def test_regions_of_visual_genome():
    regions = [
        {"id": 3, "regions": [{"x": 1, "y": 2, "width": 30, "height": 10, "phrase": "a dog runs", "image_id": 3}]},
        {"id": 2, "regions": [{"x": 1, "y": 2, "width": 30, "height": 10, "phrase": " ", "image_id": 2}]},
    ]
    left_out = Counter()
    (row,) = genome_regions(regions, IMAGES, left_out=left_out)
    assert row["elems"] == [{"caption": "a dog runs", "bb": [1, 2, 30, 10]}] and row["image_id"] == 3
    assert left_out == {"no text": 1, "picture without a region": 1}


def test_referrals_bring_their_sentences_together():
    def one(text, ref_id, image_id):
        return Referral(text, (1, 2, 10, 10), f"{image_id}.jpg", (40, 60), image_id, ref_id, 0, "train")

    rows = [one("a", 1, 7), one("b", 2, 7), one("c", 1, 7), one("d", 3, 8)]
    found = list(referrals(rows, "coco/", without={8}))
    assert [element["caption"] for element in found[0]["elems"]] == [["a", "c"], "b"] and len(found) == 1
    assert found[0]["image_rpath"] == "coco/7.jpg"


def test_rows_are_what_the_reader_of_regions_reads(annotations, red_picture, tmp_path):
    red_picture("train/a.png", (60, 40), (5, 6, 20, 10))
    (row,) = coco_objects(annotations, "train/", without={11})
    (tmp_path / "lines.jsonl").write_text(json.dumps(row))
    samples = islice(iter(RegionTexts(LineFiles([tmp_path / "lines.jsonl"]), side=32, picture_root=tmp_path)), 20)
    assert {text for sample in samples for text in sample["texts"]} == {"cat", "dog"}


def test_captions_of_coco():
    pictures = [{"id": n, "file_name": f"{n}.jpg"} for n in range(4)]
    captions = [{"image_id": n, "caption": text} for n, text in ((1, "A dog."), (0, "A cat."), (1, " "), (1, "Dogs"),
                                                                 (2, "no"), (9, "nobody"))]  # fmt: skip
    left_out = Counter()
    rows = list(coco_captions(pictures, captions, "train/", without={2}, left_out=left_out))
    assert rows == [
        {"caption": ["A cat."], "image_rpath": "train/0.jpg", "image_id": 0},
        {"caption": ["A dog.", "Dogs"], "image_rpath": "train/1.jpg", "image_id": 1},
    ]
    assert +left_out == {
        "caption of an unknown picture": 1, "no text": 1, "picture of a test": 1, "picture without a caption": 1
    }  # fmt: skip


def test_captioned_pictures_train(tmp_path):
    """The rows are what pictures with captions are trained on."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (row,) = captioned([CaptionedPicture("a.png", ("A red dog.",), 5, "train")], f"{tmp_path}/")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    sample = next(iter(CaptionedPictures(LineFiles([tmp_path / "rows.jsonl"]), side=32)))
    assert sample["texts"] == ["a red dog"] and sample["image"].shape == (3, 32, 32)
