"""Video object segmentation: python tools/evaluate/video.py davis ROOT ANSWERS --model seggpt.pth --out result.json.

ANSWERS/CLIP/FRAME.png are palette pictures. --model makes them, as `ovdet segment --first-mask` does: objects are given
where the data set gives them. Clips that are answered already are left, so a run that was killed goes on. Without
--model they are those of any tool. `davis` and `folders` (with truth for every frame) are scored: J&F. With --zip an
archive is packed as the servers of YouTube-VOS, MOSE and DAVIS (test-dev) take it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from ovdet.data.context_sources import CLIPS
from ovdet.data.davis import (
    SERVERS,
    Clip,
    clip_stamp,
    objects_of,
    read_answers,
    truth_frames,
    write_label_png,
    write_submission,
)
from ovdet.engine.launch import command_line, run
from ovdet.engine.protocol import file_digest, write_result
from ovdet.errors import InputError
from ovdet.metrics.video import TOLERANCE, VideoScores, clip_scores
from ovdet.seggpt.examples import Example
from ovdet.seggpt.follow import MEMORY, ClipFollower, follow
from ovdet.seggpt.predict import SegGPTSegmenter
from ovdet.segmenter import load_segmenter, weights_path


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/evaluate/video.py", description=__doc__.split("\n")[0])
    parser.add_argument("layout", choices=tuple(CLIPS), help="of the data set; MOSE has the layout `folders`")
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument("answers", help="folder of the answers")
    parser.add_argument("--part", help="davis: list of clips in ImageSets/2017, such as test-dev (default: val)")
    parser.add_argument("--zip", type=Path, metavar="FILE.zip", help="pack the answers, after checking them")
    parser.add_argument("--server", choices=tuple(SERVERS), help="whose archive it is to be")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="score, and write the result here")
    parser.add_argument("--model", help="segmenter that makes the answers first, as `ovdet segment --model` takes it")
    parser.add_argument("--memory", type=int, default=MEMORY, help=f"past frames as examples (default: {MEMORY})")
    parser.add_argument("--mode", choices=("semantic", "instance"), default="instance")
    parser.add_argument("--device", help="of the model (default: a GPU if there is one)")
    parser.add_argument(
        "--weights", help="checkpoint that gave the answers, without --model; its hash goes into the result"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Score or pack as the arguments say; gives the metrics in percent, none where nothing was scored."""
    args = build_parser().parse_args(argv)
    if (args.zip is None) != (args.server is None):
        raise InputError("--zip and --server belong together")
    if args.part and args.layout != "davis":
        raise InputError(f"--part is for davis; {args.layout} has the clips that are in the folder")
    clips = (
        CLIPS[args.layout](args.root, args.part or "val") if args.layout == "davis" else CLIPS[args.layout](args.root)
    )
    if args.model:
        desk = load_segmenter(args.model, args.device)
        for clip in tqdm(clips, unit="clip", disable=None):
            answer(desk, clip, Path(args.answers), args.memory, args.mode)
    if args.zip:
        print(f"{write_submission(args.zip, args.answers, clips, args.server)} files in {args.zip}")
        return {}
    scores = score(clips, args.answers)
    metrics = {name: 100 * value for name, value in scores.result().items()}
    if args.out:
        weights = weights_path(args.model) if args.model else args.weights
        protocol = {
            **clip_stamp(clips, f"davis-2017 {args.part or 'val'}" if args.layout == "davis" else args.layout),
            "metric": "J&F of davis2017-evaluation: objects weigh equally, first and last frame left out",
            "contour_tolerance": TOLERANCE,
            "answers": {"memory": args.memory, "mode": args.mode, "model": args.model} if args.model else "given",
            "weights_sha256": file_digest(weights) if weights else None,
        }
        rows = [{"object": name, **numbers} for name, numbers in scores.rows.items()]
        stamp = {"command": command_line(argv, "evaluate/video")}
        write_result(args.out, metrics, {"per_class": rows, "protocol": protocol, "evaluator": "ovdet"}, stamp)
    print(", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
    return metrics


def answer(desk: SegGPTSegmenter, clip: Clip, folder: Path, memory: int, mode: Literal["semantic", "instance"]) -> None:
    """Follow the objects of a clip and write FOLDER/CLIP/FRAME.png, unless all are there."""
    paths = [folder / clip.name / f"{frame.stem}.png" for frame in clip.frames]
    if all(path.is_file() for path in paths):
        return
    starts = {
        index: Example.of_masks(clip.image(index), [(str(label), mask) for label, mask in objects.items()])
        for index, objects in clip.prompts().items()
    }
    frames = (clip.image(index) for index in range(len(clip.frames)))
    follower = ClipFollower(desk, memory=memory, mode=mode, mirror=False)  # as `ovdet segment` does with videos
    for path, found in zip(paths, follow(follower, frames, starts), strict=True):
        numbers = np.array([0, *map(int, found.class_names)])
        write_label_png(path, numbers[found.label_map()])


def score(clips: Sequence[Clip], answers: str) -> VideoScores:
    """J and F of all clips."""
    scores = VideoScores()
    for clip in tqdm(clips, unit="clip", disable=None):
        frames, objects = truth_frames(clip), objects_of(clip)
        given = {clip.frames[index].stem for index in clip.prompts()}
        if not frames or set(clip.masks) <= given:  # as in YouTube-VOS's validation part
            raise InputError(
                f"clip {clip.name} has no label pictures to score against beside those that give its objects; pack it "
                "for its server (--zip)"
            )
        truth = [clip.labels(index) for index in frames]
        scores.add(clip.name, clip_scores(read_answers(answers, clip, frames), truth, objects), objects)
    return scores


if __name__ == "__main__":
    sys.exit(run(main))
