"""tools/convert/compact.py: what it writes, reports and refuses."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ovdet.layers.compact import read_compact
from ovdet.results import Detections
from ovdet.vild.build import vild_tiny
from ovdet.vild.weights import CheckpointFacts, load_model, save_model

SCRIPT = Path(__file__).parents[2] / "tools" / "convert" / "compact.py"


@pytest.fixture(scope="module")
def tool():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = vild_tiny("text", embed_dim=384)
    facts = CheckpointFacts(
        **model.recipe,
        text_tower={"name": "sentence-tower", "weights": "default"},
        templates="plain",
        class_names=["red", "blue"],
        base_mask=[True, True],
        test_scale=(96, 96),
    )
    save_model(model, facts, tmp_path / "x.pth")
    return facts


def test_it_packs_compares_and_keeps_who_made_what(tool, checkpoint, tmp_path, picture, capsys):
    (tmp_path / "grounds").mkdir()
    rows = [{"file": "training/a.jpg", "author": "A"}, {"file": "evaluation/b.jpg", "author": "B"}]
    (tmp_path / "grounds/licences.json").write_text(json.dumps(rows))
    more = ["--score", "0.05", "--grounds", "grounds", "--training", "by hand", "--pictures", str(picture)]
    assert tool.main(["x.pth", "y.safetensors", *more]) == 0
    size, names, pictures = capsys.readouterr().out.splitlines()
    assert size.startswith("y.safetensors: ") and "cosine" in names and "1.0000" in names
    assert pictures.startswith("1 pictures: ")
    _, facts = load_model("y.safetensors")
    assert facts.score_threshold == 0.05 and "weights" not in facts.text_tower
    assert len(facts.text_tower["fingerprint"]) == 64
    about = read_compact(tmp_path / "y.safetensors")[1]["about"]
    assert about["photographs"] == rows[:1] and about["training"] == "by hand"


def test_changes_are_those_of_boxes_found_again(tool):
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 9]], np.float32)
    before = Detections(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 1]), ("a", "b"), (64, 64))
    moved = boxes + np.array([[0.1], [5], [0]], np.float32)
    after = Detections(moved, np.array([0.85, 0.8, 0.6]), np.array([0, 1, 0]), ("a", "b"), (64, 64))
    assert tool.score_changes(before, after) == pytest.approx([0.05])
    assert tool.score_changes(before, replace(before)) == [0, 0, 0]
    assert tool.score_changes(before, Detections.empty(("a", "b"), (64, 64))) == []


def test_mistakes_are_one_sentence(tool, checkpoint, tmp_path, capsys):
    model, _ = load_model("x.pth")
    save_model(model, replace(checkpoint, class_names=[], base_mask=[]), tmp_path / "nameless.pth")
    for arguments, sentence in (
        (["gone.pth", "y.safetensors"], "is not there"),
        (["x.pth", "y.pth"], "must end in .safetensors"),
        (["x.pth", "y.safetensors", "--score", "2"], "--score must be from 0 to 1"),
        (["x.pth", "y.safetensors", "--grounds", "nowhere"], "has no licences.json"),
        (["nameless.pth", "y.safetensors"], "names no classes"),
    ):
        assert tool.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
