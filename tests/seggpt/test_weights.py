import re

import pytest
import torch

from ovdet.errors import InputError
from ovdet.seggpt.build import seggpt
from ovdet.seggpt.weights import (
    THRESHOLD,
    CheckpointFacts,
    load_model,
    note_of,
    read_facts,
    save_compact,
    save_model,
    start_from_mae,
)


def same_weights(one, other):
    return all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())


def test_a_checkpoint_rebuilds_its_model(tiny_model, tmp_path):
    path = tmp_path / "model.pth"
    save_model(tiny_model, path, threshold=0.4)
    model, facts = load_model(path)
    assert model.config == tiny_model.config and not model.training
    assert same_weights(model, tiny_model)
    assert facts.threshold == 0.4
    assert list(tmp_path.iterdir()) == [path]


def test_a_compact_file_is_small_and_near(tmp_path):
    torch.manual_seed(0)
    model = seggpt(
        canvas_hw=(32, 16), patch=8, width=64, depth=2, heads=2, merge_block=0, taps=(0, 1), decoder_channels=8
    ).eval()
    path = tmp_path / "model.safetensors"
    save_compact(model, path)
    count = sum(value.numel() for value in model.parameters())
    assert path.stat().st_size < 1.6 * count
    again, facts = load_model(path)
    assert facts.threshold == pytest.approx(THRESHOLD)
    images, paintings = torch.randn(2, 1, 3, 32, 16)
    inputs = images, paintings, torch.rand(1, 4, 2) < 0.5, torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        wanted = model(*inputs)
        assert (again(*inputs) - wanted).abs().max() < 0.1 * wanted.std()
    with pytest.raises(InputError, match="safetensors"):
        save_compact(model, tmp_path / "model.pth")


def test_weights_that_do_not_fit_are_refused(tiny_model, tmp_path):
    path = tmp_path / "model.pth"
    state = tiny_model.state_dict()
    state.pop("mask_token")
    torch.save({"state_dict": state, "ovdet": note_of(tiny_model)}, path)
    with pytest.raises(InputError, match=r"does not fit.*mask_token"):
        load_model(path)
    torch.save({"ovdet": note_of(tiny_model)}, path)
    with pytest.raises(InputError, match="holds no 'state_dict'"):
        load_model(path)


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (None, "tools/convert/seggpt.py"),
        ({"room": "vild", "format": 1, "builder": "seggpt"}, "room 'vild'"),
        ({"room": "seggpt", "format": 2, "builder": "seggpt"}, "format 2"),
        ({"room": "seggpt", "format": 1}, "damaged"),
        ({"room": "seggpt", "format": 1, "builder": "os.system"}, "builder must be one of seggpt"),
        ({"room": "seggpt", "format": 1, "builder": "seggpt", "threshold": 2.0}, "threshold"),
    ],
)
def test_notes_are_checked(note, said):
    with pytest.raises(InputError, match=re.escape(said)):
        read_facts({"ovdet": note})


def test_arguments_that_no_builder_takes_are_refused():
    with pytest.raises(InputError, match="does not take"):
        CheckpointFacts("seggpt", {"depths": 3}).build()


def mae_encoder(width=24, depth=5, patch=8, positions=10):
    """Names of the released mae_pretrain_vit_*.pth files."""
    state = {
        "cls_token": torch.randn(1, 1, width),
        "pos_embed": torch.randn(1, positions, width),
        "patch_embed.proj.weight": torch.randn(width, 3, patch, patch),
        "patch_embed.proj.bias": torch.randn(width),
        "norm.weight": torch.randn(width),
        "norm.bias": torch.randn(width),
    }
    shapes = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (40, width),
        "mlp.fc2": (width, 40),
    }
    for block in range(depth):
        for name, shape in {**shapes, "norm1": (width,), "norm2": (width,)}.items():
            state[f"blocks.{block}.{name}.weight"] = torch.randn(shape)
            state[f"blocks.{block}.{name}.bias"] = torch.randn(shape[:1])
    return state


def test_training_starts_from_a_masked_auto_encoder(tiny_model):
    model = seggpt(**tiny_model.recipe["arguments"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = mae_encoder()
    said = start_from_mae(model, {"model": {**state, "decoder_embed.weight": torch.zeros(1)}})
    assert said == "65 weights of the auto-encoder taken, 2 left out"
    after = model.state_dict()
    assert torch.equal(after["blocks.4.fc2.weight"], state["blocks.4.mlp.fc2.weight"])
    assert torch.equal(after["positions"], state["pos_embed"][0])
    assert torch.equal(after["norm.weight"], state["norm.weight"])
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed.isdisjoint(name for name in after if "token" in name or "decoder" in name or "table" in name)
    assert len(changed) == 65


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks.2.attn.qkv.weight": None}, "blocks.2.attn.qkv.weight is missing"),
        ({"pos_embed": torch.zeros(1, 197, 24)}, r"pos_embed is \(197, 24\); this model needs \(10, 24\)"),
        ({"blocks.5.norm1.weight": torch.zeros(24)}, "no place in the trunk"),
    ],
)
def test_other_encoders_are_refused(tiny_model, change, said):
    model = seggpt(**tiny_model.recipe["arguments"])
    state = {name: value for name, value in {**mae_encoder(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=said):
        start_from_mae(model, state)
