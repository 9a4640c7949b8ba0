"""Choose how a small X-VLM weighs a detector's boxes, on validation scenes: never on those of the results.

python tools/data/sticker_proposals.py --stream validation --scenes 150 --out data/validation_proposals.npz
python tools/benchmarks/sticker_choice.py CHECKPOINT data/validation_proposals.npz

The terms of `SmallXVLM.fits` are computed once for all expressions; then their weights are changed one at a time, by
factors and by steps, for as long as that puts more expressions right. Prints the accuracy at IoU 0.5 by kind for the
weights in the code and for the best, and the best. OVDET_STICKERS must name the sprite pack (docs/stickers.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.ops import box_iou
from tqdm import tqdm

from ovdet.data.stickers.grounding import sticker_expressions
from ovdet.engine.launch import run
from ovdet.errors import InputError
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.small import FIT_WEIGHTS, FIT_WEIGHTS_APART, SmallXVLM

FACTORS = (0.5, 0.8, 1.25, 2.0)
STEPS = (-0.25, -0.1, 0.1, 0.25)
TERMS = ("pointed at", "places", "alike", "overlap", "likely", "closer")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of training, or a compact file")
    parser.add_argument("proposals", type=Path, help="file of tools/data/sticker_proposals.py, validation scenes")
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--apart", action="store_true", help="leave out the closer look at each box")
    args = parser.parse_args(argv)
    grounder = XVLMGrounder.load(args.checkpoint)
    if not isinstance(grounder.model, SmallXVLM):
        raise InputError(f"{args.checkpoint} is no small X-VLM: published ones match each box by itself")
    terms, right, tags = collect(grounder, args.scenes, args.proposals)
    start = torch.tensor(FIT_WEIGHTS_APART if args.apart else FIT_WEIGHTS)
    terms = terms[: len(start)]
    for title, each in (("in the code", start), ("best", climb(terms, right, start))):
        print(title, ", ".join(f"{term} {value:.3g}" for term, value in zip(TERMS, each.tolist(), strict=False)))
        print(table(chosen_right(terms, right, each), tags))


@torch.inference_mode()
def collect(grounder: XVLMGrounder, scenes: int, proposals: Path) -> tuple[Tensor, Tensor, list[tuple[str, ...]]]:
    """Terms (6, N, R) of N expressions and up to R boxes, which boxes are right (N, R), and the expressions' tags."""
    data = sticker_expressions(stream="validation", length=scenes, max_texts=5, proposals=proposals)
    terms, right, tags = [], [], []
    for index in tqdm(range(scenes), unit="scene", disable=None):
        sample = data[index]
        if not len(sample["boxes_xyxy"]) or not len(sample["candidates_xyxy"]):
            continue
        picture = grounder.encode(sample["image"].permute(1, 2, 0).numpy())
        read = grounder.read(sample["texts"])
        boxes, likelihood = sample["candidates_xyxy"], sample["candidate_scores"]
        closer = grounder.look_closer(picture, read, boxes.numpy())
        shares = boxes / torch.tensor(sample["size_hw"]).flip(0).repeat(2)
        terms.append(grounder.model.fits(read.states, read.mask, picture.encoded, shares, likelihood, closer))
        right.append(box_iou(sample["boxes_xyxy"], boxes) >= 0.5)
        tags += sample["tags"]
    most = max(each.shape[2] for each in terms)
    padded = [torch.nn.functional.pad(each, (0, most - each.shape[2]), value=float("nan")) for each in terms]
    flags = [torch.nn.functional.pad(each, (0, most - each.shape[1])) for each in right]
    return torch.cat(padded, dim=1), torch.cat(flags), tags


def chosen_right(terms: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """Whether the box that fits best is right, (N,) bool."""
    fit = (terms * weights[:, None, None]).sum(0).nan_to_num(-torch.inf)
    return right.gather(1, fit.argmax(1, keepdim=True))[:, 0]


def climb(terms: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    """Change one weight at a time for as long as more expressions come out right; the first weight stays 1."""

    def count(each: Tensor) -> int:
        return int(chosen_right(terms, right, each).sum())

    best = count(weights)
    while True:
        tries = []
        for place in range(1, len(weights)):
            value = float(weights[place])
            for changed in (*(value * factor for factor in FACTORS), *(value + step for step in STEPS)):
                other = weights.clone()
                other[place] = changed
                tries.append((count(other), other))
        most, other = max(tries, key=lambda each: each[0])
        if most <= best:
            return weights
        best, weights = most, other


def table(right: Tensor, tags: Sequence[tuple[str, ...]]) -> str:
    """Accuracy in percent of all expressions and by tag, with their numbers."""
    groups = {"all": right}
    for tag in sorted({tag for each in tags for tag in each}):
        groups[tag] = right[torch.tensor([tag in each for each in tags])]
    return "  " + ", ".join(f"{name} {100 * flags.float().mean():.1f} ({len(flags)})" for name, flags in groups.items())


if __name__ == "__main__":
    sys.exit(run(main))
