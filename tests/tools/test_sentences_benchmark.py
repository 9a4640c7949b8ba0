"""The benchmark of sentences runs, and prints nothing where the two ways disagree."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from ovdet.xvlm.build import xvlm_small


@pytest.fixture
def benchmark(monkeypatch):
    path = Path(__file__).parents[2] / "tools/benchmarks/sentences.py"
    spec = importlib.util.spec_from_file_location("sentences_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "xvlm_small", lambda: xvlm_small(64, 32, 1, 1))
    return module


def test_both_ways_are_measured(benchmark, capsys):
    assert benchmark.main(["--sentences", "3", "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "small on cpu, 1 threads, 3 sentences, 2 rounds"
    assert [line[:20].strip() for line in lines[1:]] == [
        "sentences a second",
        "encoded once",
        "one pair at a time",
        "ratio",
    ]


def test_ways_that_disagree_are_not_compared(benchmark, monkeypatch, capsys):
    right = benchmark.one_by_one

    def moved(*arguments):
        return [replace(answer, boxes_xyxy=answer.boxes_xyxy + 1) for answer in right(*arguments)]

    monkeypatch.setattr(benchmark, "one_by_one", moved)
    assert benchmark.main(["--sentences", "3", "--rounds", "1"]) == 1
    told = capsys.readouterr()
    assert "the two ways differ by 1.0" in told.err and not told.out


def test_an_unknown_model_is_told(benchmark, capsys):
    assert benchmark.main(["--model", "stikers"]) == 2
    assert "did you mean 'stickers'" in capsys.readouterr().err
