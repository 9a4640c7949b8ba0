"""Answers of a clip's frames on disk as they are made, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovdet.errors import InputError
from ovdet.files import write_problem
from ovdet.results import Detections


class AnswerLog:
    """A line of JSON a frame, after one that says what the run was; read from the start, then written at the end.

    The answers are the whole state: what a follower remembers are frames and what was found in them, and both can be
    had again without the network.

    Args:
        path: of the file.
        stamp: what the answers depend on.
        names: of the classes of the answers.
        resume: go on with what is there; otherwise begin anew.

    Raises:
        InputError: the file belongs to another run, or cannot be used.
    """

    def __init__(self, path: Path, stamp: Mapping[str, Any], names: tuple[str, ...], *, resume: bool) -> None:
        self.path, self.names = path, names
        self.is_whole = False
        """Set it when every frame has been answered."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("rb+" if resume and path.is_file() else "wb+")
            if not self._line():
                self._begin(stamp)
            elif self._last != json.loads(json.dumps(stamp)):
                raise InputError(
                    f"{path} was begun with other examples, options, model or video; leave out --resume to begin anew"
                )
        except OSError as error:
            raise write_problem(path, error) from error

    def read(self) -> tuple[Detections, list[str]] | None:
        """The next frame's answer and which of its things were given rather than found; None at the end."""
        if not self._line():
            return None
        record = self._last
        return Detections.from_dict(record["answer"], self.names), list(record["given"])

    def write(self, found: Detections, given: list[str]) -> None:
        """Add the next frame's answer; all others must have been read.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            self._file.write(json.dumps({"given": given, "answer": found.to_dict()}).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise write_problem(self.path, error) from error

    def close(self) -> None:
        """Leave the file as it is."""
        self._file.close()

    def _begin(self, stamp: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(stamp).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _line(self) -> bool:
        """Read the next whole line; at the end cut off what a kill left of one, and say that there is none."""
        start = self._file.tell()
        line = self._file.readline()
        try:
            self._last = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            self._last = None
        if self._last is None:
            self._file.seek(start)
            self._file.truncate()
        return self._last is not None
