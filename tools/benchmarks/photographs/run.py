"""How well does a model find named things in ordinary photographs? Boxes drawn by hand, pictures from packages.

    python tools/benchmarks/photographs/run.py --half development
    python tools/benchmarks/photographs/run.py --half report --model imagenet-words --threads 2

Asks for each picture twice: for its own 3 to 10 names (`own`: what is in it and a few things that are not), and
for every name of the whole half (`all`). Reports recall and false alarms at the model's default threshold, and
seconds a picture. Nothing is fetched: for a photograph that is not there the command that gets it is printed, and
the rest goes on. README.md beside this file explains the labels and the measures.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photo_labels import HALVES, Labels, Photograph, find_photograph, how_to_get, read_labels, read_photograph
from photo_scoring import Found, judge, ratio
from PIL import Image

from ovdet.detector import DEFAULT_MODEL, Detector
from ovdet.errors import InputError
from ovdet.files import write_whole
from ovdet.results import Detections
from ovdet.version import __version__
from ovdet.vlm.contrastive.imagenet_words import ImageNetWords
from ovdet.zeroshot.predict import ZeroShotDetector
from ovdet.zeroshot.proposals import load_finder

QUESTIONS = ("own", "all")


@dataclass(frozen=True)
class Loaded:
    """A photograph and its pixels, (H, W, 3) uint8 RGB."""

    photo: Photograph
    image: np.ndarray


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(arguments)
    labels = read_labels()
    try:
        loaded = load_half(options.half, labels, options.photos)
        if not loaded:
            print("none of the photographs is here", file=sys.stderr)
            return 2
        if options.threads:
            torch.set_num_threads(options.threads)
        detector = with_proposer(Detector(options.model, options.device), options.proposer)
        report = measure(detector, loaded, labels.names_of(options.half), options.score, options.out)
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    report["protocol"] = protocol(options, labels, loaded, detector)
    report["summary"] = {question: summarise(report["photographs"], question, labels) for question in QUESTIONS}
    write(options.out / f"{options.half}.json", json.dumps(report, indent=1) + "\n")
    write(options.out / f"{options.half}.md", "\n".join(page(report)) + "\n")
    print("\n".join(table(report)))
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=HALVES, required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a model name or a checkpoint")
    parser.add_argument(
        "--proposer", type=Path, help="weights of pack_proposer.py: imagenet-words then looks closer at what it finds"
    )
    parser.add_argument(
        "--photos", type=Path, default=Path("outputs/photographs"), help="where Debian packages were unpacked"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/photographs-report"))
    parser.add_argument("--score", type=float, default=None, help="threshold; by default the model's own")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; by default torch's choice")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def with_proposer(detector: Detector, file: Path | None) -> Detector:
    """The same detector, its boxes corrected by a proposer if there is one.

    Raises:
        InputError: no such file, or a model that has no use for a proposer.
    """
    if file is None:
        return detector
    backbone = getattr(detector.predictor, "backbone", None)
    if not isinstance(backbone, ImageNetWords):
        raise InputError(f"--proposer is for imagenet-words; leave it out for {detector.name}")
    return Detector(ZeroShotDetector(backbone, device=backbone.mean.device, finder=load_finder(file, backbone)))


def load_half(half: str, labels: Labels, root: Path) -> list[Loaded]:
    """The photographs of one half that are here; says on stderr how to get the others."""
    photos = labels.half(half)
    files = {photo.id: find_photograph(photo, [root]) for photo in photos}
    missing = [photo for photo in photos if files[photo.id] is None]
    if missing:
        print(f"{len(missing)} of {len(photos)} photographs are not here; to get them:", file=sys.stderr)
        print("\n".join(how_to_get((photo.package for photo in missing), labels, root)), file=sys.stderr)
    return [Loaded(photo, read_photograph(photo, file)) for photo in photos if (file := files[photo.id])]


def measure(
    detector: Detector, loaded: Sequence[Loaded], all_names: list[str], score: float | None, out: Path
) -> dict[str, Any]:
    """Ask for every picture, judge, and save each picture with what was found drawn on it."""
    ask(detector, loaded[0].image, all_names, score)  # the first call also fills caches: not timed
    rows = []
    for item in loaded:
        row: dict[str, Any] = {"id": item.photo.id}
        for question in QUESTIONS:
            names = all_names if question == "all" else [*item.photo.names, *item.photo.absent]
            start, cpu_start = time.perf_counter(), time.process_time()
            detections = ask(detector, item.image, names, score)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            spent = {"seconds": round(seconds, 4), "cpu_seconds": round(cpu_seconds, 4)}
            row[question] = {**spent, **verdicts(item.photo, detections)}
            save_drawing(out / "pictures" / f"{item.photo.id}-{question}.jpg", item.image, detections)
        rows.append(row)
        print(f"{item.photo.id}: {'; '.join(line(row, question) for question in QUESTIONS)}", file=sys.stderr)
    return {"photographs": rows}


def ask(detector: Detector, image: np.ndarray, names: list[str], score: float | None) -> Detections:
    """Boxes and masks of one picture for these names."""
    return detector(image, names, score=score)


def verdicts(photo: Photograph, detections: Detections) -> dict[str, Any]:
    """What was found, missed and false, by name; numbers beside names are indices into `found`."""
    found = [
        Found(name, float(score), tuple(float(edge) for edge in box))
        for name, score, box in zip(detections.names, detections.scores, detections.boxes_xyxy, strict=True)
    ]
    objects = [(box.name, box.xyxy) for box in photo.objects]
    ignore = [(box.name, box.xyxy) for box in photo.ignore]
    verdict, loose = judge(found, objects, ignore), judge(found, objects, ignore, iou=0.3)
    blind = judge(found, objects, ignore, blind=True)
    return {
        "hits": [objects[k][0] for k, _ in sorted(verdict.hits)],
        "missed": [objects[k][0] for k in verdict.missed],
        "false_alarms": [found[index].name for index in verdict.false_alarms],
        "ignored": [found[index].name for index in verdict.ignored],
        "hits_at_iou_30": [objects[k][0] for k, _ in sorted(loose.hits)],
        "located_by_any_name": len(blind.hits),
        "found": [
            {"name": f.name, "score": round(f.score, 4), "box_xyxy": [round(edge, 1) for edge in f.xyxy]} for f in found
        ],
    }


def summarise(rows: Sequence[dict[str, Any]], question: str, labels: Labels) -> dict[str, Any]:
    """Add up one question over the pictures. Ratios are over objects or detections, not means over pictures."""
    answers = [row[question] for row in rows]
    hits = [name for answer in answers for name in answer["hits"]]
    objects = hits + [name for answer in answers for name in answer["missed"]]
    loose = sum(len(answer["hits_at_iou_30"]) for answer in answers)
    false_alarms = sum(len(answer["false_alarms"]) for answer in answers)
    known = [name for name in objects if name not in labels.not_in_imagenet]
    known_hits = [name for name in hits if name not in labels.not_in_imagenet]
    return {
        "photographs": len(answers),
        "objects": len(objects),
        "recall_iou_50": ratio(len(hits), len(objects)),
        "recall_iou_30": ratio(loose, len(objects)),
        "objects_in_imagenet": len(known),
        "recall_iou_50_in_imagenet": ratio(len(known_hits), len(known)),
        "recall_iou_50_not_in_imagenet": ratio(len(hits) - len(known_hits), len(objects) - len(known)),
        "located_by_any_name": ratio(sum(answer["located_by_any_name"] for answer in answers), len(objects)),
        "precision": ratio(len(hits), len(hits) + false_alarms),
        "false_alarms_per_photograph": ratio(false_alarms, len(answers)),
        "seconds_per_photograph_median": statistics.median(answer["seconds"] for answer in answers),
        "cpu_seconds_per_photograph_median": statistics.median(answer["cpu_seconds"] for answer in answers),
    }


def protocol(
    options: argparse.Namespace, labels: Labels, loaded: Sequence[Loaded], detector: Detector
) -> dict[str, Any]:
    """Everything that is needed to say what these numbers are of."""
    backbone = getattr(detector.predictor, "backbone", None)
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "half": options.half,
        "proposer_sha256": None
        if options.proposer is None
        else hashlib.sha256(options.proposer.read_bytes()).hexdigest(),
        "model": detector.name,
        "model_fingerprint": getattr(backbone, "fingerprint", None),
        "labels_sha256": labels.sha256,
        "photographs": [item.photo.id for item in loaded],
        "photographs_missing": len(labels.half(options.half)) - len(loaded),
        "names_in_all": len(labels.names_of(options.half)),
        "score": options.score,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "ovdet": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def line(row: dict[str, Any], question: str) -> str:
    """One picture and one question in words."""
    answer = row[question]
    return (
        f"{question}: {len(answer['hits'])} of {len(answer['hits']) + len(answer['missed'])} found, "
        f"{len(answer['false_alarms'])} false, {answer['seconds']:.2f} s"
    )


def table(report: dict[str, Any]) -> list[str]:
    """The summary as a Markdown table, one column a question."""
    summary = report["summary"]
    lines = ["| measure | own names | all names |", "| --- | ---: | ---: |"]
    for key in summary["own"]:
        cells = (summary[question][key] for question in QUESTIONS)
        texts = ("-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append(f"| {key} | {' | '.join(texts)} |")
    return lines


def page(report: dict[str, Any]) -> list[str]:
    """The summary, then for each question what was found, missed and wrong in each photograph, in Markdown."""
    lines = table(report)
    for question in QUESTIONS:
        lines += ["", f"Asked for {question} names:", ""]
        lines += ["| photograph | found | missed | false alarms |", "| --- | --- | --- | --- |"]
        for row in report["photographs"]:
            cells = (counted(row[question][key]) for key in ("hits", "missed", "false_alarms"))
            lines.append(f"| {row['id']} | {' | '.join(cells)} |")
    return lines


def counted(names: Sequence[str]) -> str:
    """Names in order of first mention, with how often each occurs if more than once: `cat, bear x2`."""
    counts = collections.Counter(names)
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in counts.items())


def write(file: Path, text: str) -> None:
    """Write a text file and say where it is."""
    write_whole(file, text.encode())
    print(f"written: {file}", file=sys.stderr)


def save_drawing(file: Path, image: np.ndarray, detections: Detections, longest_side: int = 1000) -> None:
    """Write the picture with what was found on it, no larger than `longest_side` pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn = Image.fromarray(detections.draw(image))
    drawn.thumbnail((longest_side, longest_side))
    drawn.save(file, quality=88)


if __name__ == "__main__":
    sys.exit(main())
