import cv2
import numpy as np
import pytest
import torch

from ovdet.vlm.contrastive.imagenet_words import imagenet_words
from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.predict import ZeroShotDetector


@pytest.fixture(scope="package")
def backbone():
    torch.manual_seed(0)
    return imagenet_words()


@pytest.fixture
def detector(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_HOME", str(tmp_path))
    return ZeroShotDetector(backbone)


@pytest.fixture
def quick(backbone, tmp_path, monkeypatch):
    """The same detector with small views."""
    monkeypatch.setenv("OVDET_HOME", str(tmp_path))
    return ZeroShotDetector(backbone, ZeroShotConfig(view_sides=(128, 192, 256), mirror_below=0))


@pytest.fixture(scope="package")
def cat() -> np.ndarray:
    from skimage import data

    return data.chelsea()


@pytest.fixture(scope="package")
def small_cat(cat) -> np.ndarray:
    """The cat at the left of a wide, dull picture."""
    canvas = np.full((160, 320, 3), 120, np.uint8)
    canvas[20:140, 10:170] = cv2.resize(cat[:, :400], (160, 120), interpolation=cv2.INTER_AREA)
    return canvas
