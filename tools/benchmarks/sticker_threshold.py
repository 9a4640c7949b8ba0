"""Choose the default score of a detector of stickers, on validation scenes: never on those of the results.

python tools/benchmarks/sticker_threshold.py CHECKPOINT --scenes 100

Each scene is asked for its own names and 20 others, as a user would. For each threshold: precision, recall and F1 at
IoU 0.5; the best F1 is the threshold to ship.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from torchvision.ops import box_iou

from ovdet import Detector
from ovdet.data.stickers.dataset import StickerScenes
from ovdet.data.stickers.teaching import open_world
from ovdet.errors import InputError

THRESHOLDS = np.arange(0.05, 0.95, 0.05)


def main(argv: list[str] | None = None) -> int:
    """Print the table; 2 with one sentence where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="file, or a name that ovdet detect --model takes")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--distractors", type=int, default=20, help="names asked for that are not there")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        scored, objects = score_scenes(Detector(args.checkpoint), args.scenes, args.distractors)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("score precision recall F1")
    for threshold in THRESHOLDS:
        kept = [right for score, right in scored if score > threshold]
        found = sum(kept)
        precision, recall = found / max(len(kept), 1), found / objects
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        print(f"{threshold:.2f}  {precision:.3f}     {recall:.3f}  {f1:.3f}")
    return 0


def score_scenes(detector: Detector, count: int, distractors: int) -> tuple[list[tuple[float, bool]], int]:
    """(score, is it right) of every detection, and how many things there were."""
    world = open_world("75-25", "validation")
    scenes = StickerScenes(world, count, stream="validation", texts=False)
    names = world.vocabulary.names
    scored, objects = [], 0
    for index in range(count):
        scene = scenes.scene(index)
        own = sorted(set(scene.labels.tolist()))
        others = np.setdiff1d(np.arange(len(names)), own)
        asked = own + np.random.default_rng(index).choice(others, distractors, replace=False).tolist()
        found = detector(scene.image, [names[k] for k in asked], score=float(THRESHOLDS[0]), masks=False)
        scored += match(found, scene, asked)
        objects += len(scene.labels)
    return scored, objects


def match(found: object, scene: object, asked: list[int]) -> list[tuple[float, bool]]:
    """Greedy by score: a detection is right where a thing of its name, not yet taken, overlaps by one half."""
    overlaps = box_iou(torch.as_tensor(found.boxes_xyxy), torch.as_tensor(scene.boxes_xyxy)).numpy()
    taken = np.zeros(len(scene.labels), bool)
    matched = []
    for row in np.argsort(-found.scores):
        fits = (scene.labels == asked[int(found.labels[row])]) & ~taken & (overlaps[row] >= 0.5)
        right = bool(fits.any())
        if right:
            taken[int(np.where(fits, overlaps[row], -1).argmax())] = True
        matched.append((float(found.scores[row]), right))
    return matched


if __name__ == "__main__":
    sys.exit(main())
