"""tools/train.py and tools/test.py: mistakes told in one sentence; a killed run goes on as if nothing had been."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ovdet.compat import checkpoints
from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.shapes import write_shapes
from ovdet.engine import test as testing
from ovdet.engine import train as training
from ovdet.engine.launch import run

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "vild" / "tiny_shapes.py"
LOSSES = ("loss", "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Folders of generated pictures: train and val."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "train", images=8, seed=0, side=64)
    write_shapes(folder / "val", images=3, seed=1, side=64)
    return folder


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    """A cache of its own, one thread, and a folder of its own to work in."""
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def options(shapes, iterations, *more):
    """Arguments for a short run: two pictures a step, a checkpoint every fourth."""
    return [
        "--cfg-options",
        f"train_dataloader.dataset.data_root={shapes / 'train'}",
        f"val_dataloader.dataset.data_root={shapes / 'val'}",
        f"test_dataloader.dataset.data_root={shapes / 'val'}",
        "train_dataloader.batch_size=2",
        f"train_cfg.max_iters={iterations}",
        "train_cfg.val_interval=1000",
        "default_hooks.checkpoint.interval=4",
        "default_hooks.checkpoint.max_keep_ckpts=-1",
        "default_hooks.logger.interval=1",
        "log_processor.window_size=1",
        *more,
    ]


def train(*arguments):
    return run(lambda: training.main([str(argument) for argument in arguments]))


def test(*arguments):
    return run(lambda: testing.main([str(argument) for argument in arguments]))


test.__test__ = False


def told(capsys):
    """The one sentence on stderr."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def scalars(work_dir):
    """Logged losses by iteration, of all runs in a work directory."""
    rows = {}
    for path in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if "loss" in row:
                rows[row["step"]] = [row[key] for key in LOSSES]
    return rows


def flat(state, path=""):
    """Every tensor and number of a nested state, by name."""
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in flat(value, f"{path}.{key}").items()}
    if isinstance(state, list | tuple):
        return {k: v for index, value in enumerate(state) for k, v in flat(value, f"{path}.{index}").items()}
    return {path: state} if isinstance(state, torch.Tensor | int | float) else {}


def test_a_missing_config(capsys):
    assert train("none.py") == 2
    assert told(capsys) == "error: there is no config none.py"


def test_an_unknown_field(capsys):
    assert train(TINY, "--cfg-options", "train_cfg.max_iter=3") == 2
    assert "no field 'train_cfg.max_iter'; did you mean 'train_cfg.max_iters'?" in told(capsys)


def test_options_want_pairs(capsys):
    with pytest.raises(SystemExit) as stopped:
        train(TINY, "--cfg-options", "max_iters")
    assert stopped.value.code == 2
    assert "field=value" in capsys.readouterr().err


def test_missing_annotations(capsys):
    assert train(TINY) == 2
    assert "cannot read the annotation file data/shapes/train/annotations.json: No such file" in told(capsys)


def test_wrong_names(shapes, capsys):
    assert train(TINY, *options(shapes, 1, "train_dataloader.dataset.names=[cat,dog]")) == 2
    assert "the config names 2 classes, but" in told(capsys)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_picture(shapes, tmp_path, capsys, workers):
    shutil.copytree(shapes, tmp_path / "copy")
    for path in (tmp_path / "copy" / "train" / "images").iterdir():
        path.unlink()
    assert train(TINY, *options(tmp_path / "copy", 2, f"train_dataloader.num_workers={workers}")) == 2
    assert "cannot read the picture" in told(capsys)


def test_a_missing_checkpoint(shapes, capsys):
    assert train(TINY, "--resume", "none.pth", *options(shapes, 1)) == 2
    assert told(capsys) == "error: --resume: there is no checkpoint none.pth"
    assert test(TINY, "none.pth") == 2
    assert "none.pth" in told(capsys)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("kind", ["hostile", "cut", "other"])
def test_a_bad_checkpoint(shapes, tmp_path, capsys, kind):
    path = tmp_path / f"{kind}.pth"
    if kind == "hostile":
        torch.save({"state_dict": {"x": Hostile()}}, path)
    elif kind == "cut":
        torch.save({"state_dict": {"x": torch.zeros(1000)}}, path)
        path.write_bytes(path.read_bytes()[:700])
    else:
        torch.save({"state_dict": {"conv.weight": torch.zeros(3)}}, path)
    assert test(TINY, path, *options(shapes, 1)) == 2
    message = told(capsys)
    assert path.name in message and "Traceback" not in message
    if kind == "other":
        assert "it belongs to another config" in message
    else:
        assert train(TINY, "--resume", path, *options(shapes, 2)) == 2
        assert path.name in told(capsys)
    assert not Path("pwned").exists()


