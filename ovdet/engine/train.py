"""Training from a config: the logic of tools/train.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ovdet.engine.amp import enable_amp
from ovdet.engine.launch import add_common_arguments, prepare
from ovdet.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """The command line, with the flags that OpenMMLab users know."""
    parser = argparse.ArgumentParser(
        prog="tools/train.py",
        description="Train a model: python tools/train.py configs/vild/tiny_shapes.py --work-dir work_dirs/try",
    )
    parser.add_argument("config", help="Python config, such as configs/vild/tiny_shapes.py")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from a checkpoint, or from the newest of the work directory",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on CPUs")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate to the batch by auto_scale_lr"
    )
    add_common_arguments(parser)
    return parser


def train(args: argparse.Namespace) -> Runner:
    """Train as the arguments say.

    Raises:
        InputError: a mistake in the config, the data, a checkpoint or an argument.
    """
    config = prepare(args)
    if args.amp:
        enable_amp(config)
    if args.auto_scale_lr:
        if "base_batch_size" not in (config.get("auto_scale_lr") or {}):
            raise InputError("--auto-scale-lr wants `auto_scale_lr = dict(base_batch_size=...)` in the config")
        config.auto_scale_lr["enable"] = True
    if args.resume is not None:
        _resume(config, args.resume)
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def _resume(config: Config, where: str) -> None:
    """Go on from a file, or from the newest checkpoint of the work directory; with none there, start anew."""
    config.resume = True
    config.load_from = None if where == "auto" else where
    if where != "auto" and not Path(where).is_file():
        raise InputError(f"--resume: there is no checkpoint {where}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    train(build_parser().parse_args(argv))
