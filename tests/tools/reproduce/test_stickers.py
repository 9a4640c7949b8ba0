"""The script that makes the sticker results from nothing: order, resumption, side-by-side runs, tables."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ovdet.errors import InputError

TOOLS = Path(__file__).parents[3] / "tools"


@pytest.fixture(scope="module")
def script():
    return SimpleNamespace(**_load("stickers"))


@pytest.fixture(scope="module")
def table():
    return SimpleNamespace(**_load("sticker_table"))


def _load(name):
    sys.modules.setdefault(f"reproduce_{name}", type(sys)(f"reproduce_{name}"))  # dataclasses look their module up
    return runpy.run_path(str(TOOLS / "reproduce" / f"{name}.py"), run_name=f"reproduce_{name}")


def write_line(script, root, name, needs=(), code=0):
    """A stage that writes its name to a log and ends with `code`."""
    program = root / f"{name}.py"
    program.write_text(f"open({str(root / 'log')!r}, 'a').write({name!r} + '\\n'); raise SystemExit({code})")
    return script.Stage(name, (str(program),), needs)


def test_every_need_comes_earlier_and_every_config_exists(script, tmp_path):
    before = set()
    for stage in script.stages(tmp_path):
        assert set(stage.needs) <= before, stage.name
        assert stage.name not in before
        before.add(stage.name)
        programs = [part for part in stage.command if part.endswith(".py")]
        assert all((TOOLS.parent / program).is_file() for program in programs), programs


def test_stages_run_once_and_in_order(script, tmp_path):
    made = [write_line(script, tmp_path, "b", ("a",)), write_line(script, tmp_path, "a")]
    script.run_all(tmp_path, made)
    script.run_all(tmp_path, made)
    assert (tmp_path / "log").read_text().split() == ["a", "b"]


def test_a_failed_stage_stops_all_and_is_tried_again(script, tmp_path):
    made = [write_line(script, tmp_path, "a", code=3), write_line(script, tmp_path, "b", ("a",))]
    with pytest.raises(InputError, match="stage a ended with 3"):
        script.run_all(tmp_path, made)
    made[0] = write_line(script, tmp_path, "a")
    script.run_all(tmp_path, made)
    assert (tmp_path / "log").read_text().split() == ["a", "a", "b"]


def test_a_need_that_nobody_will_meet_is_told(script, tmp_path):
    with pytest.raises(InputError, match="stage b needs a, which is neither done nor among those to do"):
        script.run_all(tmp_path, [write_line(script, tmp_path, "b", ("a",))])


def test_a_claim_is_exclusive_and_ends_with_its_process(script, tmp_path):
    program = (
        "import fcntl, time; s = open('done/x.lock', 'w'); fcntl.flock(s, fcntl.LOCK_EX); print('mine', flush=True);"
        "time.sleep(60)"
    )
    (tmp_path / "done").mkdir()
    other = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "mine\n"
        with script.claimed(tmp_path, "x") as mine:
            assert not mine
        with script.claimed(tmp_path, "y") as mine:
            assert mine
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    for _ in range(100):
        with script.claimed(tmp_path, "x") as mine:
            if mine:
                break
        time.sleep(0.05)
    assert mine


def test_a_training_leaves_its_newest_checkpoint_by_one_name(script, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "last_checkpoint").write_text(f"{tmp_path}/t/iter_20.pth")
    (tmp_path / "t" / "iter_20.pth").write_text("weights")
    script._point_to_last(tmp_path / "t")
    script._point_to_last(tmp_path / "t")
    assert (tmp_path / "t" / "last.pth").read_text() == "weights"


def test_unknown_stages_are_refused(script, tmp_path, capsys):
    assert script.main(["--root", str(tmp_path), "--only", "nothing"]) == 2
    assert "no stage is called nothing" in capsys.readouterr().err


def test_tables_hold_means_and_single_values(table, tmp_path):
    (tmp_path / "results").mkdir()
    for seed, value in ((0, 20.0), (1, 30.0)):
        metrics = {
            f"stickers/{kind}_AP50_{group}": value for kind in ("box", "mask") for group in ("base", "novel", "all")
        }
        name = f"75_25-text-{seed}-trained.json"
        (tmp_path / "results" / name).write_text(json.dumps({"metrics": metrics, "protocol": {}}))
    rows = table.table(table.read_results(tmp_path / "results"), "75_25", "trained").splitlines()
    assert rows[2] == "| ViLD-text | " + " | ".join(["25.0 (20.0, 30.0)"] * 6) + " |"
    assert len(rows) == 3
    (tmp_path / "results" / "bad.json").write_text("[]")
    with pytest.raises(InputError, match=r"bad\.json is no result"):
        table.read_results(tmp_path / "results")
