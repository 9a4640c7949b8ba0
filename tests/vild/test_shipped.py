"""Compact checkpoints and the detectors that the package brings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ovdet.detector import Detector, load_predictor
from ovdet.errors import InputError
from ovdet.layers.compact import write_compact
from ovdet.vild import shipped
from ovdet.vild.build import vild_tiny
from ovdet.vild.predict import ViLDDetector
from ovdet.vild.weights import CheckpointFacts, load_model, save_compact, save_model

NAMES = ["red square", "cat"]


@pytest.fixture
def trained(tmp_path):
    """A model with random weights and what a checkpoint says of it."""
    torch.manual_seed(0)
    model = vild_tiny("text", embed_dim=384, with_mask=True).eval()
    facts = CheckpointFacts(
        **model.recipe,
        text_tower={"name": "sentence-tower"},
        templates="plain",
        class_names=NAMES,
        base_mask=[True, False],
        test_scale=(96, 96),
        score_threshold=0.0,
    )
    return model, facts


def test_a_compact_checkpoint_is_small_and_finds_nearly_the_same(trained, tmp_path, picture):
    model, facts = trained
    save_model(model, facts, tmp_path / "whole.pth")
    save_compact(model, facts, tmp_path / "compact.safetensors", {"licence": "Apache-2.0"})
    sizes = [(tmp_path / name).stat().st_size for name in ("whole.pth", "compact.safetensors")]
    assert sizes[1] < 0.32 * sizes[0]
    again, said = load_model(tmp_path / "compact.safetensors")
    assert said == replace(facts, class_names=NAMES, base_mask=[True, False], test_scale=[96, 96])
    state = again.state_dict()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            allowed = 0.005 * float(value.abs().max()) + 1e-6
            assert float((state[name] - value).abs().max()) <= allowed, name
    scores = [
        ViLDDetector.load(tmp_path / name)
        .predict([np.full((60, 80, 3), 90, np.uint8)], NAMES, ViLDDetector.load(tmp_path / name).embed(NAMES))[0]
        .scores
        for name in ("whole.pth", "compact.safetensors")
    ]
    assert len(scores[0]) > 0 and np.allclose(scores[0][:5], scores[1][:5], atol=0.05)


def test_the_suffix_decides(trained, tmp_path):
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        save_compact(*trained, tmp_path / "x.pth")
    with pytest.raises(InputError, match="is not there"):
        load_model(tmp_path / "gone.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        (tmp_path / "folder.safetensors").mkdir()
        load_model(tmp_path / "folder.safetensors")


def test_files_of_something_else_are_refused_in_one_sentence(trained, tmp_path):
    path = tmp_path / "x.safetensors"
    write_compact(path, {"weight": torch.ones(2)}, {"model": "sticker-clip"})
    with pytest.raises(InputError, match=r"x\.safetensors': its 'ovdet' entry is damaged"):
        load_model(path)
    write_compact(path, {"weight": torch.ones(2)}, {"room": "xvlm", "format": 1})
    with pytest.raises(InputError, match="room 'xvlm'"):
        load_model(path)
    write_compact(path, {"weight": torch.ones(2)}, {"builder": "vild_tiny"})
    with pytest.raises(InputError, match="does not fit the model"):
        load_model(path)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="damaged or cut short"):
        load_model(path)


@pytest.fixture
def stickers(trained, tmp_path, monkeypatch):
    """Stand these weights in for the shipped ones."""
    save_compact(*trained, tmp_path / "shipped.safetensors")
    one = replace(shipped.SHIPPED["stickers"], path=tmp_path / "shipped.safetensors")
    monkeypatch.setitem(shipped.SHIPPED, "stickers", one)
    return one


def test_the_front_desk_knows_it_by_name(stickers, picture):
    assert stickers.is_here and stickers.size_mb >= 1
    detector = Detector("stickers", device="cpu")
    result = detector(picture, NAMES)
    assert detector.name == result.model == "stickers" and result.size_hw == (60, 80)


def test_a_name_nearly_right_is_suggested():
    with pytest.raises(InputError, match="did you mean 'stickers'"):
        load_predictor("sticker", "cpu")
    with pytest.raises(InputError, match="did you mean 'imagenet-words'"):
        load_predictor("imagenet-word", "cpu")


def test_weights_that_are_missing_or_damaged_are_told(stickers, monkeypatch, capsys):
    from ovdet.doctor import _shipped

    check = next(_shipped())
    assert check.state == "ok" and "not photographs" in check.detail
    stickers.path.write_bytes(stickers.path.read_bytes()[:-5])
    check = next(_shipped())
    assert check.state == "note" and "damaged or cut short" in check.detail
    stickers.path.unlink()
    with pytest.raises(InputError, match="'stickers' are missing from this installation"):
        load_predictor("stickers", "cpu")
    assert not stickers.is_here and stickers.size_mb == 0


def test_the_table_says_what_it_is_for(stickers):
    from ovdet.cli.models import all_rows

    row = all_rows()[1]
    assert (row.name, row.family, row.is_local) == ("stickers", "detector", True)
    assert row.note == "for drawings, stickers, clip art; not photographs"
