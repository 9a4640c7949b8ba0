import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet.errors import InputError

SCRIPT = Path(__file__).parents[3] / "tools" / "evaluate" / "scenes.py"


@pytest.fixture
def tool(colour_desk, monkeypatch):
    names = runpy.run_path(str(SCRIPT))
    monkeypatch.setitem(names["main"].__globals__, "load_segmenter", lambda model, device: colour_desk)
    return names


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"weights")
    return str(path)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def ade(tmp_path, paint):
    """Walls are red and skies blue; of trees, which are grey like all else, there is no example."""
    root = tmp_path / "ADEChallengeData2016"
    for part, name, blobs in (
        ("training", "wall", [("red", (0, 0, 20, 32), 1)]),
        ("training", "sky", [("blue", (12, 0, 32, 32), 2)]),
        ("validation", "all", [("red", (0, 0, 8, 32), 1), ("blue", (8, 0, 24, 32), 2)]),
    ):
        labels = np.full((32, 32), 3 if part == "validation" else 0, np.uint8)
        for _, (x1, y1, x2, y2), label in blobs:
            labels[y1:y2, x1:x2] = label
        labels[: 4 * (part == "validation")] = 0  # not judged
        save(root / "images" / part / f"{name}.png", paint((32, 32), *((color, box) for color, box, _ in blobs)))
        save(root / "annotations" / part / f"{name}.png", labels)
    (root / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n2\tsky\n3\ttree\n")
    return root


def test_label_maps_have_a_known_score(tool, model, ade, tmp_path):
    """A quarter is wall and is found; a quarter is tree, of which nobody is sure: the first class gets it."""
    out = tmp_path / "out.json"
    metrics = tool["main"](["ade20k", "--root", str(ade), "--model", model, "--out", str(out)])
    assert metrics == {"mIoU": pytest.approx(50), "mAcc": pytest.approx(200 / 3), "aAcc": pytest.approx(75)}
    result = json.loads(out.read_text())
    assert [(row["name"], row["IoU"]) for row in result["per_class"]] == [("wall", 0.5), ("sky", 1.0), ("tree", 0.0)]
    protocol = result["protocol"]
    assert (protocol["data"], protocol["pictures"], protocol["seed"], protocol["shots"]) == ("ade20k", 1, 1000, 1)
    assert (protocol["split"], protocol["examples_split"]) == ("validation", "training")
    assert protocol["classes_without_example"] == 1 and protocol["examples_too_small"] == 0
    assert protocol["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert protocol["command"].startswith("python tools/evaluate/scenes.py ade20k") and "mIoU" in protocol["metric"]


def test_a_tuned_prompt_paints_all_classes_in_one_pass(tool, model, ade, make_prompt, paint, tmp_path):
    labels = np.zeros((32, 32), np.int32)
    labels[:, :8], labels[:, 8:24], labels[:, 24:] = 2, 1, 3
    path = make_prompt(
        paint((32, 32), ("red", (0, 0, 8, 32)), ("blue", (8, 0, 24, 32))), labels, ["sky", "wall", "tree"]
    )
    out = tmp_path / "out.json"
    arguments = ["ade20k", "--root", str(ade), "--model", model, "--prompt", str(path)]
    assert tool["main"]([*arguments, "--out", str(out)])["mIoU"] == pytest.approx(100)
    protocol = json.loads(out.read_text())["protocol"]
    assert protocol["prompt_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and "seed" not in protocol
    assert protocol["split"] == "validation" and protocol["examples_split"] is None
    make_prompt(paint((32, 32), ("red", (0, 0, 8, 32))), np.eye(32, dtype=np.int32), ["sea"])
    with pytest.raises(InputError, match="paints 'sea', which is no class of the data"):
        tool["main"](arguments)


@pytest.fixture
def panoptic(tmp_path, paint):
    """Cherries are red, water is blue; in the second picture two cherries touch."""
    root, notes = tmp_path / "coco", tmp_path / "coco" / "annotations"
    one, other = (0, 0, 10, 10), (20, 0, 30, 10)
    parts = {"train2017": [(one, other)], "val2017": [(one, other), ((0, 0, 10, 10), (10, 0, 20, 10))]}
    categories = [dict(id=3, name="cherry", isthing=1), dict(id=9, name="water", isthing=0)]
    for part, pictures in parts.items():
        content = dict(images=[], annotations=[], categories=categories)
        for number, cherries in enumerate(pictures):
            water = [(0, 16, 32, 32)] if number == 0 else []
            ids = np.zeros((32, 32, 3), np.uint8)
            for place, (x1, y1, x2, y2) in enumerate((*cherries, *water), start=1):
                ids[y1:y2, x1:x2, 0] = place
            blobs = [("red", box) for box in cherries] + [("blue", box) for box in water]
            save(root / part / f"{number}.png", paint((32, 32), *blobs))
            save(notes / f"panoptic_{part}" / f"{number}.png", ids)
            classes = (3, 3, 9)[: len(blobs)]
            info = [dict(id=place, category_id=each) for place, each in enumerate(classes, start=1)]
            content["images"].append(dict(id=number, file_name=f"{number}.png", height=32, width=32))
            content["annotations"].append(dict(image_id=number, file_name=f"{number}.png", segments_info=info))
        (notes / f"panoptic_{part}.json").write_text(json.dumps(content))
    return root


def test_panoptic_segments_have_a_known_score(tool, model, panoptic, tmp_path):
    """Two cherries found of four, and one segment that is neither of the two that touch; the water is found."""
    out = tmp_path / "out.json"
    arguments = ["coco-panoptic", "--root", str(panoptic), "--model", model, "--out", str(out)]
    metrics = tool["main"](arguments)
    assert metrics["PQ_things"] == pytest.approx(100 * 2 / (2 + 0.5 + 1)) and metrics["PQ_stuff"] == pytest.approx(100)
    assert metrics["SQ"] == pytest.approx(100)
    result = json.loads(out.read_text())
    assert [row["name"] for row in result["per_class"]] == ["cherry", "water"]
    assert result["protocol"]["threshold"] == pytest.approx(128 / 255, abs=0.01)
    assert "connected parts" in result["protocol"]["decoding"]
    assert tool["main"]([*arguments, "--count", "1"])["PQ"] == pytest.approx(100)


def test_mistakes_are_told(tool, model, panoptic, ade):
    with pytest.raises(InputError, match="shots and count must be at least 1, got 0 and None"):
        tool["main"](["ade20k", "--root", str(ade), "--model", model, "--shots", "0"])
    path = panoptic / "annotations" / "panoptic_val2017.json"
    path.write_text(path.read_text().replace("water", "sea"))
    with pytest.raises(InputError, match="other categories"):
        tool["main"](["coco-panoptic", "--root", str(panoptic), "--model", model])
