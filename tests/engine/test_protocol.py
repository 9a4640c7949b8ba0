import hashlib
import json
from types import SimpleNamespace

import pytest
import torch

from ovdet.engine.protocol import file_digest, module_digest, write_result
from ovdet.engine.test import task_stamp
from ovdet.errors import InputError


def test_a_result_says_how_it_was_measured(tmp_path):
    path = tmp_path / "new" / "out.json"
    write_result(path, {"a": 1.5}, {"per_class": [{"name": "x"}], "protocol": {"max_dets": 300}}, {"command": "python"})
    content = json.loads(path.read_text())
    assert content["metrics"] == {"a": 1.5} and content["per_class"] == [{"name": "x"}]
    assert content["protocol"]["max_dets"] == 300 and content["protocol"]["command"] == "python"
    assert content["protocol"]["evaluator"].startswith("pycocotools 2")
    assert [one.name for one in path.parent.iterdir()] == ["out.json"]


def test_digest_is_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


def test_digest_of_a_model_is_of_its_weights_and_names():
    torch.manual_seed(0)
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    digests = {module_digest(model) for model in (one, other, torch.nn.Sequential(one))}
    assert len(digests) == 3
    other.load_state_dict(one.state_dict())
    assert module_digest(one) == module_digest(other) in digests


def test_an_impossible_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*out\.json: a file stands"):
        write_result(tmp_path / "file" / "out.json", {}, {}, {})


def test_what_decides_a_score_is_said(tmp_path):
    """Numbers and the prompt of the task, and which answers it ranks; not where its files lie."""
    (tmp_path / "answers.json").write_text('["yes"]')
    task = dict(type=dict, task="vqa", k=128, heat=True, start="x.pth", answers=str(tmp_path / "answers.json"))
    digest = hashlib.sha256(b'["yes"]').hexdigest()
    assert task_stamp(task) == {"task": {"task": "vqa", "k": 128, "heat": True, "answers_sha256": digest}}
    assert task_stamp(dict(prompt="a picture of ", beams=3)) == {"task": {"prompt": "a picture of ", "beams": 3}}
    built = SimpleNamespace(prompt="", beams=3, shortest=5, training=False)
    expected = {"beams": 2, "prompt": "a", "shortest": 5}
    assert task_stamp(dict(prompt="a", beams=2), built) == {"task": expected}, "a default decides as much"
    assert task_stamp(None) == task_stamp(dict(type=dict)) == {}
