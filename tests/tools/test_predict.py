"""tools/predict.py: the config's model with the checkpoint's weights, behind the command line of `ovdet detect`."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovdet.errors import InputError
from ovdet.vild.build import vild_tiny
from ovdet.vild.weights import CheckpointFacts, load_model, save_compact, save_model

ROOT = Path(__file__).parents[2]
CONFIG = """
from ovdet.vild.build import vild_tiny
from ovdet.vlm.zoo import create_vlm

model = dict(type=vild_tiny, variant="text", embed_dim={embed_dim}, with_mask=True)
text_tower = dict(type=create_vlm, name="sentence-tower")
"""


@pytest.fixture
def tool():
    path = ROOT / "tools/predict.py"
    if not path.exists():
        pytest.skip("the tools are not beside the tests")
    spec = importlib.util.spec_from_file_location("predict_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained(tmp_path):
    """A config and the checkpoint of a model that was built by it, with random weights."""
    (tmp_path / "config.py").write_text(CONFIG.format(embed_dim=384))
    torch.manual_seed(0)
    model = vild_tiny(variant="text", embed_dim=384, with_mask=True)
    facts = CheckpointFacts(
        **model.recipe, text_tower={"name": "sentence-tower"}, templates="plain", test_scale=(160, 160)
    )
    save_model(model, facts, tmp_path / "model.pth")
    return tmp_path


def test_it_gives_what_the_checkpoint_alone_gives(tool, trained, capsys, monkeypatch, picture):
    from ovdet.cli import main

    monkeypatch.chdir(trained)
    options = ["picture.png", "--classes", "red square, blue square", "--score", "0", "--max-dets", "5", "--json"]
    options += ["--no-save", "--device", "cpu"]
    assert tool.main(["config.py", "model.pth", *options]) == 0
    by_config = json.loads(capsys.readouterr().out)
    assert main(["detect", "--model", "model.pth", *options]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert by_config["size_hw"] == [60, 80] and len(by_config["detections"]) == len(alone["detections"]) > 0
    for ours, theirs in zip(by_config["detections"], alone["detections"], strict=True):
        assert ours["label"] == theirs["label"]
        np.testing.assert_allclose(ours["box_xyxy"], theirs["box_xyxy"], atol=1e-3)


def test_it_takes_a_compact_checkpoint(tool, trained, capsys, monkeypatch, picture):
    monkeypatch.chdir(trained)
    save_compact(*load_model("model.pth"), "model.safetensors")
    found = []
    for checkpoint in ("model.pth", "model.safetensors"):
        options = ["--classes", "red", "--score", "0", "--max-dets", "3", "--json", "--no-save", "--device", "cpu"]
        assert tool.main(["config.py", checkpoint, str(picture), *options]) == 0
        found.append([one["score"] for one in json.loads(capsys.readouterr().out)["detections"]])
    assert len(found[0]) == 3 and np.allclose(*found, atol=0.02)


def test_weights_of_another_config_are_refused(tool, trained, monkeypatch, picture):
    monkeypatch.chdir(trained)
    Path("other.py").write_text(CONFIG.format(embed_dim=64))
    with pytest.raises(InputError, match=r"model\.pth"):
        tool.main(["other.py", "model.pth", str(picture), "--classes", "red"])


def test_help_and_wrong_options(tool, capsys, trained):
    assert tool.main(["--help"]) == 0 and "tools/predict.py CONFIG CHECKPOINT photo.jpg" in capsys.readouterr().err
    assert tool.main([]) == 2
    with pytest.raises(InputError, match="give --classes"):
        tool.main(["gone.py", "gone.pth", "x.png"])
    with pytest.raises(SystemExit) as stop:
        tool.main(["gone.py", "gone.pth", "x.png", "--clases", "red"])
    assert stop.value.code == 2 and "--clases" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(trained / "x.png")
    with pytest.raises(InputError, match=r"no config gone\.py"):
        tool.main(["gone.py", "gone.pth", str(trained / "x.png"), "--classes", "red"])
