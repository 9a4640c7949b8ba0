"""`ovdet.compat.checkpoints`: what is read, what is refused, and that nothing of it runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR, OneCycleParamScheduler

from ovdet import compat
from ovdet.compat import checkpoints
from ovdet.errors import InputError


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def saved(content, path):
    torch.save(content, path)
    return path


def test_reads_weights_and_the_training_state_of_mmengine(tmp_path):
    history = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 1])
    content = {
        "state_dict": OrderedDict(weight=torch.arange(6.0).view(2, 3)),
        "message_hub": {"log_scalars": {"loss": history}, "runtime_info": {"best": np.float64(0.5)}},
        "numbers": [np.array([[1, 2], [3, 4]], dtype=np.int16), np.bool_(True), np.float32(3)],
        "meta": {"epoch": 3, "classes": ("cat", "dog")},
    }
    found = compat.load_checkpoint_file(saved(content, tmp_path / "epoch_3.pth"))
    torch.testing.assert_close(found["state_dict"]["weight"], content["state_dict"]["weight"], rtol=0, atol=0)
    assert found["message_hub"]["log_scalars"]["loss"].mean() == pytest.approx(7 / 3)
    assert found["message_hub"]["runtime_info"]["best"] == 0.5
    np.testing.assert_array_equal(found["numbers"][0], content["numbers"][0])
    assert found["numbers"][0].dtype == np.int16
    assert found["meta"] == content["meta"]


@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_reads_the_schedules_of_mmengine(tmp_path, anneal):
    def rates(resumed_after):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
        make = partial(OneCycleLR, optimizer, eta_max=1.0, total_steps=10, anneal_strategy=anneal)
        schedule, seen = make(), []
        for step in range(8):
            if step == resumed_after:
                path = saved({"param_schedulers": [schedule.state_dict()]}, tmp_path / "one_cycle.pth")
                schedule = make()
                schedule.load_state_dict(compat.load_checkpoint_file(path)["param_schedulers"][0])
            optimizer.step()
            schedule.step()
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    assert rates(resumed_after=4) == rates(resumed_after=None)
    assert len(set(rates(None))) == 8


def test_reads_arrays_written_under_the_names_of_numpy_1(tmp_path):
    path = saved({"array": np.array([1.5, 2.5])}, tmp_path / "new.pth")
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            target.writestr(item, source.read(item).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    np.testing.assert_array_equal(compat.load_checkpoint_file(old)["array"], [1.5, 2.5])


def test_reads_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert compat.load_checkpoint_file(str(tmp_path / "model.safetensors"))["weight"].tolist() == [1, 1]


def test_the_allowance_ends_with_the_load(tmp_path):
    path = saved({"history": HistoryBuffer([1.0], [1])}, tmp_path / "a.pth")
    before = set(torch.serialization.get_safe_globals())
    compat.load_checkpoint_file(path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("form", ["torch zip", "torch legacy", "bare pickle 2", "bare pickle 4", "beside weights"])
@pytest.mark.parametrize("how", ["os.mkdir", "eval", "getattr"])
def test_refuses_a_hostile_file_in_one_sentence_and_runs_nothing(tmp_path, form, how):
    loot, path = tmp_path / "loot", tmp_path / "hostile.pth"
    hostile = {
        "os.mkdir": Hostile(os.mkdir, str(loot)),
        "eval": Hostile(eval, f"__import__('os').mkdir({str(loot)!r})"),
        "getattr": Hostile(getattr, Hostile(__import__, "os"), "mkdir"),
    }[how]
    if form.startswith("torch") or form == "beside weights":
        content = {"state_dict": {"w": torch.ones(1)}, "extra": hostile} if form == "beside weights" else hostile
        torch.save(content, path, _use_new_zipfile_serialization=form != "torch legacy")
    else:
        path.write_bytes(pickle.dumps(hostile, protocol=int(form[-1])))
    with pytest.raises(InputError) as caught:
        compat.load_checkpoint_file(path)
    assert "hostile.pth" in str(caught.value) and "\n" not in str(caught.value)
    assert not loot.exists()
    if form in ("torch zip", "beside weights"):
        assert "refused and nothing in it was run" in str(caught.value)
        pickle.loads(pickle.dumps(hostile))  # the file would have done it
        assert loot.exists() or how == "getattr"


@pytest.mark.parametrize(
    "owner, name",
    [(HistoryBuffer, "__init__"), (OrderedDict, "pop"), (torch.nn.Parameter, "mean"), (OneCycleParamScheduler, "step")],
)
def test_getattr_serves_the_statistics_of_mmengine_only(tmp_path, owner, name):
    content = {"method": Hostile(getattr, owner, name)}
    with pytest.raises(InputError, match="refused and nothing in it was run: it names 'getattr'"):
        compat.load_checkpoint_file(saved(content, tmp_path / "hostile.pth"))


def test_refuses_an_array_that_holds_objects(tmp_path):
    path = saved({"array": np.array([{}, None], dtype=object)}, tmp_path / "objects.pth")
    with pytest.raises(InputError, match=r"objects\.pth"):
        compat.load_checkpoint_file(path)


@pytest.mark.parametrize("unsafe", ["0", "1"])
def test_no_environment_variable_opens_the_door(tmp_path, monkeypatch, unsafe):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", unsafe)
    path = saved(Hostile(os.mkdir, str(tmp_path / "loot")), tmp_path / "hostile.pth")
    with pytest.raises(InputError):
        compat.load_checkpoint_file(path)
    assert not (tmp_path / "loot").exists()


def damaged(tmp_path):
    whole = saved({"weight": torch.rand(1000)}, tmp_path / "whole.pth").read_bytes()
    return {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "one byte": b"\x80",
        "text": b"<!DOCTYPE html><html>404</html>",
        "noise": np.random.default_rng(0).bytes(5000),
        "other zip": None,
    }


@pytest.mark.parametrize("kind", ["empty", "truncated", "one byte", "text", "noise", "other zip"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_get_one_sentence(tmp_path, kind, suffix):
    path = tmp_path / f"damaged{suffix}"
    if kind == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
    else:
        path.write_bytes(damaged(tmp_path)[kind])
    with pytest.raises(InputError, match=f"damaged{suffix}' cannot be read") as caught:
        compat.load_checkpoint_file(path)
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_lone_tensor(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        compat.load_checkpoint_file(tmp_path / "none.pth")
    with pytest.raises(InputError, match="is a folder"):
        compat.load_checkpoint_file(tmp_path)
    with pytest.raises(InputError, match="holds one Tensor"):
        compat.load_checkpoint_file(saved(torch.ones(1), tmp_path / "lone.pth"))


def test_out_of_memory_is_not_called_damage(tmp_path):
    with pytest.raises(MemoryError), checkpoints.safe_loading("big.pth"):
        raise MemoryError
