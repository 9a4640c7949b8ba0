"""The shipped detector of stickers on 100 fixed scenes that no training saw, with all 741 names as candidates.

The scenes are evaluation scenes of seed 77 (tools/data/pack_scenes.py); the results of docs/results.md are on others.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet import Detector
from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.metrics.detection import class_precision, summarise
from ovdet.ops.masks import encode_masks

pytestmark = pytest.mark.slow
SCENES = Path(__file__).with_name("sticker_scenes.zip")


@pytest.fixture(scope="module")
def scenes():
    """Annotations as COCO has them, and pictures (256, 256, 3) uint8 by id."""
    with zipfile.ZipFile(SCENES) as archive:
        content = json.loads(archive.read("annotations.json"))
        pictures = {}
        for row in content["images"]:
            with archive.open(f"images/{row['file_name']}") as stream:
                pictures[row["id"]] = np.asarray(Image.open(stream).convert("RGB"))
    return content, pictures


@pytest.fixture(scope="module")
def figures(scenes):
    """AP50 in percent: box_base, mask_novel and so on."""
    content, pictures = scenes
    vocabulary = load_vocabulary("75-25")
    assert [row["name"] for row in content["categories"]] == list(vocabulary.names)
    detector = Detector("stickers", device="cpu")
    rows = []
    for image_id, picture in pictures.items():
        found = detector(picture, vocabulary.names, score=0.001, max_dets=100)
        masks = encode_masks(found.masks)
        for box, label, score, rle in zip(
            found.boxes_xyxy.tolist(), found.labels.tolist(), found.scores.tolist(), masks, strict=True
        ):
            x1, y1, x2, y2 = box
            rows.append(
                {
                    "image_id": image_id,
                    "category_id": content["categories"][label]["id"],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                    "segmentation": rle,
                }
            )
    groups = ["base" if base else "novel" for base in vocabulary.base_mask]
    ids = [row["id"] for row in content["categories"]]
    numbers = {}
    for kind, iou_type in (("box", "bbox"), ("mask", "segm")):
        summary = summarise(class_precision(content, rows, ids, iou_type=iou_type), groups)
        numbers |= {f"{kind}_{group}": summary[f"AP50_{group}"] for group in ("base", "novel", "all")}
    return numbers


def test_it_finds_what_it_saw_boxed(figures):
    assert figures["box_base"] >= 60


def test_it_finds_names_whose_boxes_it_never_saw(figures):
    assert figures["box_novel"] >= 40


def test_masks_follow_boxes(figures):
    assert figures["mask_all"] >= 50
    assert 0 < figures["box_all"] - figures["mask_all"] <= 10
