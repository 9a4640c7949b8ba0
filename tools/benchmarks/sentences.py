"""Sentences grounded in a second: a picture encoded once for all of them, against one pair at a time, in one run.

python tools/benchmarks/sentences.py --model stickers --sentences 64 --rounds 5 --threads 1
python tools/benchmarks/sentences.py --size base --sentences 16 --rounds 3           (published size, random weights)

The two take turns; where other programs share the machine, sentences in a second of the processor's own time are the
better measure. `one pair at a time` is the plain loop: picture and sentence go through the whole network for every
sentence. Both must give the same boxes, or nothing is printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ovdet.errors import InputError
from ovdet.grounder import load_grounder
from ovdet.results import Grounding
from ovdet.xvlm.build import xvlm_small, xvlm_swin_base
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.small import TowerTokens
from ovdet.xvlm.tokens import SentenceTokens
from ovdet.xvlm.weights import XVLMFacts

WORDS = "the dog cat cup pizza left right of above red blue largest smallest leftmost".split()
ALLOWED_PIXELS = 0.05
"""Between the boxes of the two ways, which round differently."""


def random_desk(size: str, device: str) -> XVLMGrounder:
    """A desk with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    if size == "small":
        model = xvlm_small()
        return XVLMGrounder(model.to(device), TowerTokens(), XVLMFacts("xvlm_small", model.recipe["arguments"]), size)
    model = xvlm_swin_base(image_size=384)
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    vocabulary = (*special, *WORDS, *(f"word{place}" for place in range(30522 - len(special) - len(WORDS))))
    facts = XVLMFacts("xvlm", model.recipe["arguments"], vocabulary)
    return XVLMGrounder(model.to(device), SentenceTokens(vocabulary), facts, size)


def make_sentences(count: int) -> list[str]:
    """Different ones of 4 to 9 words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=4 + place % 6)) for place in range(count)]


def together(desk: XVLMGrounder, image: np.ndarray, sentences: Sequence[str]) -> list[Grounding]:
    """One look at the picture."""
    return desk.ground(desk.encode(image), sentences, threshold=0.0)


def one_by_one(desk: XVLMGrounder, image: np.ndarray, sentences: Sequence[str]) -> list[Grounding]:
    """The plain loop."""
    return [desk.ground(desk.encode(image), [text], threshold=0.0)[0] for text in sentences]


def timed(way: Callable[..., list[Grounding]], *arguments: object) -> tuple[tuple[float, float], np.ndarray]:
    """Seconds by the clock and of the processor, and the boxes (K, 4)."""
    wall, processor = time.perf_counter(), time.process_time()
    answers = way(*arguments)
    seconds = time.perf_counter() - wall, time.process_time() - processor
    return seconds, np.concatenate([answer.boxes_xyxy for answer in answers])


def main(argv: list[str] | None = None) -> int:
    """Print sentences a second of both ways; 2 with one sentence where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as `ovdet ground --model` takes it; else random weights of --size")
    parser.add_argument("--size", choices=["small", "base"], default="small")
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        desk = load_grounder(args.model, args.device) if args.model else random_desk(args.size, args.device)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    sentences = make_sentences(args.sentences)
    seconds: dict[str, list[tuple[float, float]]] = {"encoded once": [], "one pair at a time": []}
    timed(together, desk, image, sentences[:2])  # warm
    for _ in range(args.rounds):
        fast, boxes = timed(together, desk, image, sentences)
        slow, expected = timed(one_by_one, desk, image, sentences)
        apart = float(np.abs(boxes - expected).max())
        if apart > ALLOWED_PIXELS:
            print(f"error: the two ways differ by {apart:.3f} pixels", file=sys.stderr)
            return 1
        seconds["encoded once"].append(fast)
        seconds["one pair at a time"].append(slow)
    print(f"{desk.name} on {args.device}, {args.threads} threads, {args.sentences} sentences, {args.rounds} rounds")
    print(f"{'sentences a second':20} {'by the clock':>24} {'of the processor':>24}")
    for name, pairs in seconds.items():
        print(
            f"{name:20}"
            + "".join(spread([args.sentences / each for each in kind]) for kind in zip(*pairs, strict=True))
        )
    both = zip(*(zip(*pairs, strict=True) for pairs in seconds.values()), strict=True)  # two kinds of seconds
    print(f"{'ratio':20}" + "".join(spread([s / f for f, s in zip(*kind, strict=True)]) for kind in both))
    return 0


def spread(values: Sequence[float]) -> str:
    """Median, lowest and highest."""
    return f" {statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})".rjust(25)


if __name__ == "__main__":
    sys.exit(main())
