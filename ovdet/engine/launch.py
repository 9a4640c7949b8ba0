"""What `tools/train.py` and `tools/test.py` share: arguments, processes, and mistakes told in one sentence."""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction

from ovdet.engine import checkpoint
from ovdet.engine.config import apply_seed, load_config
from ovdet.errors import InputError

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")

_RUNS = itertools.count(1)
"""Runs prepared in this process."""


class Options(DictAction):
    """`k=v` pairs; a word without `=` is a mistake of the caller."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Collect the pairs of one `--cfg-options`."""
        wrong = [value for value in values if "=" not in value]
        if wrong:
            parser.error(f"{option_string} takes field=value pairs, got {wrong[0]!r}")
        super().__call__(parser, namespace, values, option_string)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both tools take."""
    parser.add_argument("--work-dir", metavar="DIR", help="logs and checkpoints (default: work_dirs/<config name>)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=Options, default={}, metavar="K=V", help="override fields of the config"
    )
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="none", help="how the processes were started (default: none)"
    )
    parser.add_argument("--seed", type=int, help="of data order, transforms and weights (default: the config's, or 0)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def prepare(args: argparse.Namespace) -> Config:
    """Read the config, apply the common arguments, set up the processes, make checkpoint loading safe.

    Raises:
        InputError: what `load_config` refuses, or a launcher or device that this machine cannot serve.
    """
    config = load_config(args.config, args.cfg_options)
    apply_seed(config, args.seed)
    name = Path(args.config).stem
    config.work_dir = args.work_dir or config.get("work_dir") or str(Path("work_dirs") / name)
    config.launcher = args.launcher
    if (run_number := next(_RUNS)) > 1:  # mmengine tells runs apart by name and second, else it logs to the earlier one
        config.experiment_name = f"{config.get('experiment_name') or name}_{run_number}"
    _choose_device(args.device)
    if args.launcher != "none":
        _join_processes(config)
    checkpoint.install()
    try:
        Path(config.work_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the work directory {config.work_dir}: {error.strerror or error}") from error
    return config


def run(main: Callable[[], None]) -> int:
    """Run a tool: 0 when it is through, 2 after a mistake of the caller, which is told in one sentence."""
    try:
        main()
    except InputError as error:
        print(f"error: {_sentence(str(error))}", file=sys.stderr)
        return 2
    finally:
        leave_processes()
    return 0


def leave_processes() -> None:
    """End the group of processes, if there is one, with all threads of it.

    Wrapped models hold the group, and runners, which hold them, go round in circles: what is left of them is collected
    first. A thread of gloo that outlives the interpreter ends the process with an abort.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def command_line(argv: Sequence[str] | None, tool: str) -> str:
    """The command as it would be typed again."""
    return " ".join(["python", f"tools/{tool}.py", *(sys.argv[1:] if argv is None else argv)])


def _sentence(message: str) -> str:
    """The sentence itself, where a data-loading process has wrapped it into its traceback."""
    wrapped = re.findall(r"^ovdet\.errors\.InputError: (.*)$", message, flags=re.MULTILINE)
    return wrapped[-1] if wrapped else message


def _choose_device(device: str | None) -> None:
    """Hide the GPUs for "cpu"; mmengine takes the best device that it can see."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device here; `ovdet doctor` says more")
    if device == "cpu" and torch.cuda.is_available():
        import mmengine.device.utils

        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        mmengine.device.utils.DEVICE = "cpu"


def _join_processes(config: Config) -> None:
    """On CPUs join the group here, by gloo: mmengine's own way wants a GPU for each process."""
    if torch.cuda.is_available():
        return
    if config.launcher != "pytorch":
        raise InputError(f"--launcher {config.launcher} needs GPUs; on CPUs use --launcher pytorch (torchrun)")
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(f"--launcher pytorch: {missing[0]} is not set; start with tools/dist_train.sh CONFIG N")
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=timedelta(minutes=30))
    config.sync_bn = None  # torch's SyncBatchNorm is for GPUs; each process keeps its own statistics here
    config.model_wrapper_cfg = dict(
        type="MMDistributedDataParallel",
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=config.get("find_unused_parameters", False),
    )
