import json
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.weights import load_model

TOOL = Path(__file__).parents[2] / "tools" / "convert" / "xvlm.py"
VISION = dict(vision_width=32, image_res=64, window_size=2, embed_dim=8, depths=[2, 2, 2], num_heads=[1, 2, 2])
TEXT = dict(model_type="bert", hidden_act="gelu", vocab_size=40, hidden_size=32, num_attention_heads=4)
TEXT |= dict(intermediate_size=48, max_position_embeddings=20, type_vocab_size=2, fusion_layer=2, num_hidden_layers=4)
TEXT |= dict(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, layer_norm_eps=1e-12)


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(TOOL))["main"]


@pytest.fixture
def files(tmp_path, official_state, vocabulary):
    """A function: task -> arguments of the command."""
    (tmp_path / "vision.json").write_text(json.dumps(VISION))
    (tmp_path / "text.json").write_text(json.dumps(TEXT))
    words = [*vocabulary, *(f"word{k}" for k in range(40 - len(vocabulary)))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")

    def make(task, **changes):
        torch.save({"model": official_state(task), "config": {"image_res": 64}}, tmp_path / "official.th")
        options = {"vision-config": "vision.json", "text-config": "text.json", "out": f"{task}.pth", **changes}
        flags = [str(part) for name, value in options.items() for part in (f"--{name}", tmp_path / str(value))]
        return [str(tmp_path / "official.th"), *flags]

    return make


@pytest.mark.parametrize("task", ["pretrain", "retrieval", "box", "vqa", "nlvr", "nlvr-pretrain", "caption"])
def test_every_task_goes_through_the_command(main, files, tmp_path, capsys, task):
    assert main(files(task)) == 0
    assert f"weights of task {task!r} converted" in capsys.readouterr().out
    model, facts = load_model(tmp_path / f"{task}.pth")
    assert facts.task == task and not model.training
    if task in ("vqa", "nlvr", "nlvr-pretrain", "caption"):
        with pytest.raises(InputError, match=f"task {task!r}, which grounds no sentence; it is for `tools/t"):
            XVLMGrounder.load(tmp_path / f"{task}.pth")
    with pytest.raises(InputError, match=f"the authors' own file of the task {task!r}, for `.*tools/convert/xvlm.py"):
        load_model(tmp_path / "official.th")


def test_a_converted_file_grounds(main, files, tmp_path):
    assert main(files("pretrain", vocabulary="vocab.txt")) == 0
    grounder = XVLMGrounder.load(tmp_path / "pretrain.pth")
    answer = grounder.predict([np.zeros((20, 30, 3), np.uint8)], ["the red square"])[0][0]
    assert len(answer) == 1 and 0 < answer.score < 1 and answer.box_xyxy[2] <= 30


def test_the_vocabulary_may_come_later(main, files, tmp_path):
    assert main(files("box")) == 0
    with pytest.raises(InputError, match="no vocabulary"):
        XVLMGrounder.load(tmp_path / "box.pth")
    grounder = XVLMGrounder.load(tmp_path / "box.pth", vocabulary=tmp_path / "vocab.txt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = grounder.predict([np.zeros((20, 30, 3), np.uint8)], ["the red square"])[0][0]
    assert len(answer) == 1 and answer.score is None and answer.confidence is None


def test_sentences_are_cut_to_the_positions_there_are(main, files, tmp_path, caplog):
    assert main(files("box", vocabulary="vocab.txt")) == 0
    grounder = XVLMGrounder.load(tmp_path / "box.pth")
    answers = grounder.predict([np.zeros((20, 30, 3), np.uint8)], ["the dog " * 15])[0]
    assert len(answers) == 1 and "what comes after '... the dog the' is left out" in caplog.text


@pytest.mark.parametrize("task", ["nlvr", "nlvr-pretrain"])
@pytest.mark.parametrize("part", ["key.weight", "value.bias"])
def test_keys_that_the_layers_of_a_turn_do_not_share_are_an_error(main, files, tmp_path, capsys, task, part):
    arguments = files(task)
    checkpoint = torch.load(arguments[0])
    key = f"text_encoder.encoder.layer.4.crossattention.self.{part}"
    checkpoint["model"][key] = checkpoint["model"][key] + 5
    torch.save(checkpoint, arguments[0])
    assert main(arguments) == 2
    other = key.replace("layer.4", "layer.5")
    assert f"error: {key} differs from {other}, to which X-VLM ties it" in capsys.readouterr().err
    assert not (tmp_path / f"{task}.pth").exists()


def test_positions_are_resized_on_request(main, files, tmp_path):
    assert main([*files("box"), "--image-size", "128", "--window", "4"]) == 0
    model, facts = load_model(tmp_path / "box.pth")
    assert facts.arguments["image"]["image_size"] == model.image_encoder.image_size == 128


@pytest.mark.parametrize("kind", ["missing", "other sizes", "short vocabulary", "no vision", "damaged json", "foreign"])
def test_mistakes_are_one_sentence_and_code_2(main, files, tmp_path, capsys, kind):
    arguments = files("box", **({"vocabulary": "short.txt"} if kind == "short vocabulary" else {}))
    (tmp_path / "short.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    if kind == "missing":
        arguments[0] = str(tmp_path / "none.th")
    elif kind == "other sizes":
        (tmp_path / "text.json").write_text(json.dumps({**TEXT, "hidden_size": 16}))
    elif kind == "no vision":
        arguments = arguments[:1] + arguments[3:]
    elif kind == "damaged json":
        (tmp_path / "vision.json").write_text("{")
    elif kind == "foreign":
        torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "official.th")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "box.pth").exists()
