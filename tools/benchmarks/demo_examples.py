"""Show the demo's examples beside its scenes and count right marks: python tools/benchmarks/demo_examples.py.

demo/stickers/examples holds a thing of each scene by another artist, with its mask; expected.json where things are. The
scenes are in the manner of an artist that nothing was trained on. Where the thing is, a mark is right whose box reaches
IoU 0.5 with the thing's; elsewhere nothing is, marks below three thousandths of the picture aside. Once with all that
the model paints, once with a detector's masks that fit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ovdet import Segmenter
from ovdet.engine.launch import run
from ovdet.metrics.grounding import plain_iou
from ovdet.results import Detections

DEMO = Path(__file__).parents[2] / "demo" / "stickers"
SPECK = 0.003


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="stickers", help="of ovdet segment (default: stickers)")
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, help="also look in the mirror")
    args = parser.parse_args(argv)
    segmenter = Segmenter(args.model, mirror=args.mirror)
    for title, candidates in (("all that is painted", None), ("a detector's masks that fit", "detect")):
        there, elsewhere = show(segmenter, candidates)
        print(f"{title}: {len(there) - there.count(False)} of {len(there)} things marked right, ", end="")
        print(f"{len(elsewhere) - elsewhere.count(False)} of {len(elsewhere)} pictures without the thing left alone")


def show(segmenter: Segmenter, candidates: str | None) -> tuple[list[bool], list[bool]]:
    """Whether each answer is right, where the example's thing is and where it is not."""
    expected = json.loads((DEMO / "expected.json").read_text())
    there, elsewhere = [], []
    for picture in sorted((DEMO / "examples").glob("*.jpg")):
        example = (picture, picture.with_name(f"{picture.stem}_mask.png"), picture.stem)
        prompt = segmenter.learn([example], candidates=candidates)
        for scene, things in expected.items():
            found = segmenter(DEMO / scene, prompt)
            places = [thing["box_xyxy"] for thing in things if thing["name"] == picture.stem]
            (there if places else elsewhere).append(is_right(found, places))
    return there, elsewhere


def is_right(found: Detections, places: Sequence[Sequence[float]]) -> bool:
    """Whether one mark is where the thing is; or none, where there is no thing.

    Args:
        found: at most one mask.
        places: boxes x1, y1, x2, y2 of the thing, none or one.
    """
    if not places:
        return not len(found) or bool(found.masks[0].mean() <= SPECK)
    return len(found) > 0 and bool(plain_iou(found.boxes_xyxy[:1], places)[0] >= 0.5)


if __name__ == "__main__":
    sys.exit(run(main))
