import math
import random

import numpy as np
import pytest
from mmdet.datasets.transforms import LoadAnnotations

from ovdet.data.coco import OpenVocabularyDataset, read_annotations
from ovdet.data.sampling import Draw
from ovdet.data.splits import lvis_split
from ovdet.errors import InputError


def test_names_and_groups_come_from_the_file(annotations, write):
    data = OpenVocabularyDataset(write(annotations))
    meta = data.metainfo
    assert (meta["classes"], meta["base_mask"], meta["category_ids"]) == (("cat", "dog"), (True, False), (3, 8))
    assert len(data) == 3
    first = data.get_data_info(0)
    assert [one["bbox"] for one in first["instances"]] == [[5, 6, 25, 16], [30, 5, 40, 25], [0, 0, 40, 40]]
    assert [one["ignore_flag"] for one in first["instances"]] == [0, 0, 1]
    assert data.get_data_info(2)["img_path"].endswith("val2017/c.png")


def test_base_only_drops_novel_boxes_and_the_pictures_left_without_any(annotations, write):
    data = OpenVocabularyDataset(write(annotations), base_only=True)
    assert [data.get_data_info(index)["img_id"] for index in range(len(data))] == [10]
    assert data.get_cat_ids(0) == [0, 0]


def test_base_only_removes_exactly_the_rare_annotations(annotations, write):
    for row, frequency in zip(annotations["categories"], "rf", strict=True):
        row["frequency"] = frequency
    everything = OpenVocabularyDataset(write(annotations), split=lvis_split)
    base = OpenVocabularyDataset(write(annotations), split=lvis_split, base_only=True)

    def count(data):
        return sum(len(data.get_cat_ids(index)) for index in range(len(data)))

    assert count(everything) - count(base) == 2


def test_only_named_keeps_pictures_with_a_box(annotations, write):
    assert len(OpenVocabularyDataset(write(annotations), only_named=True, test_mode=True)) == 2


def test_mismatched_names_are_refused_in_one_sentence(annotations, write):
    path = write(annotations)
    assert len(OpenVocabularyDataset(path, names=["cat", "dog"])) == 3
    with pytest.raises(InputError, match="class 1 is 'hound' in the config, but 'dog' in"):
        OpenVocabularyDataset(path, names=["cat", "hound"])
    with pytest.raises(InputError, match=r"the config names 80 classes, but .* has 2"):
        OpenVocabularyDataset(path, names=[str(i) for i in range(80)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: a.pop("categories"), 'no list "categories"'),
        (lambda a: a["images"].append(dict(a["images"][0])), r"images\[3\] repeats the id 10"),
        (lambda a: a["categories"].append({"id": 9, "name": "cat"}), r"categories\[2\] repeats the name 'cat'"),
        (lambda a: a["annotations"][1].pop("bbox"), r'annotations\[1\] has no "bbox"'),
        (lambda a: a["annotations"][2].update(bbox=[1, 2, 3]), r"annotations\[2\].bbox must be"),
        (lambda a: a["annotations"][2].update(bbox=None), r"annotations\[2\].bbox must be .* got None"),
        (lambda a: a["annotations"][2].update(bbox=["1", 2, 3, 4]), r"annotations\[2\].bbox must be"),
        (lambda a: a["annotations"][2].update(bbox=[math.nan, 2, 3, 4]), r"annotations\[2\].bbox must be"),
        (lambda a: a["annotations"][2].update(category_id=4), r"annotations\[2\] is of an unlisted category 4"),
        (lambda a: a["images"][2].update(height="50"), r"images\[2\] must have height and width"),
        (lambda a: a["annotations"][0].update(image_id=99), r"annotations\[0\] is of an unknown picture 99"),
        (lambda a: a["images"][1].pop("file_name"), r'images\[1\] has neither "file_name"'),
        (lambda a: a["annotations"].clear(), "no picture with a box of a base class"),
    ],
)
def test_damaged_annotations_are_named(annotations, write, damage, message):
    damage(annotations)
    with pytest.raises(InputError, match=message):
        OpenVocabularyDataset(write(annotations), base_only=True)


def test_missing_masks_are_named(annotations, write):
    path = write(annotations)
    with pytest.raises(InputError, match=r'annotations\[0\] has no "segmentation"'):
        OpenVocabularyDataset(path, pipeline=[dict(type=LoadAnnotations, with_bbox=True, with_mask=True)])
    assert len(OpenVocabularyDataset(path, pipeline=[dict(type=LoadAnnotations, with_bbox=True)])) == 3


def test_missing_and_unreadable_files_are_named(tmp_path, write):
    with pytest.raises(InputError, match=r"cannot read the annotation file .*none\.json: No such file"):
        read_annotations(tmp_path / "none.json")
    with pytest.raises(InputError, match="not valid JSON"):
        read_annotations(write("{oops"))


def test_a_draw_fixes_the_random_transforms(annotations, write):
    def noise(results):
        return np.random.rand(), random.random()

    data = OpenVocabularyDataset(write(annotations), seed=5, pipeline=[noise])
    first = data[Draw(0, 17)]
    data[0], np.random.rand(9)
    assert data[Draw(0, 17)] == first
    assert data[Draw(0, 18)] != first
