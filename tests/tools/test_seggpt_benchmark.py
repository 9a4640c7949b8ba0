"""The benchmark of SegGPT runs, compares what it times, and goes on without what cannot run here."""

import importlib.util
import queue
import threading
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "tools/benchmarks/seggpt.py"
    spec = importlib.util.spec_from_file_location("seggpt_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pipe:
    """Both ends of a connection: what it is to receive, and what was sent."""

    def __init__(self, *messages):
        self.messages, self.sent = list(messages), []

    def recv(self):
        return self.messages.pop(0)

    def send(self, message):
        self.sent.append(message)


def options(benchmark, monkeypatch, *more):
    """The arguments as `main` hands them on."""
    found = {}
    monkeypatch.setattr(benchmark, "measure", lambda arguments, names: found.update(arguments=arguments) or ({}, []))
    monkeypatch.setattr(benchmark, "report", lambda *_: None)
    benchmark.main(["--size", "tiny", "--contenders", "forward", *more])
    return found["arguments"]


def test_an_encoded_example_gives_what_the_whole_canvas_gives(benchmark, monkeypatch):
    arguments, results = options(benchmark, monkeypatch), []
    for name in ("forward", "paint"):
        pipe = Pipe("go", "stop")
        benchmark.work(pipe, name, arguments)
        ready, (wall, cpu, memory, painted) = pipe.sent
        assert ready is None and wall > 0 and cpu > 0 and memory >= 0
        results.append(painted)
    assert results[0].shape == (1, 3, 64, 64) and abs(results[0] - results[1]).max() < 1e-5


def test_a_contender_that_cannot_run_says_so_in_a_line(benchmark, monkeypatch):
    def fail(*_):
        raise RuntimeError("no compiler\nand a long story")

    arguments = options(benchmark, monkeypatch)
    monkeypatch.setattr(benchmark, "make_contender", fail)
    pipe = Pipe()
    benchmark.work(pipe, "compiled", arguments)
    assert pipe.sent == ["RuntimeError: no compiler"]


class End:
    """One end of a connection between threads."""

    def __init__(self, inbox, outbox):
        self.recv, self.send, self.close = inbox.get, outbox.put, lambda: None


class Threads:
    """Stands for a context of processes."""

    @staticmethod
    def Pipe():
        there, back = queue.Queue(), queue.Queue()
        return End(back, there), End(there, back)

    Process = threading.Thread


def test_it_is_left_out_and_the_others_go_on(benchmark, monkeypatch, capsys):
    make = benchmark.make_contender

    def make_some(name, *rest):
        if name == "compiled":
            raise RuntimeError("no compiler")
        return make(name, *rest)

    monkeypatch.setattr(benchmark, "make_contender", make_some)
    monkeypatch.setattr(benchmark.multiprocessing, "get_context", lambda _: Threads)
    monkeypatch.setattr(benchmark, "matrix_rate", lambda _: (1e9, 1e9))
    benchmark.main(["--size", "tiny", "--contenders", "compiled", "forward", "paint", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiled left out: RuntimeError: no compiler"
    assert [line.split()[0] for line in lines[-2:]] == ["forward", "paint"]
