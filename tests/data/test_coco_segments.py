"""Tiny files laid out like COCO's instances and panoptic annotations, and like LVIS."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ovdet.data.coco_segments import CocoSegments, PanopticSegments, decode
from ovdet.data.contexts import PictureContexts
from ovdet.data.segments import IGNORED, NOTHING
from ovdet.errors import InputError

SIZE_HW = (12, 16)


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def mask_of(left, top, right, bottom):
    mask = np.zeros(SIZE_HW, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def compressed(mask):
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(SIZE_HW), "counts": rle["counts"].decode()}


def uncompressed(mask):
    runs, value, length = [], 0, 0
    for pixel in mask.flatten(order="F"):
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return {"size": list(SIZE_HW), "counts": [*runs, length]}


@pytest.fixture
def instances():
    row = lambda image, category, segmentation, **more: dict(  # noqa: E731
        image_id=image, category_id=category, bbox=[0, 0, 9, 9], area=9, segmentation=segmentation, **more
    )
    rows = [
        row(2, 18, rectangle(0, 0, 8, 8), iscrowd=0),
        row(2, 3, compressed(mask_of(2, 2, 5, 5)), iscrowd=0),
        row(2, 18, uncompressed(mask_of(10, 0, 16, 12)), iscrowd=1),
        row(1, 18, compressed(mask_of(4, 4, 10, 10))),
        row(1, 18, compressed(mask_of(8, 8, 14, 12))),
    ]
    names = {1: "a.jpg", 2: "b.jpg", 5: "c.jpg"}
    return {
        "images": [dict(id=key, file_name=name, height=12, width=16) for key, name in names.items()],
        "annotations": [dict(one, id=index) for index, one in enumerate(rows)],
        "categories": [dict(id=18, name="dog"), dict(id=3, name="car")],
    }


@pytest.fixture
def folder(tmp_path, instances):
    for number, row in enumerate(instances["images"]):
        Image.fromarray(np.full((*SIZE_HW, 3), 40 * number, np.uint8)).save(tmp_path / row["file_name"])
    return tmp_path


def load(folder, content):
    (folder / "annotations.json").write_text(json.dumps(content))
    return CocoSegments(folder / "annotations.json", folder)


def test_polygons_and_run_lengths_mean_the_same():
    mask = mask_of(3, 2, 9, 10)
    for said in (rectangle(3, 2, 9, 10), compressed(mask), uncompressed(mask)):
        assert np.array_equal(decode(said, SIZE_HW), mask.astype(bool))
    with pytest.raises(InputError, match="neither polygons nor run lengths"):
        decode({"size": [1, 2]}, SIZE_HW)
    with pytest.raises(InputError, match="a mask is"):
        decode(compressed(mask), (9, 9))


def test_coco_instances(folder, instances):
    data = load(folder, instances)
    assert data.class_names == ("car", "dog") and data.names == ["a.jpg", "b.jpg", "c.jpg"]
    assert [data.keys_of(index) for index in range(3)] == [(1, 1), (1, 0), ()]
    picture = data[1]
    assert picture.key_map[3, 3] == 0, "the car is smaller than the dog under it"
    assert picture.key_map[1, 1] == 1 and picture.key_map[11, 11] == IGNORED and picture.key_map[11, 1] == NOTHING
    assert set(PictureContexts(data, "instance").draw(np.random.default_rng(0), 0, 2).pictures[0].keys.tolist()) == {
        0,
        1,
    }


def test_masks_of_a_class_overlap_freely_and_crowds_are_a_choice(folder, instances):
    data = load(folder, instances)
    dog, judged = data.mask("b.jpg", 1)
    assert np.array_equal(dog, mask_of(0, 0, 8, 8).astype(bool)), "the car on it does not cut it"
    assert np.array_equal(judged, ~mask_of(10, 0, 16, 12).astype(bool))
    dog, judged = data.mask("b.jpg", 1, crowds="include")
    assert np.array_equal(dog, (mask_of(0, 0, 8, 8) | mask_of(10, 0, 16, 12)).astype(bool)) and judged.all()
    both, _ = data.mask("a.jpg", 1)
    assert both.sum() == 36 + 24 - 4
    assert data.picture("b.jpg").shape == (*SIZE_HW, 3)


def test_lvis_names_pictures_by_their_address(folder, instances):
    (folder / "val2017").mkdir()
    for row in instances["images"]:
        (folder / row["file_name"]).rename(folder / "val2017" / row["file_name"])
        row["coco_url"] = f"http://images.cocodataset.org/val2017/{row.pop('file_name')}"
    data = load(folder, instances)
    assert data.names[0] == "val2017/a.jpg" and data[0].image.shape == (*SIZE_HW, 3)


def test_mistakes_in_instances_are_told(folder, instances):
    with pytest.raises(InputError, match=r"no picture z\.jpg"):
        load(folder, instances).mask("z.jpg", 0)
    (folder / "a.jpg").unlink()
    with pytest.raises(InputError, match="there is no picture"):
        load(folder, instances)[0]
    del instances["annotations"][1]["segmentation"]
    with pytest.raises(InputError, match=r"annotations\[1\] has no \"segmentation\""):
        load(folder, instances)


@pytest.fixture
def panoptic(folder):
    ids = np.zeros(SIZE_HW, np.int64)
    ids[:, :5], ids[:6, 5:10], ids[6:, 5:10] = 3226956, 70000, 258
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    (folder / "panoptic_val").mkdir()
    Image.fromarray(colours).save(folder / "panoptic_val" / "a.png")
    segments = [
        dict(id=3226956, category_id=200, iscrowd=0, area=60),
        dict(id=70000, category_id=1, iscrowd=0, area=30),
        dict(id=258, category_id=1, iscrowd=1, area=30),
    ]
    content = {
        "images": [dict(id=1, file_name="a.jpg", height=12, width=16)],
        "annotations": [dict(image_id=1, file_name="a.png", segments_info=segments)],
        "categories": [dict(id=1, name="person", isthing=1), dict(id=200, name="rug", isthing=0)],
    }
    return folder, content


def load_panoptic(folder, content):
    (folder / "panoptic.json").write_text(json.dumps(content))
    return PanopticSegments(folder / "panoptic.json", folder / "panoptic_val", folder)


def test_coco_panoptic(panoptic):
    data = load_panoptic(*panoptic)
    assert data.class_names == ("person", "rug") and data.is_thing == (True, False) and data.names == ["a.jpg"]
    ids, classes, crowds = data.segments(0)
    assert ids[0, 0] == 3226956 and classes == {3226956: 1, 70000: 0, 258: 0} and crowds == (258,)
    assert data.keys_of(0) == (1, 0)
    key_map = data[0].key_map
    assert key_map[0, 0] == 1 and key_map[0, 6] == 0 and key_map[8, 6] == IGNORED and key_map[0, 12] == IGNORED


def test_mistakes_in_panoptic_files_are_told(panoptic, instances):
    folder, content = panoptic
    with pytest.raises(InputError, match="is this a file of instances"):
        load_panoptic(folder, instances)
    with pytest.raises(InputError, match="unlisted category 7"):
        content["annotations"][0]["segments_info"][0]["category_id"] = 7
        load_panoptic(folder, content)
    with pytest.raises(InputError, match="unknown picture 4"):
        content["annotations"][0]["image_id"] = 4
        load_panoptic(folder, content)
    with pytest.raises(InputError, match="cannot read"):
        PanopticSegments(folder / "none.json", folder, folder)
