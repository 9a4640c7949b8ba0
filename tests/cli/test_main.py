"""The command itself: verbs, help, version."""

import json
import os
import subprocess
import sys

from ovdet.version import __version__


def test_version_and_help(run_ovdet):
    assert run_ovdet("--version").out == f"ovdet {__version__}\n"
    outcome = run_ovdet("--help")
    assert outcome.code == 0 and outcome.out.startswith('usage: ovdet detect photo.jpg --classes "cat, coffee cup')
    assert run_ovdet().code == 2


def test_help_of_detect_opens_with_an_example_and_names_every_option(run_ovdet):
    outcome = run_ovdet("detect", "--help")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == 'usage: ovdet detect photo.jpg --classes "cat, coffee cup, hot air balloon"'
    for option in (
        *("--classes", "--model", "--device", "--score", "--max-dets", "--batch-size", "--no-masks", "--out"),
        *("--no-save", "--save-crops", "--format", "--json", "--show", "--debug"),
    ):
        assert f"  {option}" in outcome.out


def test_unknown_verbs(run_ovdet):
    assert run_ovdet("detcet").err == "error: unknown verb 'detcet'; did you mean 'detect'?\n"
    outcome = run_ovdet("xyz")
    assert outcome.code == 2 and "choose from detect, ground, match, retrieve, segment, models, doctor" in outcome.err


def test_models(run_ovdet):
    table = run_ovdet("models")
    assert table.code == 0 and table.out.splitlines()[0].startswith("model") and "\nimagenet-words " in table.out
    rows = run_ovdet("models", "--json").records
    assert rows[0]["name"] == "imagenet-words" and all(row["licence"] for row in rows)
    assert len(rows) == len(table.out.splitlines()) - 1


def test_a_fault_of_ours_is_one_sentence_and_code_1(run_ovdet, monkeypatch):
    def fail(arguments):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("ovdet.cli.models.main", fail)
    outcome = run_ovdet("models")
    assert outcome.code == 1 and outcome.err == "error: ZeroDivisionError: oh; run again with --debug to see where\n"
    assert "Traceback" in run_ovdet("models", "--debug").err
    monkeypatch.setenv("OVDET_DEBUG", "1")
    assert "Traceback" in run_ovdet("models").err


def test_the_module_runs_without_torch_for_its_help():
    program = "import sys; sys.argv = ['ovdet', '--help']\ntry:\n    import ovdet.__main__\nexcept SystemExit: pass\n"
    program += "import json; print(json.dumps('torch' in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, text=True, capture_output=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) is False


def test_a_table_whose_reader_goes_away_is_no_fault(run_ovdet, monkeypatch):
    def gone(arguments):
        raise BrokenPipeError

    monkeypatch.setattr("ovdet.cli.models.main", gone)
    monkeypatch.setattr("ovdet.cli.point_at_nothing", lambda stream: None)
    outcome = run_ovdet("models")
    assert outcome.code == 0 and outcome.err == ""
