import hashlib
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


@pytest.fixture
def moving(tmp_path, paint):
    """Two things that move, the second of which comes with the third frame; six frames."""
    for frame in range(6):
        reds, blues = (4 + 3 * frame, 8, 28 + 3 * frame, 30), (64, 2 * frame, 90, 24 + 2 * frame)
        blobs = [("red", reds), *([("blue", blues)] if frame > 1 else [])]
        labels = np.zeros((64, 96), np.uint8)
        for number, (_, (x1, y1, x2, y2)) in zip((3, 7), blobs, strict=False):
            labels[y1:y2, x1:x2] = number
        path = tmp_path / "data" / "JPEGImages" / "clip" / f"{frame:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paint((64, 96), *blobs)).save(path)
        write_label_png(tmp_path / "data" / "Annotations" / "clip" / f"{frame:05d}.png", labels)
    meta = {"videos": {"clip": {"objects": {"3": {"frames": ["00000"]}, "7": {"frames": ["00002", "00003"]}}}}}
    (tmp_path / "data" / "meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_a_model_answers_from_where_objects_are_given(tool, moving, colour_desk, monkeypatch):
    monkeypatch.setitem(tool["main"].__globals__, "load_segmenter", lambda model, device: colour_desk)
    data, answers, archive = (str(moving / name) for name in ("data", "answers", "out.zip"))
    arguments = ["youtube-vos", data, answers, "--model", "any", "--zip", archive, "--server", "youtube-vos"]
    assert tool["main"](arguments) == {}
    truth = [np.asarray(Image.open(path)) for path in sorted((moving / "data/Annotations/clip").iterdir())]
    found = [np.asarray(Image.open(path)) for path in sorted((moving / "answers/clip").iterdir())]
    np.testing.assert_array_equal(found[0], truth[0])
    np.testing.assert_array_equal(found[2] == 7, truth[2] == 7)
    assert [sorted(np.unique(labels)) for labels in found] == [[0, 3]] * 2 + [[0, 3, 7]] * 4
    asked = len(colour_desk.model.asked)
    tool["main"](arguments)
    assert len(colour_desk.model.asked) == asked  # nothing is answered twice
    with zipfile.ZipFile(archive) as packed:
        assert len(packed.namelist()) == 6


def test_where_objects_are_given_is_no_truth(tool, moving):
    """YouTube-VOS's validation part has label pictures of the frames in which objects begin, and no others."""
    labels = moving / "data" / "Annotations" / "clip"
    for frame in (1, 3, 4, 5):
        (labels / f"{frame:05d}.png").unlink()
    write_label_png(labels / "00004.png", np.asarray(Image.open(moving / "data/Annotations/clip/00002.png")) // 7 * 9)
    meta = json.loads((moving / "data" / "meta.json").read_text())
    meta["videos"]["clip"]["objects"]["9"] = {"frames": ["00004"]}
    (moving / "data" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="beside those that give its objects"):
        tool["main"](["youtube-vos", str(moving / "data"), str(moving / "answers")])


def test_a_model_s_answers_are_scored(tool, folders, colour_desk, monkeypatch, paint):
    for frame in range(5):
        left = 10 + 2 * frame
        Image.fromarray(paint((40, 60), ("red", (left, 10, left + 20, 30)))).save(
            folders / "data" / "JPEGImages" / "clip" / f"{frame:05d}.jpg", quality=100, subsampling=0
        )
        write_label_png(folders / "data" / "Annotations" / "clip" / f"{frame:05d}.png", square(left))
    monkeypatch.setitem(tool["main"].__globals__, "load_segmenter", lambda model, device: colour_desk)
    data, answers, out, model = (str(folders / name) for name in ("data", "new", "out.json", "model.pth"))
    Path(model).write_bytes(b"weights")
    metrics = tool["main"](["folders", data, answers, "--model", model, "--memory", "1", "--out", out])
    assert metrics["J_mean"] > 85
    protocol = json.loads(Path(out).read_text())["protocol"]
    assert protocol["answers"] == {"memory": 1, "mode": "instance", "model": model}
    assert protocol["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_a_part_of_davis(tool, folders):
    data = folders / "data"
    (data / "ImageSets" / "2017").mkdir(parents=True)
    (data / "ImageSets" / "2017" / "test-dev.txt").write_text("clip\n")
    for folder in ("JPEGImages", "Annotations"):
        (data / folder / "clip").rename(data / folder / "moved")
        (data / folder / "480p").mkdir()
        (data / folder / "moved").rename(data / folder / "480p" / "clip")
    out = folders / "out.json"
    tool["main"](["davis", str(data), str(folders / "answers"), "--part", "test-dev", "--out", str(out)])
    assert json.loads(out.read_text())["protocol"]["data"] == "davis-2017 test-dev"
    with pytest.raises(InputError, match=r"val\.txt"):
        tool["main"](["davis", str(data), str(folders / "answers")])
    with pytest.raises(InputError, match="--part is for davis"):
        tool["main"](["folders", str(data), str(folders / "answers"), "--part", "val"])


def test_mistakes_are_told(tool, folders):
    with pytest.raises(InputError, match="belong together"):
        tool["main"](["folders", str(folders / "data"), str(folders / "answers"), "--server", "mose"])
    for path in (folders / "data" / "Annotations" / "clip").glob("0000[1-4].png"):
        path.unlink()
    with pytest.raises(InputError, match="no label pictures to score against"):
        tool["main"](["folders", str(folders / "data"), str(folders / "answers")])
