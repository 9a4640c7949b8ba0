"""How fast stickers are drawn, in core-seconds: python tools/benchmarks/stickers.py --pack DIR."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

from ovdet.data.stickers.dataset import StickerCrops, StickerScenes
from ovdet.data.stickers.grounds import training_grounds
from ovdet.data.stickers.scenes import SceneConfig, StickerWorld
from ovdet.data.stickers.sprites import SpritePack
from ovdet.data.stickers.vocabulary import load_vocabulary


def rate(draw: Callable[[int], object], count: int) -> float:
    """Samples a core-second (processor time of this process, so that busy neighbours matter little)."""
    for index in range(20):  # pages of the memory map come in
        draw(index)
    start = time.process_time()
    for index in range(20, 20 + count):
        draw(index)
    return count / (time.process_time() - start)


def main() -> None:
    """Print a table of rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path, help="sprite pack")
    parser.add_argument("--count", type=int, default=200, help="samples of each kind (default: 200)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pack, grounds, vocabulary = SpritePack(args.pack), training_grounds(), load_vocabulary()
    for side in (256, 320):
        world = StickerWorld(pack, vocabulary, grounds, config=SceneConfig(size_hw=(side, side)))
        for texts in (False, True):
            scenes = StickerScenes(world, args.count + 20, texts=texts)
            kind = "with texts" if texts else "without texts"
            print(f"scenes of {side} px {kind}: {rate(scenes.__getitem__, args.count):.0f} a core-second", flush=True)
    world = StickerWorld(pack, vocabulary, grounds)
    crops = StickerCrops(world, 4 * args.count + 20)
    print(f"crops of 64 px: {rate(crops.__getitem__, 4 * args.count):.0f} a core-second", flush=True)


if __name__ == "__main__":
    main()
