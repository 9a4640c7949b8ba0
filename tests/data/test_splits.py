import json

import pytest

from ovdet.data.splits import (
    OV_COCO_BASE,
    OV_COCO_NOVEL,
    OV_COCO_UNUSED,
    Split,
    annotated_split,
    lvis_split,
    ov_coco_split,
    ov_coco_split_80,
)
from ovdet.errors import InputError

# 0-based labels of the base classes among the 80, as the published OV-COCO code lists them.
BASE_LABELS_80 = (
    0, 1, 2, 3, 6, 7, 8, 13, 14, 17, 18, 21, 22, 23, 24, 26, 28, 29, 30, 33, 37, 39, 42, 44, 45, 46, 47, 48, 49, 50, 51,
    53, 54, 56, 59, 61, 62, 63, 64, 65, 68, 69, 70, 72, 73, 74, 75, 79,
)  # fmt: skip


@pytest.fixture
def coco_categories():
    every = {**OV_COCO_BASE, **OV_COCO_NOVEL, **OV_COCO_UNUSED}
    return [{"id": key, "name": name} for key, name in every.items()]


def test_coco_groups_are_disjoint_and_make_the_80_classes():
    sizes = [len(OV_COCO_BASE), len(OV_COCO_NOVEL), len(OV_COCO_UNUSED)]
    every = set(OV_COCO_BASE) | set(OV_COCO_NOVEL) | set(OV_COCO_UNUSED)
    names = {*OV_COCO_BASE.values(), *OV_COCO_NOVEL.values(), *OV_COCO_UNUSED.values()}
    assert sizes == [48, 17, 15]
    assert len(every) == len(names) == 80


def test_coco_names_are_mmdets(coco_categories):
    from mmdet.datasets import CocoDataset

    in_order_of_ids = [row["name"] for row in sorted(coco_categories, key=lambda row: row["id"])]
    assert tuple(in_order_of_ids) == CocoDataset.METAINFO["classes"]


def test_coco_65_way(coco_categories):
    split = ov_coco_split(coco_categories[::-1])
    assert len(split.names) == 65
    assert sum(split.base_mask) == 48
    assert split.names[split.category_ids.index(17)] == "cat"
    assert not split.base_mask[split.names.index("cat")]


def test_coco_80_way_has_the_published_base_labels(coco_categories):
    split = ov_coco_split_80(coco_categories)
    assert tuple(label for label, base in enumerate(split.base_mask) if base) == BASE_LABELS_80
    assert split.groups.count("unused") == 15
    assert split.digest != ov_coco_split(coco_categories).digest


def test_coco_refuses_other_names(coco_categories):
    coco_categories[0]["name"] = "human"
    with pytest.raises(InputError, match="category 1 to be 'person', but the annotation file has 'human'"):
        ov_coco_split(coco_categories)


def test_lvis_rare_is_novel():
    frequencies = "f" * 405 + "c" * 461 + "r" * 337
    split = lvis_split([{"id": i + 1, "name": f"n{i}", "frequency": f} for i, f in enumerate(frequencies)])
    assert (sum(split.base_mask), split.groups.count("novel")) == (866, 337)
    assert split.category_ids == tuple(label + 1 for label in range(1203))
    with pytest.raises(InputError, match=r"categories\[0\].*frequency"):
        lvis_split([{"id": 1, "name": "cat"}])


def test_a_file_states_its_own_split():
    rows = [{"id": 7, "name": "b", "split": "novel"}, {"id": 2, "name": "a"}]
    split = annotated_split(rows)
    assert (split.names, split.groups) == (("a", "b"), ("base", "novel"))
    assert split.digest == annotated_split(json.loads(json.dumps(rows[::-1]))).digest
    with pytest.raises(InputError, match="must be one of"):
        annotated_split([{"id": 1, "name": "a", "split": "seen"}])


def test_nothing_to_train_on_is_refused():
    with pytest.raises(InputError, match="no base class"):
        Split("x", (1,), ("a",), ("novel",))
