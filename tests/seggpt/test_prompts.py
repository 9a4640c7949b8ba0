from dataclasses import replace

import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.seggpt.build import seggpt
from ovdet.seggpt.colours import class_colours
from ovdet.seggpt.model import Kind
from ovdet.seggpt.prompts import TunedPrompt, fingerprint
from ovdet.seggpt.weights import load_model, save_compact, save_model

SIZES = dict(
    canvas_hw=(32, 16), patch=4, width=16, depth=4, heads=2, merge_block=1, taps=(1, 3), decoder_channels=4,
    position_grid=4,
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    return seggpt(**SIZES)


@pytest.fixture
def prompt(model):
    return TunedPrompt(
        torch.randn(3, 16, 16), torch.randn(3, 16, 16), ("a", "b"), class_colours(2), Kind.INSTANCE, fingerprint(model)
    )


def test_a_prompt_comes_back_from_its_file(prompt, model, tmp_path):
    path = tmp_path / "deep" / "prompt.safetensors"
    prompt.save(path)
    assert path.stat().st_size < 10_000
    again = TunedPrompt.load(path)
    assert (again.names, again.kind, again.tuned_for) == (prompt.names, prompt.kind, prompt.tuned_for)
    assert np.array_equal(again.colours, prompt.colours)
    assert torch.equal(again.picture, prompt.picture) and torch.equal(again.painting, prompt.painting)
    again.check(model)


@pytest.mark.parametrize("content", [b"nothing", b""])
def test_what_is_no_prompt_is_refused(tmp_path, content, model):
    path = tmp_path / "prompt.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"prompt\.safetensors"):
        TunedPrompt.load(path)
    with pytest.raises(InputError, match="cannot read the prompt"):
        TunedPrompt.load(tmp_path / "nowhere.safetensors")
    save_compact(model, path)
    with pytest.raises(InputError, match="is no tuned prompt"):
        TunedPrompt.load(path)


def test_a_prompt_is_for_its_own_model(prompt, model, tmp_path):
    save_model(model, tmp_path / "model.pth")
    save_compact(model, tmp_path / "model.safetensors")
    for name in ("model.pth", "model.safetensors"):
        prompt.check(load_model(tmp_path / name)[0])
    with pytest.raises(InputError, match=r"picture is \(3, 16, 16\), but the model takes \(3, 32, 32\)"):
        prompt.check(seggpt(**{**SIZES, "canvas_hw": (64, 32)}))
    with pytest.raises(InputError, match="other weights than these"):
        prompt.check(seggpt(**SIZES))


def test_names_and_colours_must_fit(prompt):
    with pytest.raises(InputError, match="a colour for each name"):
        replace(prompt, names=("a", "b", "c"))
    with pytest.raises(InputError, match="comes twice"):
        replace(prompt, names=("a", "a"))
    with pytest.raises(InputError, match="1 of them usable"):
        replace(prompt, colours=np.asarray([[0, 0, 0], [9, 9, 9]]))
