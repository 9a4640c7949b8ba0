"""Ask the demo's questions about its scenes and count right answers: python tools/benchmarks/demo_questions.py.

demo/stickers/questions.jsonl holds sentences and what they mean, or null for what is not there; expected.json where
things are. The scenes are in the manner of an artist that nothing was trained on. An answer is right with a box at
IoU 0.5 and more, or without a box for what is absent. Once by boxes of the model's own, once out of a detector's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ovdet import Grounder
from ovdet.engine.launch import run
from ovdet.metrics.grounding import plain_iou

DEMO = Path(__file__).parents[2] / "demo" / "stickers"
KINDS = ("named", "told by place or size", "absent")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="stickers", help="of ovdet ground (default: stickers)")
    parser.add_argument("--wrong", action="store_true", help="list the sentences that are answered wrong")
    args = parser.parse_args(argv)
    grounder = Grounder(args.model)
    for title, candidates in (("boxes of its own", None), ("out of a detector's boxes", "detect")):
        right, asked, wrong = ask(grounder, candidates)
        print(f"{title}: " + ", ".join(f"{right[kind]} of {asked[kind]} {kind}" for kind in KINDS))
        if args.wrong:
            print("  wrong: " + "; ".join(wrong))


def ask(grounder: Grounder, candidates: str | None) -> tuple[Counter[str], Counter[str], list[str]]:
    """Right answers and questions by kind, and the sentences that were answered wrong."""
    expected = json.loads((DEMO / "expected.json").read_text())
    questions = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text().splitlines()]
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    wrong = []
    for scene, things in expected.items():
        places = {thing["name"]: thing["box_xyxy"] for thing in things}
        own = [question for question in questions if Path(question["source"]).name == scene]
        answers = grounder.ground(DEMO / scene, [question["expression"] for question in own], candidates=candidates)
        for question, answer in zip(own, answers, strict=True):
            kind = kind_of(question)
            asked[kind] += 1
            if is_right(answer.box_xyxy, places.get(question["answer"])):
                right[kind] += 1
            else:
                wrong.append(f"{scene}: {question['expression']}")
    return right, asked, wrong


def kind_of(question: dict[str, str | None]) -> str:
    """One of `KINDS`."""
    if question["answer"] is None:
        return KINDS[2]
    return KINDS[0] if question["expression"] == f"the {question['answer']}" else KINDS[1]


def is_right(found: Sequence[float] | None, expected: Sequence[float] | None) -> bool:
    """Whether a box is where it should be; None is no box."""
    if found is None or expected is None:
        return found is None and expected is None
    return bool(plain_iou([found], [expected])[0] >= 0.5)


if __name__ == "__main__":
    sys.exit(run(main))
