"""The index of pictures on disk: what it knows, what it refuses, and what a kill leaves."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from ovdet import picture_index
from ovdet.errors import InputError
from ovdet.picture_index import PictureIndex


def opened(path, fingerprint="one", width=3):
    return PictureIndex(path, "model", fingerprint, width)


@pytest.fixture
def files(tmp_path):
    paths = []
    for name in ("a", "b", "c"):
        paths.append(tmp_path / f"{name}.png")
        paths[-1].write_bytes(name.encode() * 10)
    return paths


def test_what_is_added_is_there_later(tmp_path, files):
    path = tmp_path / "deep/er/x.index"
    rows = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    with opened(path) as index:
        assert index.vector(files[0]) is None and len(index) == 0
        for file, row in zip(files, rows, strict=True):
            index.add(file, row)
    with opened(path) as index:
        assert len(index) == 3
        for file, row in zip(files, rows, strict=True):
            np.testing.assert_array_equal(index.vector(file), row)
    assert sorted(os.listdir(path.parent)) == ["x.index"]


def test_a_changed_file_is_unknown_and_a_moved_one_is_known(tmp_path, files):
    a, b, c = files
    with opened(tmp_path / "x.index") as index:
        index.add(a, np.arange(3))
    with opened(tmp_path / "x.index") as index:
        a.rename(tmp_path / "elsewhere.png")
        assert index.vector(tmp_path / "elsewhere.png").tolist() == [0, 1, 2]
        shutil.copy(b, a)
        assert index.vector(a) is None
        shutil.copy(tmp_path / "elsewhere.png", c)
        os.utime(c, ns=(1, 1))
        assert index.vector(c).tolist() == [0, 1, 2]
        with pytest.raises(FileNotFoundError):
            index.vector(tmp_path / "gone.png")


def test_other_weights_or_widths_are_refused_and_change_nothing(tmp_path, files):
    path = tmp_path / "x.index"
    with opened(path) as index:
        index.add(files[0], np.arange(3))
    before = path.read_bytes()
    for more in ({"fingerprint": "two"}, {"width": 4}):
        with pytest.raises(InputError, match=r"was made by other weights \(model\)"):
            opened(path, **more)
    assert path.read_bytes() == before


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello " * 1000)
    with pytest.raises(InputError, match="is damaged, or no index"):
        opened(tmp_path / "text")
    with sqlite3.connect(tmp_path / "base") as base:
        base.execute("CREATE TABLE people (name TEXT)")
    with pytest.raises(InputError, match="is no index of pictures"):
        opened(tmp_path / "base")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        opened(tmp_path / "file/x.index")


def test_a_damaged_index_is_told(tmp_path, files):
    path = tmp_path / "x.index"
    with opened(path) as index:
        index.add(files[0], np.arange(3))
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8000)
    with pytest.raises(InputError, match=r"damaged|malformed|cannot use"), opened(path) as index:
        index.vector(files[0])


def test_two_runs_may_share_one(tmp_path, files, monkeypatch):
    monkeypatch.setattr(picture_index, "FLUSH_ROWS", 1)
    with opened(tmp_path / "x.index") as one, opened(tmp_path / "x.index") as other:
        one.add(files[0], np.arange(3))
        other.add(files[1], np.arange(3) + 1)
        assert other.vector(files[0]).tolist() == [0, 1, 2] and one.vector(files[1]).tolist() == [1, 2, 3]


def test_a_kill_leaves_what_was_written(tmp_path, files):
    program = f"""
import os, signal
import numpy as np
from pathlib import Path
from ovdet import picture_index
picture_index.FLUSH_ROWS = 2
index = picture_index.PictureIndex(Path({str(tmp_path / "x.index")!r}), "model", "one", 3)
for place, name in enumerate("abc"):
    index.add(Path({str(tmp_path)!r}) / f"{{name}}.png", np.arange(3) + place)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    with opened(tmp_path / "x.index") as index:
        assert [index.vector(file) is not None for file in files] == [True, True, False]


def test_a_vector_of_another_width_is_a_mistake(tmp_path, files):
    with opened(tmp_path / "x.index") as index, pytest.raises(ValueError, match=r"must be \(3,\)"):
        index.add(files[0], np.arange(4))
