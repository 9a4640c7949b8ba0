import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def annotations():
    """Three pictures: one with a base and a novel box, one with only a novel box, one empty."""
    return {
        "images": [
            {"id": 10, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 11, "file_name": "b.png", "height": 50, "width": 50},
            {"id": 12, "coco_url": "http://images.cocodataset.org/val2017/c.png", "height": 50, "width": 50},
        ],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 3, "bbox": [5, 6, 20, 10], "area": 200, "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 8, "bbox": [30, 5, 10, 20], "area": 200, "iscrowd": 0},
            {"id": 3, "image_id": 11, "category_id": 8, "bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0},
            {"id": 4, "image_id": 10, "category_id": 3, "bbox": [0, 0, 40, 40], "area": 1600, "iscrowd": 1},
            {"id": 5, "image_id": 10, "category_id": 3, "bbox": [70, 0, 5, 5], "area": 25, "iscrowd": 0},
        ],
        "categories": [{"id": 8, "name": "dog", "split": "novel"}, {"id": 3, "name": "cat", "split": "base"}],
    }


@pytest.fixture
def write(tmp_path):
    """Write an annotation object, give its path."""

    def to_file(content, name="annotations.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


@pytest.fixture
def red_picture(tmp_path):
    """Save a grey picture with one red rectangle (left, top, width, height), give its path."""

    def to_file(name, size_wh, box_xywh, colour=(255, 0, 0)):
        left, top, width, height = box_xywh
        pixels = np.full((size_wh[1], size_wh[0], 3), 128, np.uint8)
        pixels[top : top + height, left : left + width] = colour
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return to_file


@pytest.fixture
def red_box():
    """Corners (left, top, right, bottom) of what is red in a picture (3, H, W), as shares of its sides."""

    def of(picture):
        pixels = np.asarray(picture).astype(int)
        rows, columns = np.nonzero((pixels[0] > 190) & (pixels[1] < 64))
        height, width = pixels.shape[1:]
        return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height

    return of
