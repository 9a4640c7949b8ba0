"""What the verbs share at the terminal: logs on stderr, JSON lines on stdout, sentences for errors, Ctrl-C."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from types import FrameType
from typing import Any, NoReturn, TextIO

from tqdm import tqdm

from ovdet.errors import OvdetError
from ovdet.files import write_problem

_log = logging.getLogger("ovdet")
FAULT, BAD_INPUT, INTERRUPTED = 1, 2, 128 + signal.SIGINT
EXIT_CODES = """\
exit codes: 0 well; 2 some input was bad (one sentence each on stderr, the rest is done all the same);
130 after Ctrl-C (what was done until then is kept); 1 a fault of ovdet itself."""
"""As `--help` tells them."""


class OutputClosed(Exception):
    """Nobody reads standard output any more."""


class OutputFailed(OvdetError):
    """A file or stream that gathers all results cannot be written, so that going on makes no sense."""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one sentence."""

    def __init__(self, *, example: str, **options: Any) -> None:
        super().__init__(usage=example, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Say it and leave with code 2."""
        say_error(f"{message}; see `{self.prog} --help`")
        raise SystemExit(BAD_INPUT)


class _StderrHandler(logging.Handler):
    """Log lines on whatever stderr is at that moment, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        say(mark + record.getMessage())


@contextmanager
def logs_to_stderr(*, debug: bool = False) -> Iterator[None]:
    """Show the package's log lines while the block lasts; with `debug`, tracebacks of errors too."""
    level, propagate, handler = _log.level, _log.propagate, _StderrHandler()
    _log.addHandler(handler)
    _log.setLevel(logging.DEBUG if debug else logging.INFO)
    _log.propagate = False
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")  # libraries' warnings are for developers
            yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        _log.propagate = propagate


@contextmanager
def answers_only() -> Iterator[TextIO]:
    """Lend standard output to the answers; what libraries print, which must not get between them, goes to stderr."""
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        yield stdout


def say_error(sentence: str, error: BaseException | None = None) -> None:
    """Print one sentence to stderr, after the error's traceback where that is wanted."""
    if error is not None and _log.isEnabledFor(logging.DEBUG):
        say("".join(traceback.format_exception(error)))
    say(f"error: {' '.join(sentence.split())}")


def say(text: str) -> None:
    """Print to whatever stderr is, above a progress bar if there is one; bytes that are no text are escaped."""
    tqdm.write(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


def write_json_line(record: dict[str, Any], stream: TextIO) -> None:
    """Write one JSON object as a line that is out when this returns.

    Raises:
        OutputClosed: the reader has gone.
        OutputFailed: the stream cannot be written, such as a file on a full disk.
    """
    try:
        stream.write(json.dumps(record) + "\n")
        stream.flush()
    except BrokenPipeError as error:
        point_at_nothing(stream)
        raise OutputClosed from error
    except OSError as error:
        point_at_nothing(stream)
        raise OutputFailed(str(write_problem("to standard output", error))) from error


class Stop(threading.Event):
    """Set when the user or the system asks the run to end; `code` is then the exit code by which shells know it."""

    code = 0


@contextmanager
def gentle_interrupt(message: str) -> Iterator[Stop]:
    """Let a first Ctrl-C or SIGTERM only set the event, so that work can end in good order; a second one interrupts.

    A signal that the process was started to ignore, as by `nohup`, stays ignored. Outside the main thread, where
    Python delivers no signals, the event is never set.
    """
    stop = Stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.code = 128 + number
        stop.set()
        say(message)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def point_at_nothing(stream: TextIO) -> None:
    """Let what the stream still buffers go nowhere, or Python would fail on it again when it exits."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
