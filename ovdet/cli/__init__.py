"""The `ovdet` command.

In:  `ovdet VERB ...`.   Out: files, JSON lines on stdout, everything else on stderr, and an exit code: 0 well,
1 a fault of ours, 2 bad input (one sentence each), 130 Ctrl-C. Read detect.py first, then job.py.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from ovdet.cli.terminal import BAD_INPUT, FAULT, INTERRUPTED, OutputClosed, logs_to_stderr, point_at_nothing, say_error
from ovdet.errors import OvdetError
from ovdet.version import __version__

_HELP = f"""\
usage: ovdet detect photo.jpg --classes "cat, coffee cup, hot air balloon"

Find things in pictures and video by name, sentence or example (ovdet {__version__}).

verbs:
  detect    draw boxes and masks of named things; `ovdet detect --help`
  ground    draw boxes around what sentences mean; `ovdet ground --help`
  match     say how likely sentences are true of pictures
  retrieve  rank pictures by sentences, or sentences by pictures
  segment   draw masks of what examples show, in pictures and through video; `ovdet segment --help`
  models    list the models, their licence and size
  doctor    check the installation: versions, device, weights, cache

options:
  --version  print the version
  --debug    after a verb: show tracebacks (also with OVDET_DEBUG=1 in the environment)
"""


def _of(module: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a module, which is imported when it is called."""

    def verb(arguments: Sequence[str]) -> int:
        code: int = import_module(module).main(arguments)
        return code

    return verb


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "detect": _of("ovdet.cli.detect"),
    "ground": _of("ovdet.cli.ground"),
    "match": _of("ovdet.cli.match"),
    "retrieve": _of("ovdet.cli.retrieve"),
    "segment": _of("ovdet.cli.segment"),
    "models": _of("ovdet.cli.models"),
    "doctor": _of("ovdet.doctor"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_HELP, end="")
        return 0 if arguments else BAD_INPUT
    if arguments[0] == "--version":
        print(f"ovdet {__version__}")
        return 0
    debug = "--debug" in arguments or os.environ.get("OVDET_DEBUG", "0") not in {"", "0"}
    if not debug:  # read by libraries below Python when they are loaded
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with logs_to_stderr(debug=debug):
        return run_verb(arguments[0], [part for part in arguments[1:] if part != "--debug"])


def run_verb(verb: str, arguments: Sequence[str]) -> int:
    """Run the verb of that name, or suggest the nearest."""
    if verb not in VERBS:
        nearest = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"choose from {', '.join(VERBS)}"
        say_error(f"unknown verb {verb!r}; {hint}")
        return BAD_INPUT
    return guarded(VERBS[verb], arguments)


def guarded(verb: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a verb's function; what it raises becomes a sentence and an exit code."""
    try:
        return verb(arguments)
    except SystemExit as stop:  # argparse, after --help or a wrong option
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except KeyboardInterrupt:
        say_error("interrupted")
        return INTERRUPTED
    except OutputClosed:  # the reader of the pipe has gone, as with `| head`
        return 0
    except BrokenPipeError:
        point_at_nothing(sys.stdout)
        return 0
    except OvdetError as error:
        say_error(str(error), error)
        return BAD_INPUT
    except Exception as error:
        say_error(f"{type(error).__name__}: {error}; run again with --debug to see where", error)
        return FAULT
