import pytest
import torch
from safetensors.torch import save_file

from ovdet.errors import InputError
from ovdet.layers.compact import write_compact
from ovdet.layers.trunk import CompactTrunk
from ovdet.vlm.trunks import trunk_weights
from ovdet.vlm.zoo import create_vlm


def fits(weights):
    CompactTrunk().load_state_dict(weights, strict=True)


def test_of_the_zoo():
    weights = trunk_weights("zoo:sticker-clip")
    fits(weights)
    own = create_vlm("sticker-clip").trunk.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in weights.items())


def test_of_what_is_shipped():
    fits(trunk_weights("package:vild/stickers.safetensors"))


def test_of_files(tmp_path):
    torch.manual_seed(0)
    state = CompactTrunk().state_dict()
    content = {f"task.stem.trunk.{name}": value for name, value in state.items()} | {"other": torch.zeros(2)}
    torch.save({"state_dict": content}, tmp_path / "a.pth")
    found = trunk_weights(str(tmp_path / "a.pth"))
    assert found.keys() == state.keys() and all(torch.equal(value, state[name]) for name, value in found.items())
    write_compact(tmp_path / "a.safetensors", content, {}, smallest=10**9)
    assert torch.equal(trunk_weights(str(tmp_path / "a.safetensors"))["stages.0.0.weight"].half(),
                       state["stages.0.0.weight"].half())  # fmt: skip


def test_what_has_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="no compact trunk; sticker-clip has one"):
        trunk_weights("zoo:imagenet-words")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "none.pth")
    with pytest.raises(InputError, match="holds 0 compact trunks"):
        trunk_weights(str(tmp_path / "none.pth"))
    state = {f"trunk.{name}": value for name, value in CompactTrunk().state_dict().items()}
    state["trunk.stages.1.0.0.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"stages\.1\.0\.0\.weight is missing or of another size"):
        trunk_weights(str(tmp_path / "odd.pth"))
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="no file of compact weights"):
        trunk_weights(str(tmp_path / "foreign.safetensors"))
