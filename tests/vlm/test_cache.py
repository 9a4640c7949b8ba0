import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from ovdet.vlm.cache import VectorStore, cache_dir, offline


def vectors(start, stop, width=8):
    return {f"key {n}": np.full(width, n, np.float32) for n in range(start, stop)}


def test_the_environment_says_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    assert not cache_dir().exists()
    monkeypatch.delenv("OVDET_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "ovdet"


@pytest.mark.parametrize("name", ["OVDET_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(("value", "expected"), [("1", True), ("TRUE", True), ("0", False), ("", False)])
def test_the_environment_says_whether_we_are_offline(monkeypatch, name, value, expected):
    for variable in ("OVDET_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    assert offline() is expected


def test_vectors_come_back_to_the_bit(tmp_path):
    random = np.random.default_rng(0)
    kept = {f"{n}": random.standard_normal(17).astype(np.float32) for n in range(1200)}
    VectorStore(tmp_path / "deep" / "store").put(kept)
    found = VectorStore(tmp_path / "deep" / "store").get([*kept, "never kept"])
    assert found.keys() == kept.keys()
    assert all(np.array_equal(found[key], kept[key]) for key in kept)


def test_a_damaged_file_is_written_anew(tmp_path):
    path = tmp_path / "store"
    path.write_bytes(b"this is no database" * 300)
    store = VectorStore(path)
    assert store.get(["key 1"]) == {}
    store.put(vectors(0, 3))
    assert VectorStore(path).get(["key 2"]).keys() == {"key 2"}


def test_a_truncated_file_is_written_anew(tmp_path):
    path = tmp_path / "store"
    VectorStore(path).put(vectors(0, 2000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    store = VectorStore(path)
    store.get([f"key {n}" for n in range(2000)])
    store.put(vectors(0, 2000))
    assert len(VectorStore(path).get([f"key {n}" for n in range(2000)])) == 2000


def test_a_damaged_vector_is_as_good_as_absent(tmp_path):
    path = tmp_path / "store"
    VectorStore(path).put(vectors(0, 3))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = zeroblob(32) WHERE key = 'key 1'")
    connection.close()
    assert VectorStore(path).get(["key 0", "key 1", "key 2"]).keys() == {"key 0", "key 2"}


def test_a_store_that_cannot_be_written_is_empty_and_warns_once(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level("WARNING"):
        for _ in range(2):
            store = VectorStore(tmp_path / "file" / "store")
            store.put(vectors(0, 3))
            assert store.get(["key 1"]) == {}
    assert [record.getMessage().endswith("going on without it") for record in caplog.records] == [True]


WRITER = """
import sys
from pathlib import Path

import numpy as np

from ovdet.vlm.cache import VectorStore

path, start, stop, step, width = Path(sys.argv[1]), *map(int, sys.argv[2:])
for first in range(start, stop, step):
    VectorStore(path).put({f"key {n}": np.full(width, n, np.float32) for n in range(first, first + step)})
"""


def writer(path, *, start, stop, step, width):
    """A process of its own that writes batches of `step` vectors."""
    numbers = map(str, (start, stop, step, width))
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), *numbers])


def test_processes_write_at_once(tmp_path):
    path = tmp_path / "store"
    writers = [writer(path, start=start, stop=start + 100, step=5, width=8) for start in (0, 50, 100)]
    assert [process.wait(timeout=120) for process in writers] == [0, 0, 0]
    found = VectorStore(path).get([f"key {n}" for n in range(200)])
    assert len(found) == 200
    assert all((vector == int(key.split()[1])).all() for key, vector in found.items())


def test_a_killed_writer_leaves_whole_batches(tmp_path):
    path = tmp_path / "store"
    process = writer(path, start=0, stop=10**9, step=50, width=512)
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size > 700_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = VectorStore(path).get([f"key {n}" for n in range(100_000)])
        VectorStore(path).put({"after": np.ones(3, np.float32)})
    assert found
    assert len(found) % 50 == 0
    assert Path(path).exists()
    assert VectorStore(path).get(["after"])
