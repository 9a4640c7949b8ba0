import copy
import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ovdet.seggpt.layouts import config_to_transformers, to_published
from ovdet.seggpt.prompts import TunedPrompt
from ovdet.seggpt.training import PromptTuning
from ovdet.seggpt.weights import load_model, save_model

TOOL = Path(__file__).parents[2] / "tools" / "convert" / "seggpt.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(TOOL))["main"]


@pytest.fixture
def authors_file(tiny_model, tmp_path):
    path = tmp_path / "authors.pth"
    torch.save({"model": to_published(tiny_model.state_dict(), "official")}, path)
    return path


def test_the_authors_file_there_and_back(main, tiny_model, authors_file, tmp_path, capsys):
    ours, back = tmp_path / "ours.pth", tmp_path / "back.pth"
    sizes = ["--merge-block", "1", "--taps", "1", "3", "4"]
    assert main([str(authors_file), str(ours), *sizes]) == 0
    assert "88 weights of the official layout" in capsys.readouterr().out  # 18 and 14 a block
    model, _ = load_model(ours)
    assert model.config.taps == (1, 3, 4) and model.config.merge_block == 1
    assert main([str(ours), str(back), "--to", "official"]) == 0
    first, last = (torch.load(path)["model"] for path in (authors_file, back))
    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) for name in first)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_hugging_face_folder_there_and_back(main, tiny_model, tmp_path, weights):
    folder, ours, back = tmp_path / "published", tmp_path / "ours.pth", tmp_path / "back"
    folder.mkdir()
    published = to_published(tiny_model.state_dict(), "transformers")
    (save_file if weights.endswith("safetensors") else torch.save)(published, folder / weights)
    (folder / "config.json").write_text(json.dumps(config_to_transformers(tiny_model.config)))
    assert main([str(folder), str(ours)]) == 0
    model, _ = load_model(ours)
    assert model.config == tiny_model.config
    assert main([str(ours), str(back), "--to", "transformers"]) == 0
    assert json.loads((back / "config.json").read_text())["merge_index"] == 1
    assert json.loads((back / "preprocessor_config.json").read_text())["size"] == {"height": 32, "width": 32}
    again = load_file(back / "model.safetensors")
    assert again.keys() == published.keys()
    assert all(torch.equal(again[name], published[name]) for name in published)


def test_transformers_loads_what_is_exported(main, tiny_model, reference_script, tmp_path):
    transformers = pytest.importorskip("transformers")
    save_model(tiny_model, tmp_path / "ours.pth")
    assert main([str(tmp_path / "ours.pth"), str(tmp_path / "out"), "--to", "transformers"]) == 0
    loaded, report = transformers.SegGptForImageSegmentation.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert transformers.SegGptImageProcessor.from_pretrained(tmp_path / "out").size["height"] == 32
    assert torch.equal(loaded.model.embeddings.mask_token.flatten(), tiny_model.mask_token)


def test_painter_starts_a_training(main, tiny_model, tmp_path, capsys):
    state = to_published(tiny_model.state_dict(), "official")
    painter = {name: value for name, value in state.items() if not name.startswith("type_token")}
    torch.save({"model": painter}, tmp_path / "painter.pth")
    options = ["--merge-block", "1", "--taps", "1", "3", "4"]
    assert main([str(tmp_path / "painter.pth"), str(tmp_path / "out.pth"), *options]) == 2
    assert "--painter" in capsys.readouterr().err
    assert main([str(tmp_path / "painter.pth"), str(tmp_path / "out.pth"), *options, "--painter"]) == 0
    assert "train before use" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["missing", "foreign", "empty folder", "no weights", "sizes", "other model"])
def test_mistakes_are_one_sentence_and_code_2(main, authors_file, tmp_path, capsys, kind):
    source, folder, extra = tmp_path / "none.pth", tmp_path / "folder", []
    folder.mkdir()
    if kind == "foreign":
        source = tmp_path / "foreign.pth"
        torch.save({"model": {"conv.weight": torch.zeros(1)}}, source)
    elif kind == "sizes":
        source, extra = authors_file, ["--merge-block", "9"]
    elif kind != "missing":
        source = folder
        if kind != "empty folder":
            (folder / "config.json").write_text('{"model_type": "seggpt"}' if kind == "no weights" else "[1]")
    assert main([str(source), str(tmp_path / "out.pth"), *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()


def test_a_training_s_checkpoint_becomes_a_model(main, tiny_model, tmp_path, capsys):
    config = tmp_path / "own.py"
    sizes = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(tiny_model.config).items()}
    config.write_text(
        "from ovdet.engine.contrastive import TowerTraining\n"
        "from ovdet.seggpt.build import seggpt\nfrom ovdet.seggpt.training import seggpt_training\n"
        f"task = dict(type=seggpt_training, size=seggpt, threshold=0.4, trunk='long gone', **{sizes!r})\n"
        "model = dict(type=TowerTraining, task=task)\n"
    )
    state = {f"task.model.{name}": value for name, value in tiny_model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "iter_9.pth")
    assert main([str(tmp_path / "iter_9.pth"), str(tmp_path / "own.pth"), "--trained-by", str(config)]) == 0
    assert "threshold 0.40" in capsys.readouterr().out
    model, facts = load_model(tmp_path / "own.pth")
    assert facts.threshold == 0.4
    assert all(torch.equal(value, tiny_model.state_dict()[name]) for name, value in model.state_dict().items())
    doubled = {name: 2 * value for name, value in state.items()}
    torch.save({"state_dict": doubled}, tmp_path / "iter_8.pth")
    mean = ["--mean-with", str(tmp_path / "iter_8.pth")]
    assert main([str(tmp_path / "iter_9.pth"), str(tmp_path / "own.pth"), *mean, "--trained-by", str(config)]) == 0
    assert torch.allclose(load_model(tmp_path / "own.pth")[0].norm.weight, 1.5 * tiny_model.norm.weight)
    assert main([str(tmp_path / "iter_9.pth"), str(tmp_path / "own.pth"), *mean]) == 2
    assert "give --trained-by too" in capsys.readouterr().err
    tuning = PromptTuning(copy.deepcopy(tiny_model), names=("a", "b"))
    torch.save(
        {"state_dict": {f"task.{key}": value for key, value in tuning.state_dict().items()}}, tmp_path / "tuned.pth"
    )
    assert main([str(tmp_path / "tuned.pth"), str(tmp_path / "prompt.safetensors"), "--trained-by", str(config)]) == 0
    assert "a prompt of 2 classes, a, b" in capsys.readouterr().out
    assert TunedPrompt.load(tmp_path / "prompt.safetensors").names == ("a", "b")
    assert main([str(tmp_path / "tuned.pth"), str(tmp_path / "p.pth"), *mean, "--trained-by", str(config)]) == 2
    assert "holds a tuned prompt" in capsys.readouterr().err
    config.write_text("model = dict(type='torch.nn.Identity')\n")
    assert main([str(tmp_path / "iter_9.pth"), str(tmp_path / "own.pth"), "--trained-by", str(config)]) == 2
    assert "trains no SegGPT" in capsys.readouterr().err