def test_a_launcher_without_its_processes(shapes, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train(TINY, "--launcher", "pytorch", *options(shapes, 1)) == 2
    assert "start with tools/dist_train.sh" in told(capsys)
    assert train(TINY, "--launcher", "slurm", *options(shapes, 1)) == 2
    assert "needs GPUs" in told(capsys)
    assert train(TINY, "--device", "cuda", *options(shapes, 1)) == 2
    assert "torch sees no CUDA device" in told(capsys)


def test_a_work_directory_that_cannot_be(shapes, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train(TINY, "--work-dir", tmp_path / "file" / "x", *options(shapes, 1)) == 2
    assert "cannot make the work directory" in told(capsys)


def environment(*folders, **more):
    """This process's environment, with more folders to import from."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, **more}


@pytest.mark.slow
def test_two_runs_of_one_second_log_each_to_its_own_folder(shapes, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda *arguments: "20260101_000000")
    for work_dir in ("first", "second"):
        assert train(TINY, "--work-dir", work_dir, *options(shapes, 1)) == 0
    assert set(scalars("first")) == set(scalars("second")) == {1}


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(shapes):
    """Neither the kill nor the number of reading processes shows in losses, weights or momenta."""
    assert train(TINY, "--work-dir", "straight", *options(shapes, 8)) == 0
    command = [sys.executable, ROOT / "tools" / "train.py", TINY, "--work-dir", "killed", *options(shapes, 10_000)]
    with open("killed.log", "w") as log:
        process = subprocess.Popen([str(one) for one in command], env=environment(), stdout=log, stderr=log)
    last = Path("killed/last_checkpoint")
    until = time.monotonic() + 300
    while not last.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.read_text().endswith("iter_4.pth"), Path("killed.log").read_text()[-2000:]
    before = scalars("killed")
    readers = ["train_dataloader.num_workers=1", "train_dataloader.persistent_workers=True"]
    assert train(TINY, "--work-dir", "killed", "--resume", *options(shapes, 8, *readers)) == 0

    straight, resumed = (checkpoints.load(f"{name}/iter_8.pth") for name in ("straight", "killed"))
    for part in ("state_dict", "optimizer"):  # the latter has momenta and learning rates
        mine, theirs = flat(straight[part]), flat(resumed[part])
        assert mine.keys() == theirs.keys() and mine
        for name, value in mine.items():
            np.testing.assert_allclose(theirs[name], value, rtol=0, atol=1e-6, err_msg=name)
    losses, again = scalars("straight"), scalars("killed")
    assert set(losses) == set(range(1, 9)) and set(again) >= set(range(5, 9))
    for step, values in losses.items():
        assert (again | before)[step] == pytest.approx(values, abs=1e-6)
        if step in again:
            assert again[step] == pytest.approx(values, abs=1e-6)


@pytest.mark.slow
def test_two_processes_stay_equal_and_evaluate_together(shapes, tmp_path):
    """DistributedDataParallel over gloo: after three steps both ranks hold the same gradients and weights."""
    shutil.copytree(ROOT / "configs", "configs")
    Path("probe.py").write_text(
        "import torch\n"
        "from mmengine.hooks import Hook\n"
        "class Probe(Hook):\n"
        "    def before_train(self, runner):\n"
        "        wrapper = runner.optim_wrapper\n"
        "        wrapper.zero_grad = lambda **kwargs: None  # gradients are kept, to be compared\n"
        "    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):\n"
        "        named = dict(runner.model.module.named_parameters())\n"
        "        state = {name: (one.detach(), one.grad) for name, one in named.items()}\n"
        "        pictures = [sample.img_id for sample in data_batch['data_samples']]\n"
        "        torch.save({'state': state, 'pictures': pictures}, f'rank{runner.rank}_{runner.iter}.pth')\n"
    )
    Path("configs/vild/probed.py").write_text(
        "from mmengine.config import read_base\nfrom probe import Probe\n"
        "with read_base():\n    from .tiny_shapes import *\n"
        "custom_hooks = [*custom_hooks, dict(type=Probe)]\n"
    )
    more = options(shapes, 3, "train_cfg.val_interval=3")
    command = [ROOT / "tools" / "dist_train.sh", "configs/vild/probed.py", "2", "--work-dir", "two", *more]
    done = subprocess.run(
        [str(one) for one in command],
        env=environment(tmp_path, PYTHON=sys.executable, MASTER_PORT=str(29500 + os.getpid() % 2000)),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = []
    for step in range(3):
        ranks = [torch.load(f"rank{rank}_{step}.pth") for rank in (0, 1)]
        seen += [picture for rank in ranks for picture in rank["pictures"]]
        for name, (weight, gradient) in ranks[0]["state"].items():
            other_weight, other_gradient = ranks[1]["state"][name]
            torch.testing.assert_close(weight, other_weight, rtol=0, atol=0)
            if gradient is not None:
                torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=0)
    assert any(gradient is not None and gradient.abs().sum() > 0 for _, gradient in ranks[0]["state"].values())
    used = len(OpenVocabularyDataset(shapes / "train" / "annotations.json", base_only=True))
    assert len(seen) == 12 and used in (7, 8)
    assert len(set(seen[:8])) == used, "a pass is dealt to the ranks without overlap, and filled up to an even number"
    logged = [json.loads(line) for path in Path("two").glob("*/vis_data/scalars.json") for line in path.open()]
    assert any("shapes/box_AP50_novel" in row for row in logged)


@pytest.mark.slow
def test_a_trained_checkpoint_is_tested_and_detects(shapes, capsys):
    """The whole way: train with mixed precision, test with a stamped result, find things by other names."""
    assert train(TINY, "--amp", "--work-dir", "amp", *options(shapes, 4)) == 0
    assert test(TINY, "amp/iter_4.pth", "--out", "out.json", "--show-dir", "shown", *options(shapes, 4)) == 0
    result = json.loads(Path("out.json").read_text())
    assert result["metrics"].keys() >= {"shapes/box_AP50_base", "shapes/box_AP50_novel", "shapes/mask_AP_all"}
    assert result["protocol"]["templates"] == "plain" and len(result["protocol"]["weights_sha256"]) == 64
    assert result["protocol"]["command"].startswith("python tools/test.py")
    assert len(list(Path("shown").iterdir())) == 3
    dumped = "amp/tiny_shapes.py"
    assert test(dumped, "amp/iter_4.pth", "--work-dir", "again", "--out", "again.json") == 0
    assert json.loads(Path("again.json").read_text())["metrics"] == result["metrics"]

    from ovdet.vild.predict import ViLDDetector

    detector = ViLDDetector.load("amp/iter_4.pth", device="cpu")
    names = ["violet star", "red circle"]
    picture = np.full((60, 80, 3), 120, np.uint8)
    found = detector.predict([picture], names, detector.embed(names), score_threshold=0.0)[0]
    assert found.class_names == tuple(names) and found.size_hw == (60, 80)


def test_a_result_that_cannot_be_written_is_told_before_the_work(shapes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(testing, "prepare", lambda args: pytest.fail("the work has begun"))
    (tmp_path / "file").write_text("")
    for option, target in (("--out", "file/x.json"), ("--out", tmp_path), ("--show-dir", "file/pictures")):
        assert test(TINY, "gone.pth", option, target) == 2
        assert "cannot write" in told(capsys)


@pytest.mark.slow
def test_without_resize_pictures_keep_their_size(shapes, tmp_path):
    """Training and testing, of a compact checkpoint too, with a config whose pipelines do not resize."""
    from ovdet.vild.weights import load_model, save_compact

    text = (ROOT / "configs/_base_/shapes.py").read_text()
    (tmp_path / "configs/_base_").mkdir(parents=True)
    (tmp_path / "configs/vild").mkdir()
    lines = [line for line in text.splitlines() if "dict(type=Resize" not in line]
    (tmp_path / "configs/_base_/shapes.py").write_text("\n".join(lines))
    (tmp_path / "configs/vild/tiny.py").write_text(TINY.read_text().replace("test_scale=(160, 160)", "test_scale=None"))
    assert train("configs/vild/tiny.py", "--work-dir", "work", *options(shapes, 4)) == 0
    model, facts = load_model("work/iter_4.pth")
    assert list(facts.test_scale) == []
    assert test("configs/vild/tiny.py", "work/iter_4.pth", "--out", "result.json", *options(shapes, 4)) == 0
    assert json.loads(Path("result.json").read_text())["metrics"]["shapes/box_AP50_all"] >= 0
    save_compact(model, facts, "small.safetensors")
    assert test("configs/vild/tiny.py", "small.safetensors", *options(shapes, 4)) == 0
