"""Reading checkpoints without unpickling: weights, and exactly what mmengine's own checkpoints hold besides.

torch >= 2.6 loads `weights_only=True`, which refuses mmengine's training state: its HistoryBuffer and the numpy
scalars and arrays inside. Those are allowed here, for the time of one load, and nothing else; no file is ever
unpickled. None of what is allowed does more than hold numbers: the `getattr` by which two classes of
mmengine name their own functions is answered for these alone.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovdet.errors import InputError

NUMBER_TYPES = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64),
)
"""numpy's types that may be in a checkpoint; those that can hold objects may not."""

STATISTICS = ("min", "max", "mean", "current")
"""The methods of HistoryBuffer that a checkpoint may name."""

ONE_CYCLE = "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"
ANNEALINGS = ("_annealing_cos", "_annealing_linear")
"""The functions of mmengine's one-cycle schedule, one of which is in its state."""


def allowed_globals() -> list[Callable | tuple[Callable, str]]:
    """List what a checkpoint may name besides torch's own: numbers of numpy, and mmengine's HistoryBuffer."""
    from mmengine.logging import HistoryBuffer

    build_scalar = np.float64(0).__reduce__()[0]
    build_array = np.empty(0).__reduce__()[0]
    names: list[Callable | tuple[Callable, str]] = [HistoryBuffer, np.ndarray, np.dtype]
    names += [(_function_of_mmengine, "builtins.getattr"), (_one_cycle, ONE_CYCLE)]
    for home in ("numpy._core.multiarray", "numpy.core.multiarray"):  # written by numpy 2, by numpy 1
        names += [(build_scalar, f"{home}.scalar"), (build_array, f"{home}._reconstruct")]
    return names + [type(np.dtype(number)) for number in NUMBER_TYPES]


def load(path: str | os.PathLike[str], *, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file; nothing in it is run.

    Args:
        path: A file of `torch.save`, or a `.safetensors` file.
        map_location: Where the tensors go, as for `torch.load`.

    Returns:
        The dictionary that the file holds.

    Raises:
        InputError: No such file, damaged, empty, not a checkpoint, or it holds more than numbers.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"checkpoint '{file}' is {'a folder' if file.is_dir() else 'not there'}; give a file")
    with safe_loading(file):
        if file.stat().st_size == 0:
            raise EOFError("empty file")
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            device = map_location if isinstance(map_location, (str, torch.device)) else "cpu"
            content = load_file(file, device=str(device))
        else:
            content = torch.load(file, map_location=map_location, weights_only=True)
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint '{file}' holds one {type(content).__name__} and not a dictionary of weights")
    return content  # type: ignore[return-value]


def _one_cycle() -> None:
    """Stand for the class of the one-cycle schedule, of which a checkpoint needs the functions only."""


def _function_of_mmengine(owner: object, name: str) -> Callable:
    """Serve as the `getattr` of checkpoints, for the functions that mmengine's own classes save, and no others."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim import OneCycleParamScheduler

    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    if owner is _one_cycle and name in ANNEALINGS:
        return getattr(OneCycleParamScheduler, name)
    raise pickle.UnpicklingError("Unsupported global: GLOBAL getattr")


@contextmanager
def safe_loading(source: str | os.PathLike[str]) -> Iterator[None]:
    """Allow mmengine's training state for the loads inside, and turn what goes wrong into an `InputError`."""
    try:
        with torch.serialization.safe_globals(allowed_globals()):
            yield
    except (torch.OutOfMemoryError, MemoryError, InputError):
        raise
    except OSError as error:
        raise InputError(f"checkpoint '{source}' cannot be opened: {error.strerror or error}") from error
    except Exception as error:
        found = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if found:
            raise InputError(
                f"checkpoint '{source}' was refused and nothing in it was run: it names {found[1]!r}, and only "
                "weights and mmengine's training state are read"
            ) from error
        raise InputError(
            f"checkpoint '{source}' cannot be read: it is truncated, empty or no checkpoint; fetch it again"
        ) from error
