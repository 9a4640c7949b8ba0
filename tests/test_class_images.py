"""Pictures as classes with the detectors that come with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from ovdet import Detector
from ovdet.vild.predict import ViLDDetector

SCENES = Path(__file__).parents[1] / "demo" / "stickers"


@pytest.fixture(scope="module")
def stickers() -> Detector:
    return Detector("stickers")


@pytest.mark.slow
def test_a_thing_is_found_again_by_its_own_picture(stickers):
    """Held-out style, held-out grounds: as the thing itself is the example, nothing else may look more like it."""
    found_again = []
    for scene, things in json.loads((SCENES / "expected.json").read_text()).items():
        for thing in things:
            shown = (SCENES / scene, thing["box_xyxy"])
            result = stickers(SCENES / scene, [], class_images={"thing": shown}, max_dets=1, score=0)
            boxes_xyxy = torch.tensor([thing["box_xyxy"]]), torch.from_numpy(result.boxes_xyxy)
            found_again.append(float(box_iou(*boxes_xyxy)[0, 0]))
    assert np.mean(np.array(found_again) > 0.5) > 0.7, found_again


@pytest.mark.slow
def test_rows_of_pictures_stand_among_rows_of_names(stickers):
    desk = stickers.predictor
    assert isinstance(desk, ViLDDetector)
    names, rows = stickers.vocabulary(["goose", "fox"], {"mine": (SCENES / "scene1.png", (246, 20, 353, 169))})
    assert names == ["goose", "fox", "mine"] and rows.shape == (3, 256)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    assert torch.equal(rows[:2], desk.embed(["goose", "fox"]))
