"""Pack a trained small X-VLM into a file of a quarter of its size, with a threshold for what is absent.

python tools/convert/grounder.py work_dirs/stickers_small/iter_1800.pth ovdet/xvlm/stickers.safetensors

The threshold is chosen on scenes for validation: there expressions of a scene are asked of it and of another one.
OVDET_STICKERS must name the sprite pack (docs/stickers.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ovdet.data.stickers.grounding import sticker_expressions
from ovdet.engine.launch import run
from ovdet.errors import InputError
from ovdet.metrics.grounding import grounding_accuracy
from ovdet.xvlm.predict import XVLMGrounder


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="checkpoint of tools/train.py")
    parser.add_argument("target", type=Path, help="file to write (.safetensors)")
    parser.add_argument("--scenes", type=int, default=150, help="for validation (default: 150)")
    parser.add_argument("--trained-on", default="sticker scenes of ovdet", metavar="TEXT", help="for the file's record")
    args = parser.parse_args(argv)
    if args.target.suffix != ".safetensors":
        raise InputError(f"the file must end in .safetensors, got {args.target}")
    grounder = XVLMGrounder.load(args.source)
    right, there, elsewhere = answers(grounder, args.scenes)
    threshold, found, refused = best_threshold(there, elsewhere)
    grounder.facts = replace(grounder.facts, threshold=threshold, trained_on=args.trained_on)
    grounder.save(args.target)
    packed, _, _ = answers(XVLMGrounder.load(args.target), args.scenes)
    print(f"{args.target}: {args.target.stat().st_size / 1e6:.2f} MB, threshold {threshold:.3f}")
    print(f"of {len(there)} expressions {found:.1%} are found, and {refused:.1%} are missed in another scene")
    print(f"boxes at IoU 0.5 (plain): {right:.1f} %, packed {packed:.1f} %")


def answers(grounder: XVLMGrounder, scenes: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Accuracy in percent of boxes drawn, and confidences of expressions in their own scene and in the next one."""
    data = sticker_expressions(stream="validation", length=scenes, max_texts=5)
    boxes, truth, there, elsewhere = [], [], [], []
    asked: list[str] = []
    for index in range(scenes):
        sample = data[index]
        picture = grounder.encode(sample["image"].permute(1, 2, 0).numpy())
        elsewhere += [answer.confidence for answer in grounder.ground(picture, asked, threshold=0.0)]
        asked = sample["texts"] if len(sample["boxes_xyxy"]) else []
        own = grounder.ground(picture, asked, threshold=0.0)
        boxes += [answer.box_xyxy for answer in own]
        there += [answer.confidence for answer in own]
        truth.append(sample["boxes_xyxy"])
    accuracy = grounding_accuracy(np.stack(boxes), torch.cat(truth).numpy())["all_plain"]
    return accuracy, np.array(there), np.array(elsewhere)


def best_threshold(there: np.ndarray, elsewhere: np.ndarray) -> tuple[float, float, float]:
    """Where the share found of what is there and the share missed of what is not are largest together.

    Returns:
        The threshold and the two shares.
    """
    choices = np.unique(np.concatenate([there, elsewhere]))
    found = (there[:, None] >= choices).mean(0)
    refused = (elsewhere[:, None] < choices).mean(0)
    best = int((found + refused).argmax())
    return float(choices[best]), float(found[best]), float(refused[best])


if __name__ == "__main__":
    sys.exit(run(main))
