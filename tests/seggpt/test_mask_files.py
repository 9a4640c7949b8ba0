import json

import numpy as np
import pytest

from ovdet.errors import InputError
from ovdet.ops.masks import encode_masks
from ovdet.seggpt.mask_files import mask_of_annotation, read_coco_mask

MASK = np.zeros((10, 12), bool)
MASK[2:6, 3:9] = True
SQUARE = [3, 2, 9, 2, 9, 6, 3, 6]


def runs_of(mask):
    """Uncompressed COCO run lengths, by counting down the columns."""
    counts, current = [0], False
    for value in mask.flatten(order="F"):
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@pytest.mark.parametrize("shape", [[SQUARE], runs_of(MASK), encode_masks(MASK[None])[0]])
def test_polygons_and_run_lengths(shape):
    assert np.array_equal(mask_of_annotation({"segmentation": shape}, (10, 12)), MASK)


def test_several_polygons_are_one_mask():
    other = [0, 8, 2, 8, 2, 10, 0, 10]
    mask = mask_of_annotation({"segmentation": [SQUARE, other]}, (10, 12))
    assert mask.sum() == MASK.sum() + 4 and mask[8:, :2].all()


@pytest.fixture
def coco(tmp_path):
    path = tmp_path / "instances.json"
    content = {
        "images": [{"id": 1, "height": 5, "width": 5}, {"id": 4, "height": 10, "width": 12}],
        "categories": [{"id": 2, "name": "kite"}],
        "annotations": [
            {"id": 7, "image_id": 4, "category_id": 2, "segmentation": [SQUARE]},
            {"id": 8, "image_id": 4, "category_id": 2, "bbox": [1, 2, 3, 4]},
            {"id": 9, "image_id": 1, "category_id": 2, "segmentation": runs_of(MASK)},
            {"id": 10, "image_id": 4, "category_id": 2, "segmentation": [[1, 2]]},
            {"id": 11, "image_id": 3, "category_id": 2, "segmentation": [SQUARE]},
        ],
    }
    path.write_text(json.dumps(content))
    return path


def test_an_annotation_of_a_file(coco):
    mask, name = read_coco_mask(coco, 7)
    assert np.array_equal(mask, MASK) and name == "kite"


@pytest.mark.parametrize(
    ("annotation_id", "said"),
    [
        (3, "no annotation 3; its ids go from 7 to 11"),
        (8, "annotation 8: it has no segmentation"),
        (9, r"annotation 9: .*size \[10, 12\], its picture of \[5, 5\]"),
        (10, "annotation 10: .*damaged"),
        (11, "annotation 11: its picture 3 is not in the file"),
    ],
)
def test_annotations_without_a_mask_are_named(coco, annotation_id, said):
    with pytest.raises(InputError, match=said):
        read_coco_mask(coco, annotation_id)


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"annotations": [{"id": 7}]}'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "instances.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"instances\.json"):
        read_coco_mask(path, 7)
