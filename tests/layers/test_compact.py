"""Compact weight files: what rounding costs, and what is refused."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from ovdet.errors import InputError
from ovdet.layers.compact import is_compact, pack_int8, read_compact, unpack_int8, write_compact
from ovdet.layers.trunk import CompactTrunk


@given(scale=st.floats(1e-5, 1e4), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_no_number_moves_by_more_than_half_a_step_of_its_channel(scale, seed):
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(seed)) * scale
    weight[2] = 0
    weight[3] *= 100
    packed = pack_int8({"w": weight}, smallest=1)
    assert packed["w.int8"].dtype == torch.int8 and packed["w.scale"].dtype == torch.float16
    back = unpack_int8(packed)["w"]
    step = weight.flatten(1).abs().amax(1) / 127
    allowed = 0.5 * step + weight.flatten(1).abs().amax(1) * 2**-11 + 127 * 2**-25  # fp16 rounds the step itself
    assert ((back - weight).flatten(1).abs().amax(1) <= allowed * 1.01).all()
    assert (back[2] == 0).all()


def test_what_is_kept_as_it_is():
    state = {
        "bn.running_var": torch.tensor([1e-7, 3e5]),
        "bn.num_batches_tracked": torch.tensor(12345678901),
        "mask": torch.tensor([True, False]),
        "bias": torch.tensor([0.5, -2.25]),
        "huge": torch.tensor([1e6]),
        "small.weight": torch.full((2, 3), 0.125),
        "half": torch.ones(4, dtype=torch.bfloat16),
    }
    packed = pack_int8(state)
    assert packed["bias"].dtype == packed["small.weight"].dtype == torch.float16
    assert packed["bn.running_var"].dtype == packed["huge"].dtype == torch.float32
    back = unpack_int8(packed)
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(back[name], value.float() if value.is_floating_point() else value)


def test_a_network_survives_in_a_quarter_of_its_size(tmp_path):
    torch.manual_seed(0)
    trunk = CompactTrunk((8, 16, 32, 64, 64)).eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    path = tmp_path / "new/trunk.safetensors"
    write_compact(path, trunk.state_dict(), {"what": "a trunk", "numbers": [1, 2.5]})
    state, facts = read_compact(path)
    assert is_compact(path) and not is_compact(tmp_path) and not is_compact(tmp_path / "gone")
    assert facts == {"what": "a trunk", "numbers": [1, 2.5]}
    again = CompactTrunk((8, 16, 32, 64, 64)).eval()
    again.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before, after = trunk(images)[2].flatten(), again(images)[2].flatten()
    assert torch.cosine_similarity(before, after, dim=0) > 0.999
    assert not torch.equal(before, after)
    assert path.stat().st_size < 0.3 * sum(4 * value.numel() for value in trunk.state_dict().values())


def test_half_precision_on_request(tmp_path):
    state = {"weight": torch.randn(100, 100)}
    write_compact(tmp_path / "x.safetensors", state, {}, smallest=10**9)
    assert load_file(tmp_path / "x.safetensors")["weight"].dtype == torch.float16
    assert torch.equal(read_compact(tmp_path / "x.safetensors")[0]["weight"], state["weight"].half().float())


def test_weights_that_diverged_are_not_written(tmp_path):
    with pytest.raises(InputError, match=r"'a\.weight' holds numbers that are not finite"):
        write_compact(tmp_path / "x.safetensors", {"a.weight": torch.tensor([1.0, torch.nan])}, {})
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="cannot read"):
        read_compact(path)
    write_compact(path, {"weight": torch.randn(80, 80)}, {"a": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="damaged or cut short"):
        read_compact(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="digest differs"):
        read_compact(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(InputError, match="damaged or cut short"):
        read_compact(path)
    assert not is_compact(path)
    save_file({"weight": torch.ones(2)}, path)
    assert not is_compact(path)
    with pytest.raises(InputError, match="no file of compact weights"):
        read_compact(path)


def test_codes_without_scales_are_refused():
    packed = pack_int8({"w": torch.randn(80, 80)})
    with pytest.raises(InputError, match="'w' has no scales"):
        unpack_int8({"w.int8": packed["w.int8"]})
    with pytest.raises(InputError, match="'w' has no scales"):
        unpack_int8({**packed, "w.scale": packed["w.scale"][:-1]})


def test_the_facts_are_json_in_the_header(tmp_path):
    from safetensors import safe_open

    write_compact(tmp_path / "x.safetensors", {"w": torch.ones(1)}, {"licence": "Apache-2.0"})
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["facts"]) == {"licence": "Apache-2.0"}


def test_a_file_may_be_read_by_all_who_may_read_its_neighbours(tmp_path):
    neighbour, path = tmp_path / "neighbour", tmp_path / "weights.safetensors"
    neighbour.touch()
    write_compact(path, {"a": torch.zeros(3)}, {})
    assert path.stat().st_mode == neighbour.stat().st_mode
