"""The front desk with the model that a new user gets, on scikit-image's photographs."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet import Detector
from ovdet.media import read_picture

pytestmark = pytest.mark.slow
PHOTOGRAPHS = Path(pytest.importorskip("skimage").__file__).parent / "data"
NAMES = ["rocket", "cat", "motorcycle"]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(device="cpu")


def _iou(first, second) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    inter = np.prod(np.clip(high - low, 0, None))
    areas = [np.prod(np.asarray(box[2:]) - np.asarray(box[:2])) for box in (first, second)]
    return inter / (sum(areas) - inter)


def _same(first, second) -> None:
    """Equal but for the last bits, which depend on how a machine's kernels split their work."""
    assert first.names == second.names and first.size_hw == second.size_hw
    np.testing.assert_allclose(first.boxes_xyxy, second.boxes_xyxy, atol=0.5)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-4)


def test_the_cat_is_found_where_it_is(detector):
    result = detector(PHOTOGRAPHS / "chelsea.png", NAMES)
    assert result.names[0] == "cat" and result.labels[0] == 1 and result.model == "imagenet-words"
    assert _iou(result.boxes_xyxy[0], [0, 0, 451, 300]) > 0.5  # it fills nearly all of the picture
    assert result.mask(0).sum() > 0.3 * 451 * 300
    assert "rocket" not in result.names and "motorcycle" not in result.names


def test_batches_and_threads_change_nothing(detector):
    rocket = read_picture(PHOTOGRAPHS / "rocket.jpg")
    pictures = [rocket[:, 120:520], read_picture(PHOTOGRAPHS / "chelsea.png")[40:240, 60:300]]
    alone = [detector(picture, NAMES) for picture in pictures]
    assert sum(map(len, alone)) >= 2
    for ours, expected in zip(detector(pictures, NAMES, batch_size=2), alone, strict=True):
        _same(ours, expected)
    with ThreadPoolExecutor(2) as pool:
        for ours, expected in zip(pool.map(lambda picture: detector(picture, NAMES), pictures), alone, strict=True):
            _same(ours, expected)


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 30_000)])
def test_odd_sizes(detector, size_hw):
    result = detector(np.full((*size_hw, 3), 90, np.uint8), NAMES)
    assert result.size_hw == size_hw and result.masks.shape == (len(result), *size_hw)


def test_the_command_in_a_process_of_its_own(tmp_path):
    Image.open(PHOTOGRAPHS / "chelsea.png").save(tmp_path / "Мурка.png")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = ["detect", "Мурка.png", "--classes", "cat, rocket", "--json", "--format", "coco", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "ovdet", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["source"] == "Мурка.png" and record["detections"][0]["name"] == "cat"
    assert sorted(os.listdir(tmp_path / "outputs")) == ["results.coco.json", "Мурка.png"]
    assert done.stderr.startswith("Мурка.png: 1 x cat")
