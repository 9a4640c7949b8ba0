"""Give a trained or converted X-VLM a threshold for what is absent, and pack it if asked to.

python tools/convert/grounder.py work_dirs/stickers_small/iter_1800.pth ovdet/xvlm/stickers.safetensors
python tools/convert/grounder.py 16m.pth 16m_there.pth --refcoco data/refcoco --pictures data/coco/train2014

A target that ends in .safetensors takes a quarter of the size, in bytes with a scale a channel. The threshold is chosen
on scenes of stickers for validation (OVDET_STICKERS must name the sprite pack, docs/stickers.md), or with --refcoco on
the pictures of RefCOCO+'s validation: expressions of a picture are asked of it, and of the next one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ovdet.data.records import read_picture
from ovdet.data.refcoco import Referral, read_refcoco
from ovdet.data.stickers.grounding import sticker_expressions
from ovdet.engine.launch import run
from ovdet.errors import InputError
from ovdet.metrics.grounding import grounding_accuracy
from ovdet.xvlm.predict import XVLMGrounder


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="checkpoint of tools/train.py or tools/convert/xvlm.py")
    parser.add_argument("target", type=Path, help="file to write (.pth or .safetensors)")
    parser.add_argument("--scenes", type=int, default=150, help="scenes or pictures for validation (default: 150)")
    parser.add_argument("--trained-on", metavar="TEXT", help="for the file's record (default: the source's own)")
    parser.add_argument("--refcoco", metavar="DIR", help="folder of refcoco+, as for the configs")
    parser.add_argument("--name", default="refcoco+", help="of the data set in it (default: refcoco+)")
    parser.add_argument("--pictures", metavar="DIR", help="with --refcoco: folder of its pictures")
    args = parser.parse_args(argv)
    if args.target.suffix not in (".pth", ".safetensors"):
        raise InputError(f"the file must end in .pth or .safetensors, got {args.target}")
    if (args.refcoco is None) != (args.pictures is None):
        raise InputError("--refcoco and --pictures go together")
    if args.scenes < 2:
        raise InputError(f"--scenes must be at least 2, got {args.scenes}")
    grounder = XVLMGrounder.load(args.source)
    for head in ("box", "match"):
        grounder.require(head)
    right, there, elsewhere = answers(grounder, args)
    threshold, found, refused = best_threshold(there, elsewhere)
    trained_on = grounder.facts.trained_on if args.trained_on is None else args.trained_on
    grounder.facts = replace(grounder.facts, threshold=threshold, trained_on=trained_on)
    grounder.save(args.target)
    packed, _, _ = answers(XVLMGrounder.load(args.target), args)
    print(f"{args.target}: {args.target.stat().st_size / 1e6:.2f} MB, threshold {threshold:.3f}")
    print(f"of {len(there)} expressions {found:.1%} are found, and {refused:.1%} are missed in another scene")
    print(f"boxes at IoU 0.5 (plain): {right:.1f} %, packed {packed:.1f} %")


def answers(grounder: XVLMGrounder, args: argparse.Namespace) -> tuple[float, np.ndarray, np.ndarray]:
    """Accuracy in percent of boxes drawn, and confidences of expressions in their own picture and in the next one."""
    boxes, truth, there, elsewhere = [], [], [], []
    asked: list[str] = []
    for image, texts, boxes_xyxy in refcoco(args) if args.refcoco else scenes(args.scenes):
        picture = grounder.encode(image)
        elsewhere += [answer.confidence for answer in grounder.ground(picture, asked, threshold=0.0)]
        asked = texts
        own = grounder.ground(picture, asked, threshold=0.0)
        boxes += [answer.box_xyxy for answer in own]
        there += [answer.confidence for answer in own]
        truth.append(boxes_xyxy)
    accuracy = grounding_accuracy(np.stack(boxes), np.concatenate(truth))["all_plain"]
    return accuracy, np.array(there), np.array(elsewhere)


def scenes(count: int) -> Iterator[tuple[np.ndarray, list[str], np.ndarray]]:
    """Pictures (H, W, 3) uint8, expressions and their boxes (K, 4) in pixels, of scenes of stickers for validation."""
    data = sticker_expressions(stream="validation", length=count, max_texts=5)
    for index in range(count):
        sample = data[index]
        texts = sample["texts"] if len(sample["boxes_xyxy"]) else []
        yield sample["image"].permute(1, 2, 0).numpy(), texts, sample["boxes_xyxy"].numpy().reshape(-1, 4)


def refcoco(args: argparse.Namespace) -> Iterator[tuple[np.ndarray, list[str], np.ndarray]]:
    """The same of the first pictures of a RefCOCO's validation."""
    by_picture: dict[int, list[Referral]] = {}
    for one in read_refcoco(args.refcoco, args.name, "umd" if args.name == "refcocog" else "unc"):
        if one.split == "val":
            by_picture.setdefault(one.image_id, []).append(one)
    for key in sorted(by_picture)[: args.scenes]:
        said = by_picture[key]
        left, top, width, height = np.array([one.box_xywh for one in said], np.float32).T
        image = np.asarray(read_picture(Path(args.pictures) / said[0].file_name))
        yield image, [one.text for one in said], np.stack([left, top, left + width, top + height], axis=1)


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
