"""`ovdet segment` end to end with a network that goes by colours: examples of every form, files, video, bad input."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ovdet.media import read_picture, write_video

SIZE_HW = (64, 96)
LEFT, RIGHT = (8, 8, 40, 40), (56, 16, 88, 48)


def mask_of(*boxes, size_hw=SIZE_HW) -> np.ndarray:
    """(H, W) uint8: 1 in the first box, 2 in the second."""
    mask = np.zeros(size_hw, np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        mask[y1:y2, x1:x2] = number
    return mask


@pytest.fixture
def scene(tmp_path, paint) -> Path:
    """An example: something red on the left, something blue on the right; and its mask in every form."""
    Image.fromarray(paint(SIZE_HW, ("red", LEFT), ("blue", RIGHT))).save(tmp_path / "example.png")
    both = mask_of(LEFT, RIGHT)
    Image.fromarray((both == 1).astype(np.uint8) * 255).save(tmp_path / "binary.png")
    palette = Image.fromarray(both, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[both]).save(tmp_path / "colours.png")
    x1, y1, x2, y2 = LEFT
    polygon = {"id": 7, "image_id": 1, "category_id": 3, "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}
    run = coco_mask.encode(np.asfortranarray((both == 2).astype(np.uint8)))
    runs = {"id": 8, "image_id": 1, "category_id": 4, "segmentation": {**run, "counts": run["counts"].decode()}}
    content = {
        "images": [{"id": 1, "file_name": "example.png", "height": SIZE_HW[0], "width": SIZE_HW[1]}],
        "annotations": [polygon, runs],
        "categories": [{"id": 3, "name": "cherry"}, {"id": 4, "name": "plum"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path / "example.png"


@pytest.fixture
def target(tmp_path, paint) -> Path:
    """Two red things, one blue."""
    image = paint((48, 80), ("red", (0, 0, 20, 24)), ("red", (30, 24, 50, 48)), ("blue", (55, 0, 80, 24)))
    Image.fromarray(image).save(tmp_path / "target.png")
    return tmp_path / "target.png"


@pytest.fixture
def clip(tmp_path, paint) -> Path:
    """Ten frames: something red moves to the right, something blue down; the first frame's masks beside it."""
    with write_video(tmp_path / "clip.mp4", 10) as writer:
        for step in range(10):
            writer.write(
                paint((64, 96), ("red", (4 + 3 * step, 8, 28 + 3 * step, 30)), ("blue", (64, step, 90, 24 + step)))
            )
    palette = Image.fromarray(mask_of((4, 8, 28, 30), (64, 0, 90, 24), size_hw=(64, 96)), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "first.png")
    return tmp_path / "clip.mp4"


def found_in(record: dict) -> dict:
    return {one["name"]: coco_mask.decode(one["segmentation"]).astype(bool) for one in record["detections"]}


def test_an_example_is_found_drawn_told_and_written(run_ovdet, scene, target):
    outcome = run_ovdet("segment", target, "--example", "cherry=example.png", "binary.png", "--json")
    assert outcome.code == 0, outcome.err
    (record,) = outcome.records
    assert list(record) == ["source", "size_hw", "model", "detections"] and record["model"] == "colours"
    cherry = found_in(record)["cherry"]
    red = (read_picture(target) == (220, 30, 30)).all(axis=2)
    assert (cherry & red).sum() / (cherry | red).sum() > 0.9
    written = np.asarray(Image.open("outputs/masks/target.png"))
    np.testing.assert_array_equal(written == 1, cherry)
    assert Image.open("outputs/masks/target.png").mode == "P"
    assert (read_picture("outputs/target.png") != read_picture(target)).any()
    assert sorted(os.listdir("outputs")) == ["masks", "target.png"]


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (("example.png", "binary.png"), {"thing"}),
        (("example.png", "palette.png"), {"1", "2"}),
        (("cherry,plum=example.png", "palette.png"), {"cherry", "plum"}),
        (("example.png", "colours.png"), {"#ff0000", "#0000ff"}),
        (("plum,cherry=example.png", "colours.png"), {"plum", "cherry"}),
        (("example.png", "coco.json:7"), {"cherry"}),
        (("example.png", "coco.json:8"), {"plum"}),
        (("berry=example.png", "coco.json:8"), {"berry"}),
        (("berry=example.png", "8,8,32,32"), {"berry"}),
    ],
)  # fmt: skip
def test_masks_of_every_form(run_ovdet, scene, target, blob_detector, monkeypatch, example, names):
    boxes = []

    def masks_of_boxes(image, boxes_xyxy):
        boxes.extend(boxes_xyxy.tolist())
        return (mask_of(LEFT) > 0)[None]

    monkeypatch.setattr(blob_detector, "masks_of_boxes", masks_of_boxes, raising=False)
    outcome = run_ovdet("segment", target, "--example", *example, "--json", "--no-save", "--no-mask-files")
    assert outcome.code == 0, outcome.err
    found = found_in(outcome.records[0])
    assert set(found) == names
    image = read_picture(target)
    colours = {"cherry": (220, 30, 30), "thing": (220, 30, 30), "1": (220, 30, 30), "#ff0000": (220, 30, 30)}
    for name, mask in found.items():
        colour = colours.get(name, (40, 60, 220))
        if name == "berry" and boxes:
            colour = (220, 30, 30)
        if names == {"plum", "cherry"} and example[1] == "colours.png":  # colours are in the order of their codes
            colour = (40, 60, 220) if name == "plum" else (220, 30, 30)
        wanted = (image == colour).all(axis=2)
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.85, name
    assert boxes == ([[8, 8, 40, 40]] if example[1][0].isdigit() else []) and not Path("outputs").exists()
