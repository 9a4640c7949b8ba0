"""mmengine's Runner with `ovdet.engine.checkpoint`: killed, resumed, attacked, and loading from an address."""

from __future__ import annotations

import os
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import mmengine.runner.checkpoint as mmengine_checkpoint
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint

from ovdet.engine import checkpoint
from ovdet.errors import InputError


class Killed(Exception):
    pass


class KillAfter(Hook):
    """Stops the training like a lost machine: right after an epoch's checkpoint is on disk."""

    priority = "VERY_LOW"

    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epochs:
            raise Killed


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, inputs, targets, mode="tensor"):
        values = self.layer(torch.stack(list(inputs)))[:, 0]
        return {"loss": ((values - torch.stack(list(targets))) ** 2).mean()} if mode == "loss" else [values.detach()]


class Error(BaseMetric):
    """Mean square of what the model says."""

    def process(self, data_batch, data_samples):
        self.results += [float(sample.square().mean()) for sample in data_samples]

    def compute_metrics(self, results):
        return {"error": sum(results) / len(results)}


def examples():
    generator = torch.Generator().manual_seed(0)
    return [(x, x.sum()) for x in torch.rand(8, 3, generator=generator)]


def make_runner(work_dir, *, resume=False, kill_after=None, amp=False):
    torch.manual_seed(0)
    loader = {"batch_size": 4, "num_workers": 0, "sampler": {"type": "DefaultSampler", "shuffle": False}}
    loader["collate_fn"] = {"type": "default_collate"}
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader={"dataset": examples(), **loader},
        val_dataloader={"dataset": examples(), **loader},
        train_cfg={"by_epoch": True, "max_epochs": 4, "val_interval": 1},
        val_cfg={},
        val_evaluator=Evaluator(Error()),
        optim_wrapper={
            "type": "AmpOptimWrapper" if amp else "OptimWrapper",
            **({"dtype": "bfloat16"} if amp else {}),
            "optimizer": {"type": "AdamW", "lr": 0.05},
        },
        param_scheduler=[{"type": "MultiStepLR", "milestones": [2], "gamma": 0.1}],
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1, "save_best": "error", "rule": "less"}},
        custom_hooks=[{"type": "EMAHook"}] + ([KillAfter(kill_after)] if kill_after else []),
        default_scope="mmengine",
        resume=resume,
        log_level="WARNING",
        experiment_name=f"{work_dir.name}_{resume}_{kill_after}",
    )


@pytest.fixture(autouse=True)
def installed():
    checkpoint.install()
    checkpoint.install()  # twice is once


no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="mmengine's mixed precision needs a GPU")


@pytest.mark.parametrize("amp", [False, pytest.param(True, marks=no_cuda)])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, amp):
    whole = make_runner(tmp_path / "whole", amp=amp)
    whole.train()
    with pytest.raises(Killed):
        make_runner(tmp_path / "killed", kill_after=2, amp=amp).train()
    resumed = make_runner(tmp_path / "killed", resume=True, amp=amp)
    resumed.train()
    assert resumed.epoch == 4
    assert resumed.message_hub.get_scalar("train/loss").mean(8) == pytest.approx(
        whole.message_hub.get_scalar("train/loss").mean(8)
    )
    last = [torch.load(tmp_path / run / "epoch_4.pth", weights_only=False) for run in ("whole", "killed")]
    for key in ("state_dict", "ema_state_dict"):
        torch.testing.assert_close(last[0][key], last[1][key], rtol=0, atol=0)
    torch.testing.assert_close(last[0]["optimizer"]["state"], last[1]["optimizer"]["state"], rtol=0, atol=0)


def test_the_runner_refuses_a_hostile_checkpoint(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "loot"),)

    path = tmp_path / "hostile.pth"
    torch.save({"state_dict": {}, "meta": Hostile()}, path)
    with pytest.raises(InputError, match="refused and nothing in it was run"):
        load_checkpoint(Line(), str(path))
    runner = make_runner(tmp_path / "run")
    runner._load_from = str(path)
    with pytest.raises(InputError, match="refused and nothing in it was run"):
        runner.train()
    assert not (tmp_path / "loot").exists()


@pytest.fixture
def served(tmp_path):
    """A folder and the address that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_downloads_are_read_as_safely_as_files(tmp_path, served, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder, address = served

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "loot"),)

    torch.save({"state_dict": {"w": torch.ones(2)}}, folder / "good.pth")
    torch.save({"state_dict": Hostile()}, folder / "hostile.pth")
    good = CheckpointLoader.load_checkpoint(f"{address}/good.pth", map_location="cpu")
    assert good["state_dict"]["w"].tolist() == [1, 1]
    with pytest.raises(InputError, match="refused and nothing in it was run"):
        CheckpointLoader.load_checkpoint(f"{address}/hostile.pth", map_location="cpu")
    with pytest.raises(InputError, match=r"absent\.pth"):
        CheckpointLoader.load_checkpoint(f"{address}/absent.pth", map_location="cpu")
    assert not (tmp_path / "loot").exists()


def test_mmengine_alone_cannot_read_its_own_checkpoint(tmp_path):
    """The reason for all this; when it fails, mmengine has learnt it."""
    make_runner(tmp_path / "run").train()
    path = str(tmp_path / "run" / "epoch_4.pth")
    with pytest.raises(pickle.UnpicklingError, match="HistoryBuffer"):
        mmengine_checkpoint.load_from_local(path, map_location="cpu")
    assert "message_hub" in CheckpointLoader.load_checkpoint(path, map_location="cpu")
