"""`ovdet doctor`: what it finds, and that each fault shows in the exit code."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from ovdet import doctor
from ovdet.errors import InputError


@pytest.fixture(autouse=True)
def sound(tmp_path, monkeypatch):
    """A machine where everything is well, whatever the one that runs the tests is like; fast to look at."""
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OVDET_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(doctor, "LIBRARIES", ("mmdet.apis",))


def named(name):
    return [check for check in doctor.report() if check.name == name]


def test_a_sound_installation_gets_0(capsys):
    assert doctor.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "everything works"
    text = "\n".join(lines)
    for found in (f"torch {torch.__version__.split('+')[0]}", "mmdet 3.", "mmcv-lite", "CPU,", "OVDET_OFFLINE=1"):
        assert found in text
    assert "torchvision nms stands in for mmcv's nms" in text or "compiled mmcv serves" in text
    assert "imagenet-words (the default model) loads" in text


def test_json_has_a_line_a_check(capsys):
    assert doctor.main(["--json"]) == 0
    checks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(check.keys() == {"name", "state", "detail"} for check in checks)
    assert {"python", "versions", "imports", "device", "operators", "cache", "network", "weights"} == {
        check["name"] for check in checks
    }


def test_a_cache_that_cannot_be_written_is_a_fault(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "file" / "cache"))
    (check,) = named("cache")
    assert check.state == "fault" and "set OVDET_HOME" in check.detail
    assert doctor.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 fault: see above"


def test_looking_leaves_nothing_in_the_cache(tmp_path):
    (check,) = named("cache")
    assert check.state == "ok" and str(tmp_path / "cache") in check.detail
    assert list((tmp_path / "cache").iterdir()) == []


def test_little_room_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "SPARE_GIGABYTES", 1e9)
    assert [check.state for check in named("cache")] == ["note"]


@pytest.mark.parametrize("variable", ["OVDET_OFFLINE", "HF_HUB_OFFLINE"])
def test_the_offline_state_is_a_note(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    (check,) = named("network")
    assert check.state == "note" and check.detail.startswith("offline")


def test_a_missing_package_is_a_fault_with_the_cure(monkeypatch):
    def version(name):
        if name == "timm":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    versions, missing = named("versions")
    assert versions.state == "ok" and missing.state == "fault"
    assert "pip install timm" in missing.detail


def test_another_distribution_of_the_same_module_is_no_fault(monkeypatch):
    def version(name):
        if name in ("mmcv-lite", "opencv-python"):
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    (check,) = named("versions")
    assert "mmcv 1.0" in check.detail and "opencv-python-headless 1.0" in check.detail


def test_a_library_that_does_not_import_is_a_fault(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('undefined symbol\\nand more')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "LIBRARIES", ("json", "broken_library"))
    (check,) = named("imports")
    assert check.state == "fault" and check.detail == "broken_library: RuntimeError: undefined symbol"


def test_damaged_default_weights_are_a_fault(monkeypatch):
    def create_vlm(name):
        raise InputError("its weights are damaged")

    monkeypatch.setattr(doctor, "create_vlm", create_vlm)
    assert any(c.state == "fault" and "its weights are damaged" in c.detail for c in named("weights"))
    assert doctor.main() == 1


def test_a_check_that_fails_itself_is_a_fault_and_the_others_go_on(monkeypatch):
    def operators():
        raise ImportError("no mmcv")

    monkeypatch.setattr(doctor.compat, "operators", operators)
    monkeypatch.setattr(doctor.finder, "compiled_mmcv", lambda: None)
    assert named("operators") == [doctor.Check("operators", "fault", "ImportError: no mmcv")]
    assert named("weights")
