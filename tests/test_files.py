"""Either the whole file or none, and the reason in words."""

import errno
import os
from pathlib import Path

import pytest

from ovdet.errors import InputError
from ovdet.files import replacing, writable_folder, write_whole


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new/result.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.parent == path.parent and temporary.suffix == ".txt"
    assert path.read_text() == "whole" and os.listdir(path.parent) == ["result.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_old_file_stands(tmp_path, error):
    (tmp_path / "result.txt").write_text("old")
    with pytest.raises(error), replacing(tmp_path / "result.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "result.txt").read_text() == "old" and os.listdir(tmp_path) == ["result.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_full_disk(tmp_path):
    with (
        pytest.raises(InputError, match=r"cannot write .*result\.txt: the disk is full"),
        replacing(tmp_path / "result.txt"),
    ):
        with open("/dev/full", "w") as full:
            full.write("x" * 100_000)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.EACCES, "no permission"), (errno.EROFS, "read-only"), (errno.EIO, "Input/output error")],
)
def test_other_reasons(tmp_path, number, sentence):
    with pytest.raises(InputError, match=sentence), replacing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file stands where a folder"):
        writable_folder(tmp_path / "file")
    with pytest.raises(InputError, match="file stands where a folder"), replacing(tmp_path / "file/x.txt"):
        pass


def test_no_permission(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(InputError, match="no permission"):
        writable_folder(locked)


def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "x") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_bytes_are_written_whole(tmp_path):
    write_whole(tmp_path / "new/x.bin", b"abc")
    write_whole(tmp_path / "new/x.bin", b"d")
    assert (tmp_path / "new/x.bin").read_bytes() == b"d" and os.listdir(tmp_path / "new") == ["x.bin"]
