"""Testing a checkpoint: the logic of tools/test.py."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ovdet.compat import checkpoints
from ovdet.engine.hooks import VocabularyHook, bare_model
from ovdet.engine.launch import add_common_arguments, command_line, prepare
from ovdet.engine.protocol import file_digest, write_result
from ovdet.errors import InputError
from ovdet.files import writable_folder
from ovdet.layers.compact import is_compact, read_compact

TRAINED = "task.model."
"""Where trainings of sentences keep their model."""
DECIDES = ("layer", "k", "prompt", "beams", "shortest", "longest")
"""Settings that tasks of sentences answer by, given or not."""
SHOW_HOOK = "ovdet.engine.hooks.ShowHook"  # by name: mmengine dumps the config as text


def build_parser() -> argparse.ArgumentParser:
    """The command line, with the flags that OpenMMLab users know."""
    parser = argparse.ArgumentParser(
        prog="tools/test.py",
        description="Test a checkpoint: python tools/test.py CONFIG CHECKPOINT --out results.json",
    )
    parser.add_argument("config", help="Python config that the checkpoint was trained with")
    parser.add_argument("checkpoint", help="file that tools/train.py wrote")
    parser.add_argument("--out", metavar="FILE.json", help="write metrics, numbers of each class and the protocol")
    parser.add_argument("--show-dir", metavar="DIR", help="draw what was found on each picture and write it here")
    parser.add_argument("--show-score", type=float, default=0.3, help="draw detections from this score (default: 0.3)")
    add_common_arguments(parser)
    return parser


def test(args: argparse.Namespace, command: str) -> dict[str, float]:
    """Test as the arguments say; gives the metrics.

    Raises:
        InputError: a mistake in the config, the data, the checkpoint or an argument.
    """
    if args.out:
        check_target(Path(args.out))
    if args.show_dir:
        writable_folder(Path(args.show_dir))
    weights = _weights(args.checkpoint)
    config = prepare(args)
    config.load_from, config.resume = None, False
    if args.show_dir:
        hooks = list(config.get("custom_hooks") or [])
        config.custom_hooks = [*hooks, dict(type=SHOW_HOOK, out=args.show_dir, score=args.show_score)]
    runner = Runner.from_cfg(config)
    load_weights(bare_model(runner), weights, args.checkpoint)
    metrics = runner.test()
    if args.out and is_main_process():
        stamp = {
            "command": command,
            "config": Path(args.config).stem,
            "checkpoint": Path(args.checkpoint).name,
            "weights_sha256": file_digest(args.checkpoint),
            **task_stamp(config.model.get("task"), getattr(bare_model(runner), "task", None)),
            **_vocabulary_stamp(runner.hooks),
        }
        write_result(args.out, metrics, _report(runner), stamp)
    return metrics


def task_stamp(task: Any, built: Any = None) -> dict[str, Any]:
    """What a model's task is set to where it decides a score: its plain numbers, its prompt, and its list of answers.

    Args:
        task: a config's `model.task`; anything but a dictionary says nothing.
        built: the task itself, for what decides its answers and is left at its default.
    """
    if not isinstance(task, Mapping):
        return {}
    said = {name: getattr(built, name) for name in DECIDES if hasattr(built, name)}
    said |= {name: value for name, value in task.items() if isinstance(value, bool | int | float)}
    said |= {name: task[name] for name in ("task", "prompt") if isinstance(task.get(name), str)}
    if isinstance(task.get("answers"), str):
        said["answers_sha256"] = file_digest(task["answers"])
    return {"task": said} if said else {}


def check_target(path: Path) -> None:
    """Find out before the work whether a result can be written.

    Raises:
        InputError: it is a folder, or stands in a place that cannot be written to.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
    writable_folder(path.parent)


def load_weights(model: Any, weights: Mapping[str, Any], source: str) -> None:
    """Load all weights, and refuse those of another model.

    Raises:
        InputError: a name or a shape differs; the first is told.
    """
    mine = model.state_dict()
    weights = _of_desk(weights, mine)
    for name, told in (
        *((key, "lacks") for key in mine if key not in weights),
        *((key, "has, but the config's model does not have,") for key in weights if key not in mine),
    ):
        raise InputError(f"{source} {told} {name}: it belongs to another config")
    for name, value in mine.items():
        if value.shape != weights[name].shape:
            raise InputError(
                f"{source}: {name} is {tuple(weights[name].shape)}, but the config's model has {tuple(value.shape)}"
            )
    model.load_state_dict(weights, strict=True)


def _of_desk(weights: Mapping[str, Any], mine: Mapping[str, Any]) -> Mapping[str, Any]:
    """Weights of a model alone, as desks keep them, under the names of the training around it; else unchanged."""
    prefixed = {f"{TRAINED}{name}": value for name, value in weights.items()}
    extra = {name: value for name, value in mine.items() if name.endswith("_extra_state")}
    return {**prefixed, **extra} if prefixed.keys() == mine.keys() - extra.keys() else weights


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    test(build_parser().parse_args(argv), command_line(argv, "test"))


def _weights(path: str) -> dict[str, Any]:
    if is_compact(Path(path)):
        return read_compact(Path(path))[0]
    content = checkpoints.load(path)
    weights = content.get("state_dict", content)
    if not isinstance(weights, Mapping) or not all(hasattr(value, "shape") for value in weights.values()):
        raise InputError(f"{path} holds no model weights: it has no state_dict of tensors")
    return dict(weights)


def _report(runner: Runner) -> dict[str, Any]:
    """What the evaluator says of its classes and protocol."""
    return next((metric.report for metric in runner.test_loop.evaluator.metrics if hasattr(metric, "report")), {})


def _vocabulary_stamp(hooks: Sequence[Hook]) -> dict[str, Any]:
    for hook in hooks:
        if isinstance(hook, VocabularyHook):
            return {"templates": hook.templates, "text_tower": hook.tower_note}
    return {}
