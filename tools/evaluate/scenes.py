"""Whole scenes, class by class from examples: python tools/evaluate/scenes.py ade20k --root data/ADE --model M.

Examples of each class are drawn out of the training pictures; every validation picture is asked for every class.
ADE20K: mIoU, mAcc and aAcc of the surest class of each pixel. COCO panoptic: PQ, where a stuff class is one segment and
each connected part of a thing class is one (ours: how the paper decodes segments is not published; touching things are
taken for one). The result file carries its protocol.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ovdet.data.coco_segments import PanopticSegments
from ovdet.data.label_maps import LabelMaps, ade20k, examples_of_classes, names_digest
from ovdet.data.segments import IGNORED
from ovdet.engine.launch import command_line, run
from ovdet.engine.protocol import file_digest, write_result
from ovdet.errors import InputError
from ovdet.metrics.panoptic import PanopticScores
from ovdet.metrics.segmentation import LabelScores
from ovdet.seggpt.examples import Example, resize_labels
from ovdet.seggpt.postprocess import MaskRules, things, tidy
from ovdet.seggpt.predict import Prompt, SegGPTSegmenter, SoftMaps
from ovdet.seggpt.prompts import TunedPrompt
from ovdet.segmenter import load_segmenter, weights_path

SPLITS = {"ade20k": ("training", "validation"), "coco-panoptic": ("train2017", "val2017")}
"""Where examples come from, and what is judged."""

MOST_THINGS = 100
"""Of one class in one picture."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked of every picture.

    Attributes:
        prompt: of all classes that have an example.
        classes: number of each of the prompt's classes, in its order.
        facts: of the examples, for the protocol.
    """

    prompt: Prompt
    classes: tuple[int, ...]
    facts: dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/evaluate/scenes.py", description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=("ade20k", "coco-panoptic"))
    parser.add_argument("--root", type=Path, required=True, help="ADEChallengeData2016, or COCO's folder")
    parser.add_argument("--model", required=True, help="segmenter, as `ovdet segment --model` takes it")
    parser.add_argument("--prompt", type=Path, metavar="FILE", help="a prompt tuned for the model, instead of examples")
    parser.add_argument("--shots", type=int, default=1, help="examples of a class (default: 1)")
    parser.add_argument("--seed", type=int, default=1000, help="of their draw; the paper has 1000, 2000, 3000, 4000")
    parser.add_argument("--count", type=int, help="pictures, the first ones (default: all; the protocol says how many)")
    parser.add_argument("--ensemble", choices=("feature", "spatial"), default="feature")
    parser.add_argument("--threshold", type=float, help="panoptic: of the soft mask (default: the checkpoint's)")
    parser.add_argument("--min-pixels", type=int, default=1, metavar="N", help="panoptic: leave out smaller parts")
    parser.add_argument("--device", help="of the model (default: a GPU if there is one)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result here")
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate as the arguments say; gives the metrics in percent."""
    args = build_parser().parse_args(argv)
    if args.shots < 1 or (args.count is not None and args.count < 1):
        raise InputError(f"shots and count must be at least 1, got {args.shots} and {args.count}")
    desk = load_segmenter(args.model, args.device)
    threshold = desk.threshold if args.threshold is None else args.threshold
    rules = MaskRules(threshold=threshold, min_pixels=args.min_pixels)
    shown, judged = open_data(args.data, args.root)
    asked = learn(desk, shown, args) if args.prompt is None else take_prompt(desk, args.prompt, judged.class_names)
    indices = range(len(judged) if args.count is None else min(args.count, len(judged)))
    if isinstance(judged, PanopticSegments):
        numbers, rows = score_panoptic(desk, asked, judged, indices, rules)
        facts = {
            "metric": "PQ of COCO: matched above half of the union, void and crowds excused",
            "decoding": "surest class of each pixel above the threshold; stuff one segment, things connected parts",
            "threshold": threshold,
            "min_pixels": args.min_pixels,
        }
    else:
        numbers, rows = score_labels(desk, asked, judged, indices)
        facts = {"metric": "mIoU, mAcc, aAcc of one confusion matrix", "decoding": "surest class of each pixel"}
    metrics = {name: 100 * value for name, value in numbers.items()}
    if args.out:
        protocol = {
            "data": args.data,
            "split": SPLITS[args.data][1],
            "examples_split": None if args.prompt else SPLITS[args.data][0],
            "pictures": len(indices),
            "pictures_sha256": names_digest([judged.names[index] for index in indices]),
            **asked.facts,
            **facts,
            "scoring_size_hw": "size of the picture",
            "model": desk.name,
            "weights_sha256": file_digest(weights_path(args.model)),
        }
        stamp = {"command": command_line(argv, "evaluate/scenes")}
        write_result(args.out, metrics, {"per_class": rows, "protocol": protocol, "evaluator": "ovdet"}, stamp)
    print(", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
    return metrics


def open_data(name: str, root: Path) -> tuple[LabelMaps | PanopticSegments, LabelMaps | PanopticSegments]:
    """The pictures that examples come from, and those that are judged."""
    if name == "ade20k":
        shown, judged = (ade20k(root, part) for part in SPLITS[name])
        return shown, judged
    notes = root / "annotations"
    train, val = (
        PanopticSegments(notes / f"panoptic_{part}.json", notes / f"panoptic_{part}", root / part)
        for part in SPLITS[name]
    )
    if train.class_names != val.class_names:
        raise InputError(f"{notes}: the files of training and validation have other categories than each other")
    return train, val


def learn(desk: SegGPTSegmenter, source: LabelMaps | PanopticSegments, args: argparse.Namespace) -> Asked:
    """Draw the examples and compute once what they give."""
    chosen = examples_of_classes(source, args.shots, args.seed)
    place_of = {name: index for index, name in enumerate(source.names)}
    size_hw = desk.model.config.picture_hw
    examples, too_small = [], 0
    for key, names in chosen.items():
        for name in names:
            picture = source[place_of[name]]
            mask = picture.mask(key)
            if resize_labels(mask.astype(np.int32), size_hw).any():
                examples.append(Example.from_mask(picture.image, mask, str(key)))
            else:
                too_small += 1
    if not examples:
        raise InputError("no example shows anything at the size of the network")
    prompt = desk.learn(examples, ensemble=args.ensemble)
    facts = {
        "shots": args.shots,
        "seed": args.seed,
        "ensemble": args.ensemble,
        "examples_sha256": names_digest([f"{key} {name}" for key, names in chosen.items() for name in names]),
        "examples_too_small": too_small,
        "classes_without_example": len(source.class_names) - len(prompt.names),
    }
    return Asked(prompt, tuple(map(int, prompt.names)), facts)


def take_prompt(desk: SegGPTSegmenter, path: Path, class_names: Sequence[str]) -> Asked:
    """Read a tuned prompt, whose names must be of the data's classes."""
    prompt = desk.learn_tuned(TunedPrompt.load(path))
    unknown = [name for name in prompt.names if name not in class_names]
    if unknown:
        raise InputError(
            f"{path} paints {unknown[0]!r}, which is no class of the data ({', '.join(class_names[:5])} ...)"
        )
    facts = {"prompt_sha256": file_digest(path), "classes_without_example": len(class_names) - len(prompt.names)}
    return Asked(prompt, tuple(class_names.index(name) for name in prompt.names), facts)


def score_labels(
    desk: SegGPTSegmenter, asked: Asked, data: LabelMaps, indices: Sequence[int]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Numbers of all pictures in [0, 1], and IoU of each class."""
    scores = LabelScores(len(data.class_names), ignored=IGNORED)
    numbers = np.asarray(asked.classes)
    for index in tqdm(indices, unit="picture", disable=None):
        soft_maps = next(desk.look([data[index].image], asked.prompt))
        scores.add(numbers[soft_maps.winners()], data.key_map(index))
    ious = scores.per_class()
    rows = [
        {"name": name, "IoU": None if np.isnan(iou) else float(iou)}
        for name, iou in zip(data.class_names, ious, strict=True)
    ]
    return scores.result(), rows


def score_panoptic(
    desk: SegGPTSegmenter, asked: Asked, data: PanopticSegments, indices: Sequence[int], rules: MaskRules
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Numbers of all pictures in [0, 1], and those of each class."""
    is_thing = dict(enumerate(data.is_thing))
    scores = PanopticScores(is_thing)
    for index in tqdm(indices, unit="picture", disable=None):
        soft_maps = next(desk.look([data[index].image], asked.prompt))
        scores.add(*segments_of(soft_maps, asked.classes, is_thing, rules), *data.segments(index))
    rows = [{"name": data.class_names[row["label"]], **row} for row in scores.per_class()]
    return scores.result(), rows


def segments_of(
    soft_maps: SoftMaps, classes: Sequence[int], is_thing: Mapping[int, bool], rules: MaskRules
) -> tuple[np.ndarray, dict[int, int]]:
    """Segments out of the soft maps of all classes: (H, W) ids from 1, 0 for none, and the class of each."""
    winner = soft_maps.winners()
    ids, class_of = np.zeros(winner.shape, np.int32), {}
    for place, soft in enumerate(soft_maps):
        mask = tidy((soft > rules.threshold) & (winner == place), rules)
        for part in things(mask, MOST_THINGS) if is_thing[classes[place]] else [mask]:
            if part.any():
                class_of[len(class_of) + 1] = classes[place]
                ids[part] = len(class_of)
    return ids, class_of


if __name__ == "__main__":
    sys.exit(run(main))
