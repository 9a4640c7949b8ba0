"""Every kind of source that a config can name gives contexts, out of a tiny folder in its own layout."""

import json

import numpy as np
import pytest
from PIL import Image

from ovdet.data.context_sources import (
    ade20k_contexts,
    clip_contexts,
    coco_contexts,
    folder_contexts,
    panoptic_contexts,
    voc_contexts,
)
from ovdet.data.davis import write_label_png
from ovdet.errors import InputError

SIZE_HW = (10, 12)
LABELS = np.ones(SIZE_HW, np.uint8)
LABELS[:, 6:] = 2


def picture(path, array=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE_HW, 3), 90, np.uint8) if array is None else array).save(path)


def coco(root):
    for name in "ab":
        picture(root / f"{name}.jpg")
        picture(root / "maps" / f"{name}.png", np.stack([LABELS, 0 * LABELS, 0 * LABELS], axis=2))
    images = [dict(id=n, file_name=f"{name}.jpg", height=10, width=12) for n, name in enumerate("ab")]
    boxes = [dict(image_id=n, category_id=1, bbox=[1, 1, 4, 4], segmentation=[[1, 1, 5, 1, 5, 5]]) for n in (0, 1)]
    categories = [dict(id=1, name="cat", isthing=1), dict(id=2, name="rug", isthing=0)]
    (root / "things.json").write_text(json.dumps(dict(images=images, annotations=boxes, categories=categories)))
    segments = [dict(id=1, category_id=1), dict(id=2, category_id=2)]
    rows = [dict(image_id=n, file_name=f"{name}.png", segments_info=segments) for n, name in enumerate("ab")]
    (root / "all.json").write_text(json.dumps(dict(images=images, annotations=rows, categories=categories)))


def sources(root):
    coco(root / "coco")
    things = dict(ann_file=str(root / "coco" / "things.json"), images=str(root / "coco"))
    yield coco_contexts(**things), "semantic"
    yield coco_contexts(**things, kind="instance"), "instance"
    yield coco_contexts(**things, kind="part", cut_parts=True), "part"
    whole = dict(ann_file=str(root / "coco" / "all.json"), maps=str(root / "coco" / "maps"), images=things["images"])
    yield panoptic_contexts(**whole), "semantic"
    yield panoptic_contexts(**whole, kind="instance"), "instance"
    for name in ("x", "y"):
        picture(root / "images" / "training" / f"{name}.jpg")
        picture(root / "annotations" / "training" / f"{name}.png", LABELS)
        picture(root / "JPEGImages" / f"{name}.jpg")
        picture(root / "SegmentationClassAug" / f"{name}.png", LABELS)
    (root / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n2\tsky\n")
    yield ade20k_contexts(str(root)), "semantic"
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train_aug.txt").write_text("x\ny\n")
    yield voc_contexts(str(root)), "semantic"
    folders = str(root / "JPEGImages"), str(root / "SegmentationClassAug")
    yield folder_contexts(*folders, 2, "part", first_label=1), "part"
    for frame in range(3):
        picture(root / "clips" / "JPEGImages" / "c" / f"{frame:05d}.jpg")
        write_label_png(root / "clips" / "Annotations" / "c" / f"{frame:05d}.png", LABELS)
    yield clip_contexts(str(root / "clips"), "folders", 0.0), "instance"


def test_every_source_gives_contexts(tmp_path):
    rng = np.random.default_rng(0)
    for source, kind in sources(tmp_path):
        context = source.draw(rng, 0, 3)
        assert context.kind == kind and len(context.pictures) == 3
        assert set.intersection(*(set(one.shown().tolist()) for one in context.pictures))


def test_mistakes_are_told(tmp_path):
    with pytest.raises(InputError, match="no layout of clips 'avi'"):
        clip_contexts(str(tmp_path), "avi")
