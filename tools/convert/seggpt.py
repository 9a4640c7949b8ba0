"""Turn published SegGPT weights, and those of a training here, into ones that ovdet loads; and back.

python tools/convert/seggpt.py seggpt_vit_large.pth seggpt.pth
python tools/convert/seggpt.py seggpt-vit-large/ seggpt.pth                      (a Hugging Face folder)
python tools/convert/seggpt.py seggpt.pth out/ --to transformers                 (or --to official OUT.pth)
python tools/convert/seggpt.py iter_1500.pth own.safetensors --trained-by configs/seggpt/stickers_small.py
python tools/convert/seggpt.py iter_1500.pth own.safetensors --mean-with iter_1200.pth --trained-by configs/seggpt/...
python tools/convert/seggpt.py iter_20000.pth prompt.safetensors --trained-by configs/seggpt/tune_ade20k.py
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ovdet.compat import load_checkpoint_file
from ovdet.engine.config import load_config
from ovdet.errors import InputError
from ovdet.files import replacing, write_whole
from ovdet.seggpt.build import seggpt
from ovdet.seggpt.config import SegGPTConfig
from ovdet.seggpt.layouts import (
    config_from_transformers,
    config_of,
    config_to_transformers,
    from_published,
    layout_of,
    to_published,
)
from ovdet.seggpt.model import SegGPTModel
from ovdet.seggpt.prompts import prompt_of_training
from ovdet.seggpt.training import export_trained, seggpt_training
from ovdet.seggpt.weights import load_model, save_model

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Of a Hugging Face folder, the better first."""

PREPROCESSOR = {
    "image_processor_type": "SegGptImageProcessor",
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 1 / 255,
}


def main(arguments: list[str] | None = None) -> int:
    """Convert one file or folder; 0, or 2 with one sentence on stderr."""
    usage = "\n".join(__doc__.splitlines()[2:])
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "source", type=Path, help="the authors' .pth, a Hugging Face folder, or with --to our checkpoint"
    )
    parser.add_argument("target", type=Path, help="file to write; with --to transformers a folder")
    parser.add_argument("--to", choices=("official", "transformers"), help="write this layout instead of ours")
    parser.add_argument("--painter", action="store_true", help="take Painter's weights, to train from")
    parser.add_argument("--merge-block", type=int, help="of an authors' file of another size than the published (2)")
    parser.add_argument("--taps", type=int, nargs="+", help="likewise (evenly spaced, the last block last)")
    parser.add_argument("--trained-by", type=Path, metavar="CONFIG", help="of a checkpoint of tools/train.py")
    parser.add_argument(
        "--mean-with",
        type=Path,
        nargs="+",
        default=[],
        metavar="CHECKPOINT",
        help="with --trained-by: the mean of the source's weights and these, of stages that went on from each other",
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.mean_with and not chosen.trained_by:
            raise InputError("--mean-with takes checkpoints of training: give --trained-by too")
        if chosen.trained_by:
            print(take(chosen))
        else:
            print(export(chosen) if chosen.to else convert(chosen))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def convert(chosen: argparse.Namespace) -> str:
    """Read either layout, load strictly, write ours; returns the summary line."""
    if chosen.source.is_dir():
        published, said = read_folder(chosen.source)
        config = config_from_transformers(said)
    else:
        checkpoint = load_checkpoint_file(chosen.source)
        published, config = checkpoint.get("model", checkpoint.get("state_dict", checkpoint)), None
    try:
        ours = from_published(published, painter=chosen.painter)
        if config is None:
            config = config_of(ours, chosen.merge_block, tuple(chosen.taps) if chosen.taps else None)
        model = build(config)
        model.load_state_dict(ours, strict=True)
    except InputError as error:
        raise InputError(f"{chosen.source}: {error}") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{chosen.source} does not fit the sizes that it states: {reason}") from error
    save_model(model, chosen.target)
    count = sum(value.numel() for value in model.parameters())
    kinds = ", the kinds of mask at zero: train before use" if chosen.painter else ""
    return (
        f"{chosen.target}: {len(published)} weights of the {layout_of(published)} layout, {count:,} numbers, pictures "
        f"of {config.picture_hw[1]}x{config.picture_hw[0]}, {config.depth} blocks{kinds}"
    )


def take(chosen: argparse.Namespace) -> str:
    """Take the model, or the prompt that was tuned, out of a checkpoint of training; returns the summary line."""
    content = load_checkpoint_file(chosen.source)
    prompt = prompt_of_training(content.get("state_dict", content))
    if prompt is not None:
        if chosen.mean_with:
            raise InputError(f"{chosen.source} holds a tuned prompt, and --mean-with is for models")
        prompt.save(chosen.target)
        return f"{chosen.target}: a prompt of {len(prompt.names)} classes, {', '.join(prompt.names[:8])}"
    config = load_config(str(chosen.trained_by))
    task = dict(config.model.get("task", {}))
    if "size" not in task:
        raise InputError(f"{chosen.trained_by} trains no SegGPT: its model has no task with a size")
    starts = ("type", "init", "mae", "trunk", "matching")  # what the training started from plays no part any more
    training = seggpt_training(**{name: value for name, value in task.items() if name not in starts})
    export_trained([chosen.source, *chosen.mean_with], training.model, chosen.target, training.threshold)
    count = sum(value.numel() for value in training.model.parameters())
    return f"{chosen.target}: {count:,} numbers, threshold {training.threshold:.2f}"


def export(chosen: argparse.Namespace) -> str:
    """Write our checkpoint in a published layout; returns the summary line."""
    model, _ = load_model(chosen.source)
    published = to_published(model.state_dict(), chosen.to)
    if chosen.to == "official":
        try:
            with replacing(chosen.target) as temporary:
                torch.save({"model": published}, temporary)
        except RuntimeError as error:  # as which torch reports a full disk
            raise InputError(f"cannot write {chosen.target}: {error}") from error
    else:
        write_folder(chosen.target, published, model.config)
    return f"{chosen.target}: {len(published)} weights in the {chosen.to} layout"


def build(config: SegGPTConfig) -> SegGPTModel:
    """A model of these sizes."""
    return seggpt(**asdict(config))


def read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and `config.json` of a Hugging Face folder."""
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"folder {folder} has no readable config.json ({error}); give a Hugging Face folder"
        ) from error
    if not isinstance(said, dict):
        raise InputError(f"{folder / 'config.json'} is no configuration")
    present = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not present:
        raise InputError(f"folder {folder} has neither {' nor '.join(WEIGHT_FILES)}")
    return load_checkpoint_file(present[0]), said


def write_folder(folder: Path, published: dict[str, Tensor], config: SegGPTConfig) -> None:
    """Write weights, `config.json` and `preprocessor_config.json` as `from_pretrained` reads them."""
    with replacing(folder / WEIGHT_FILES[0]) as temporary:
        try:
            save_file(published, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # as which it reports a full disk
            raise InputError(f"cannot write {folder / WEIGHT_FILES[0]}: {error}") from error
    height, width = config.picture_hw
    preprocessor = {**PREPROCESSOR, "size": {"height": height, "width": width}}
    for name, content in (("config", config_to_transformers(config)), ("preprocessor_config", preprocessor)):
        write_whole(folder / f"{name}.json", (json.dumps(content, indent=2) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
