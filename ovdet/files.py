"""Files that are either whole or not there: written to a temporary name, then renamed."""

from __future__ import annotations

import errno
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovdet.errors import InputError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file stands where a folder is needed",
}


def write_problem(target: object, error: OSError) -> InputError:
    """Say in one sentence why `target` could not be written."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return InputError(f"cannot write {target}: {reason}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a temporary name beside `path`; rename it to `path` if the block ends well, else remove it.

    The temporary name ends like `path`, since image and video encoders look at the suffix.

    Raises:
        InputError: the file cannot be written (permission, full disk ...); nothing is left behind.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkstemp, whose files are for their owner's eyes only.
        candidate = path.with_name(f".ovdet-{uuid.uuid4().hex}{path.suffix}")
        candidate.touch(exist_ok=False)
        temporary = candidate
        yield temporary
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise write_problem(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of bytes, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def writable_folder(folder: Path) -> Path:
    """Make the folder if need be and prove that a file can be made in it.

    Raises:
        InputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_problem(folder, error) from error
    return folder
