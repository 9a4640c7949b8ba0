"""tools/distill/teacher_store.py: mistakes told in one sentence, shares of many machines, and a kill in the middle."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ovdet.data.proposals import Proposals, ProposalSource
from ovdet.data.shapes import write_shapes
from ovdet.data.teacher_store.reader import TeacherStore
from ovdet.vild.build import vild_tiny
from ovdet.vild.weights import CheckpointFacts, save_model
from ovdet.vlm.base import BackboneSpec, VLMBackbone

SCRIPT = Path(__file__).parents[2] / "tools" / "distill" / "teacher_store.py"


class MeanColour(VLMBackbone):
    """Embeds a crop by its mean colour."""

    def __init__(self):
        super().__init__(BackboneSpec("mean-colour", "contrastive", 4, 8, (0.0,) * 3, (1.0,) * 3, "Apache-2.0"))
        self.fraction = torch.nn.Parameter(torch.ones(1))

    @property
    def fingerprint(self):
        return "c" * 64

    def encode_image(self, images):
        rows = torch.cat([images.mean(dim=(2, 3)), self.fraction.expand(len(images), 1)], dim=1)
        return torch.nn.functional.normalize(rows, dim=1)

    def encode_text(self, texts):
        raise NotImplementedError

    def forward_dense(self, images):
        raise NotImplementedError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, images=6, side=64)
    return folder


@pytest.fixture(scope="module")
def tool():
    module = runpy.run_path(str(SCRIPT))
    main = module["main"]
    main.__globals__["create_vlm"] = lambda name, weights, device: MeanColour().to(device)
    torch.set_num_threads(1)
    return lambda *arguments: main([str(argument) for argument in arguments])


@pytest.fixture
def make(tool, shapes):
    def run(out, *more):
        data = ("--annotations", shapes / "annotations.json", "--images", shapes / "images", "--device", "cpu")
        return tool("make", "--out", out, *data, "--teacher", "mean-colour", *more)

    return run


def told(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_of_annotated_boxes(make, tool, tmp_path, capsys):
    assert make(tmp_path / "dry", "--annotated-boxes", "--dry-run") == 0
    assert "rows of 4 halves" in capsys.readouterr().err and not (tmp_path / "dry").exists()
    assert make(tmp_path / "base", "--annotated-boxes") == 0
    assert make(tmp_path / "all", "--annotated-boxes", "--all") == 0
    base, every = TeacherStore(tmp_path / "base"), TeacherStore(tmp_path / "all")
    assert len(every) == 6 and base.rows < every.rows, "novel boxes are left out unless asked for"
    assert every.facts.teacher.fingerprint == "c" * 64 and every.facts.annotations["file"] == "annotations.json"
    capsys.readouterr()
    assert tool("check", tmp_path / "all") == 0
    assert "6 pictures" in capsys.readouterr().err
    assert make(tmp_path / "all", "--annotated-boxes", "--all") == 0, "once more does no harm"


def test_machines_share_the_work(make, tool, tmp_path, capsys):
    common = ("--annotated-boxes", "--all", "--block", 2)
    assert make(tmp_path / "whole", *common) == 0
    for machine in (1, 2):
        assert make(tmp_path / f"part{machine}", *common, "--shard", f"{machine}/2") == 0
        assert f"{3 - machine} of 3 blocks are in" in capsys.readouterr().err
    assert tool("merge", "--out", tmp_path / "merged", tmp_path / "part1", tmp_path / "part2") == 0
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "whole")


def test_boxes_of_a_file_and_of_an_rpn(make, tmp_path):
    boxes = np.tile(np.asarray([[2, 3, 30, 40]], np.float32), (5, 1))
    some = {key: Proposals(boxes, np.linspace(1, 0.5, 5, dtype=np.float32)) for key in (1, 2)}
    ProposalSource(some).save(tmp_path / "p.npz")
    assert make(tmp_path / "file", "--all", "--proposals", tmp_path / "p.npz", "--limit", 3) == 0
    store = TeacherStore(tmp_path / "file")
    assert [len(store[key].scores) for key in (1, 2, 3)] == [3, 3, 0]
    model = vild_tiny("text")
    save_model(model, CheckpointFacts(**model.recipe, test_scale=(64, 64)), tmp_path / "rpn.pth")
    assert make(tmp_path / "rpn", "--rpn", tmp_path / "rpn.pth", "--limit", 7, "--amp") == 0
    store = TeacherStore(tmp_path / "rpn")
    assert store.rows == 7 * len(store) and store.facts.teacher.precision == "bfloat16"
    assert store.facts.proposals["checkpoint"] == "rpn.pth" and len(store.facts.proposals["sha256"]) == 64


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--annotated-boxes", "--shard", "3/2"), "--shard must be i/n with i from 1 to n, got 3/2"),
        (("--annotated-boxes", "--block", "0"), "--block must be at least 1, got 0"),
        (("--proposals", "none.npz"), "cannot read the proposal file none.npz: No such file"),
        (("--rpn", "none.pth"), "cannot read none.pth: No such file"),
        (("--annotated-boxes", "--annotations", "none.json"), "there is no annotation file none.json"),
    ],
)
def test_mistakes_are_told_in_one_sentence(make, tmp_path, capsys, more, message):
    assert make(tmp_path / "out", *more) == 2
    assert message in told(capsys)
    assert not (tmp_path / "out").exists()


def test_another_plan_in_the_folder(make, tmp_path, capsys):
    assert make(tmp_path / "out", "--annotated-boxes") == 0
    assert make(tmp_path / "out", "--annotated-boxes", "--scales", "1") == 2
    assert "another facts.teacher.crop_scales ([1.0, 1.5] instead of [1.0])" in told(capsys)


@pytest.mark.slow
def test_a_killed_run_goes_on(shapes, tmp_path, make):
    """SIGKILL while blocks are written: the same command finishes the store, byte for byte that of a straight run."""
    data = ["--annotations", shapes / "annotations.json", "--images", shapes / "images", "--teacher", "mean-colour"]
    arguments = ["make", "--out", tmp_path / "out", *data, "--device", "cpu", "--annotated-boxes", "--all"]
    arguments += ["--block", "1"]
    code = (
        f"import runpy, sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_teacher_store import MeanColour, SCRIPT\n"
        "class Slow(MeanColour):\n"
        "    def encode_image(self, images):\n"
        "        time.sleep(0.2)\n"
        "        return super().encode_image(images)\n"
        "main = runpy.run_path(str(SCRIPT))['main']\n"
        "main.__globals__['create_vlm'] = lambda name, weights, device: Slow()\n"
        f"main({[str(argument) for argument in arguments]!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    blocks = tmp_path / "out" / "blocks"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and len(list(blocks.glob("*.json"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = len(list(blocks.glob("*.json")))
    assert 2 <= written < 6 and not (tmp_path / "out" / "index.json").exists()
    common = ("--annotated-boxes", "--all", "--block", 1)
    assert make(tmp_path / "out", *common) == 0
    assert make(tmp_path / "straight", *common) == 0
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "straight")
