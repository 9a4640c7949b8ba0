"""Detect with a config's model: python tools/predict.py CONFIG CHECKPOINT photo.jpg --classes "cat, coffee cup".

All options of `ovdet detect` follow. A checkpoint of tools/train.py says itself how it is built, so that
`ovdet detect --model CHECKPOINT` does without a config; here the config decides, and the weights must fit it.
"""

import pkgutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ovdet.cli import guarded
from ovdet.cli.detect import main as detect
from ovdet.cli.detect import make_parser, read_arguments
from ovdet.cli.terminal import logs_to_stderr
from ovdet.detector import choose_device
from ovdet.engine.config import load_config
from ovdet.engine.test import load_weights
from ovdet.vild.predict import ViLDDetector
from ovdet.vild.weights import read_checkpoint, read_facts


def build(settings: Mapping[str, Any]) -> Any:
    """Call a config's `type` with its other fields."""
    arguments = dict(settings)
    builder = arguments.pop("type")
    return (pkgutil.resolve_name(builder) if isinstance(builder, str) else builder)(**arguments)


def load(config_path: str, checkpoint_path: str, device: str | None) -> ViLDDetector:
    """Build the config's model and text tower and load the checkpoint's weights, all of them."""
    config = load_config(config_path)
    checkpoint = read_checkpoint(checkpoint_path)
    model = build(config.model)
    load_weights(model, checkpoint.get("state_dict", checkpoint), checkpoint_path)
    tower = build(config.text_tower)
    target = choose_device(device)
    return ViLDDetector(model.to(target), tower.to(target), read_facts(checkpoint), name=f"vild:{checkpoint_path}")


def main(arguments: Sequence[str]) -> int:
    """Run the tool; the exit code is that of `ovdet detect`."""
    if len(arguments) < 3 or arguments[0].startswith("-"):
        print(f"usage: {(__doc__ or '').splitlines()[0].split(': ', 1)[1]}\n", file=sys.stderr)
        make_parser().print_help(sys.stderr)
        return 0 if arguments and arguments[0] in {"-h", "--help"} else 2
    config, checkpoint, *rest = arguments
    options = read_arguments(rest)  # a wrong option is told before the model is built
    return detect(rest, load(config, checkpoint, options.device))


if __name__ == "__main__":
    with logs_to_stderr(debug="--debug" in sys.argv):
        sys.exit(guarded(main, sys.argv[1:]))
