"""Propose boxes in sticker scenes, for sentences to choose from: python tools/data/sticker_proposals.py --out FILE.npz.

In half precision, on a CPU. OVDET_STICKERS must name the sprite pack (docs/stickers.md).
configs/xvlm/stickers_small_proposals.py reads the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ovdet.data.stickers.dataset import StickerScenes
from ovdet.data.stickers.proposals import SceneProposals, scene_check
from ovdet.data.stickers.teaching import open_world
from ovdet.detector import Detector
from ovdet.engine.launch import run


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.npz", help="file to write")
    parser.add_argument("--stream", default="evaluation", choices=("validation", "evaluation"), help="of the scenes")
    parser.add_argument("--styles", nargs="*", metavar="STYLE", help="artists; default: those of training")
    parser.add_argument("--split", default="75-25", help="of the names (default: 75-25)")
    parser.add_argument("--scenes", type=int, default=1000, help="number of scenes (default: 1000)")
    parser.add_argument("--detector", default="stickers", metavar="NAME|FILE", help="default: stickers")
    args = parser.parse_args(argv)
    predictor = Detector(args.detector).predictor
    world = open_world(args.split, args.stream, args.styles or None)
    scenes = StickerScenes(world, args.scenes, stream=args.stream, texts=False)
    boxes, checks = [], []
    for index in tqdm(range(args.scenes), unit="scene", disable=None):
        image = scenes.scene(index).image
        with torch.autocast("cpu", torch.bfloat16):
            boxes_xyxy, likelihood = predictor.propose(image)
        boxes.append(np.column_stack([boxes_xyxy, likelihood]))
        checks.append(scene_check(image))
    SceneProposals.write(args.out, boxes, checks)
    print(f"{args.out}: {sum(map(len, boxes))} boxes in {args.scenes} scenes")


if __name__ == "__main__":
    sys.exit(run(main))
