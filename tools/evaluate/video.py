"""Judge or pack the answers of video object segmentation: python tools/evaluate/video.py davis ROOT ANSWERS.

ANSWERS/CLIP/FRAME.png are palette pictures. `davis` and `folders` (with truth for every frame) are scored: J&F. With
--zip an archive is packed as the servers of YouTube-VOS, MOSE and DAVIS (test-dev) take it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ovdet.data.context_sources import CLIPS
from ovdet.data.davis import SERVERS, Clip, clip_stamp, objects_of, read_answers, truth_frames, write_submission
from ovdet.engine.launch import command_line, run
from ovdet.engine.protocol import file_digest, write_result
from ovdet.errors import InputError
from ovdet.metrics.video import TOLERANCE, VideoScores, clip_scores


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/evaluate/video.py", description=__doc__.split("\n")[0])
    parser.add_argument("layout", choices=tuple(CLIPS), help="of the data set; MOSE has the layout `folders`")
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument("answers", help="folder of the answers")
    parser.add_argument("--zip", type=Path, metavar="FILE.zip", help="pack the answers, after checking them")
    parser.add_argument("--server", choices=tuple(SERVERS), help="whose archive it is to be")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="score, and write the result here")
    parser.add_argument("--weights", help="checkpoint that gave the answers; its hash goes into the result")
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Score or pack as the arguments say; gives the metrics in percent, none where nothing was scored."""
    args = build_parser().parse_args(argv)
    if (args.zip is None) != (args.server is None):
        raise InputError("--zip and --server belong together")
    clips = CLIPS[args.layout](args.root)
    if args.zip:
        print(f"{write_submission(args.zip, args.answers, clips, args.server)} files in {args.zip}")
        return {}
    scores = score(clips, args.answers)
    metrics = {name: 100 * value for name, value in scores.result().items()}
    if args.out:
        protocol = {
            **clip_stamp(clips, args.layout),
            "metric": "J&F of davis2017-evaluation: objects weigh equally, first and last frame left out",
            "contour_tolerance": TOLERANCE,
            "weights_sha256": file_digest(args.weights) if args.weights else None,
        }
        rows = [{"object": name, **numbers} for name, numbers in scores.rows.items()]
        stamp = {"command": command_line(argv, "evaluate/video")}
        write_result(args.out, metrics, {"per_class": rows, "protocol": protocol, "evaluator": "ovdet"}, stamp)
    print(", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
    return metrics


def score(clips: Sequence[Clip], answers: str) -> VideoScores:
    """J and F of all clips."""
    scores = VideoScores()
    for clip in tqdm(clips, unit="clip", disable=None):
        frames, objects = truth_frames(clip), objects_of(clip)
        if not frames:
            raise InputError(f"clip {clip.name} has no label pictures to score against; pack it for its server (--zip)")
        truth = [clip.labels(index) for index in frames]
        scores.add(clip.name, clip_scores(read_answers(answers, clip, frames), truth, objects), objects)
    return scores


if __name__ == "__main__":
    sys.exit(run(main))
