import json
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet.data.davis import write_label_png
from ovdet.errors import InputError
from ovdet.metrics.video import contour_accuracy

SCRIPT = Path(__file__).parents[3] / "tools" / "evaluate" / "video.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(SCRIPT))


def square(left):
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, left : left + 20] = 1
    return labels


@pytest.fixture
def folders(tmp_path):
    """A clip of five frames, the answer ten pixels beside the truth in all but the first and the last."""
    for frame in range(5):
        path = tmp_path / "data" / "JPEGImages" / "clip" / f"{frame:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path)
        write_label_png(tmp_path / "data" / "Annotations" / "clip" / f"{frame:05d}.png", square(10))
        write_label_png(tmp_path / "answers" / "clip" / f"{frame:05d}.png", square(20 if 0 < frame < 4 else 10))
    return tmp_path


def test_answers_are_scored(tool, folders):
    out = folders / "out.json"
    metrics = tool["main"](["folders", str(folders / "data"), str(folders / "answers"), "--out", str(out)])
    outline = contour_accuracy(square(20) > 0, square(10) > 0)
    assert metrics["J_mean"] == pytest.approx(100 / 3) and metrics["F_mean"] == pytest.approx(100 * outline)
    result = json.loads(out.read_text())
    assert result["per_class"][0]["object"] == "clip_1" and result["protocol"]["clips"] == 1
    assert "first and last frame left out" in result["protocol"]["metric"]


def test_answers_are_packed(tool, folders):
    archive = folders / "out.zip"
    arguments = ["folders", str(folders / "data"), str(folders / "answers"), "--zip", str(archive), "--server", "mose"]
    assert tool["main"](arguments) == {}
    with zipfile.ZipFile(archive) as packed:
        assert packed.namelist() == [f"clip/{frame:05d}.png" for frame in range(5)]


def test_mistakes_are_told(tool, folders):
    with pytest.raises(InputError, match="belong together"):
        tool["main"](["folders", str(folders / "data"), str(folders / "answers"), "--server", "mose"])
    for path in (folders / "data" / "Annotations" / "clip").glob("0000[1-4].png"):
        path.unlink()
    with pytest.raises(InputError, match="no label pictures to score against"):
        tool["main"](["folders", str(folders / "data"), str(folders / "answers")])
