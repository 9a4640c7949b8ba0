"""How well an X-VLM tells sentences that are true of a scene from those that are not, on validation scenes.

python tools/benchmarks/absent_sentences.py stickers

Each scene is asked its own expressions and those of the next scene. For boxes of the model's own and out of a
detector's, prints what share of the former is found and of the latter refused at some thresholds, and the threshold at
which both are nearest to each other. OVDET_STICKERS must name the sprite pack (docs/stickers.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from ovdet import Grounder
from ovdet.data.stickers.grounding import StickerExpressions, sticker_expressions
from ovdet.engine.launch import run

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="stickers", help="of ovdet ground (default: stickers)")
    parser.add_argument("--scenes", type=int, default=150)
    args = parser.parse_args(argv)
    grounder = Grounder(args.model)
    data = sticker_expressions(stream="validation", length=args.scenes, max_texts=5)
    for title, candidates in (("boxes of its own", None), ("out of a detector's boxes", "detect")):
        true, false = ask(grounder, data, candidates)
        print(f"{title}: {len(true)} true sentences, {len(false)} of the next scene")
        for threshold in (*THRESHOLDS, balanced(true, false)):
            print(f"  at {threshold:.3f}: {100 * (true >= threshold).mean():.1f} % found, "
                  f"{100 * (false < threshold).mean():.1f} % refused")  # fmt: skip


def ask(grounder: Grounder, data: StickerExpressions, candidates: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Scores of each scene's own expressions, and of those of the next scene that are none of its own."""
    true, false = [], []
    following = data[0]
    for index in tqdm(range(len(data) - 1), unit="scene", disable=None):
        sample, following = following, data[index + 1]
        own = sample["texts"]
        others = [text for text in following["texts"] if text not in own]
        picture = sample["image"].permute(1, 2, 0).numpy()
        answers = grounder.ground(picture, [*own, *others], candidates=candidates, threshold=0.0)
        scores = [answer.score for answer in answers]
        true += scores[: len(own)]
        false += scores[len(own) :]
    return np.array(true), np.array(false)


def balanced(true: np.ndarray, false: np.ndarray) -> float:
    """The threshold at which as large a share of the true is found as of the false refused."""
    every = np.unique(np.concatenate([true, false]))
    apart = [abs((true >= value).mean() - (false < value).mean()) for value in every]
    return float(every[int(np.argmin(apart))])


if __name__ == "__main__":
    sys.exit(run(main))
