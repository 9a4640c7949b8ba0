"""Results as files that other tools read: COCO, YOLO, CSV.

Each format is a context manager that lends a function to write one result with. None holds the results, so that
a long video needs no more memory than a short one. A file appears whole when the block ends well; an error in the
block leaves none.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from ovdet.errors import InputError
from ovdet.files import replacing
from ovdet.results import Detections

CSV_COLUMNS = ("source", "frame", "time_s", "width", "height", "label", "name", "score", "x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Place:
    """Which picture a result belongs to.

    Attributes:
        stem: name of the picture among the outputs, without suffix; the frames of a video share it.
        frame: index in the video, from 0; None for a picture.
        time_s: of the frame, in seconds from the start of the video.
    """

    stem: str
    frame: int | None = None
    time_s: float | None = None

    @property
    def frame_stem(self) -> str:
        """A name of its own for every frame: clip_000012."""
        return self.stem if self.frame is None else f"{self.stem}_{self.frame:06d}"

    def as_fields(self) -> dict[str, Any]:
        """The frame's fields for a record; nothing for a picture."""
        if self.frame is None:
            return {}
        return {"frame": self.frame, "time_s": None if self.time_s is None else round(self.time_s, 3)}


Write = Callable[[Detections, Place], None]
Writer = Callable[[Path, Sequence[str]], AbstractContextManager[Write]]


@contextmanager
def coco_writer(folder: Path, names: Sequence[str]) -> Iterator[Write]:
    """Write one COCO data set, `results.coco.json`: categories with ids from 1 in the order of the names.

    Annotations carry a `score`: the list `annotations` alone is a COCO result file. A frame of a video is an image
    whose `file_name` is the video's, with `frame` and `time_s` beside it.
    """
    counts = {"images": 0, "annotations": 0}
    # Images and annotations come mixed and must stand apart: annotations wait in a file of their own.
    with (
        replacing(folder / "results.coco.json") as path,
        path.open("w", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as waiting,
    ):
        categories = [{"id": index, "name": name} for index, name in enumerate(names, start=1)]
        out.write(f'{{"info": {{"description": "found by ovdet"}},\n"categories": {json.dumps(categories)},\n')
        out.write('"images": [')

        def write(result: Detections, place: Place) -> None:
            height, width = result.size_hw
            image = {"id": counts["images"] + 1, "file_name": result.source or place.stem, **place.as_fields()}
            out.write(",\n" if counts["images"] else "\n")
            json.dump({**image, "width": width, "height": height}, out)
            counts["images"] += 1
            for row in result.to_coco(image_id=counts["images"]):
                waiting.write(",\n" if counts["annotations"] else "\n")
                counts["annotations"] += 1
                json.dump({"id": counts["annotations"], **row, "area": _area(row), "iscrowd": 0}, waiting)

        yield write
        out.write('],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, out)
        out.write("]}\n")


@contextmanager
def yolo_writer(folder: Path, names: Sequence[str], *, scores: bool = False) -> Iterator[Write]:
    """Write `labels/STEM.txt` for each picture, and `classes.txt` and `data.yaml` with the names.

    A line is: label, then centre x, centre y, width and height as fractions of the picture; a score at the end
    only if asked for, since training code takes lines of five numbers. A picture without objects gets an empty file.
    """
    for line_end in "\r\n":
        if bad := [name for name in names if line_end in name]:
            raise InputError(f"the class name {bad[0]!r} has a line break, which YOLO's classes.txt cannot hold")
    with replacing(folder / "classes.txt") as path:
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    with replacing(folder / "data.yaml") as path:  # JSON texts are YAML texts
        path.write_text(
            "names:\n" + "".join(f"  - {json.dumps(name, ensure_ascii=False)}\n" for name in names), encoding="utf-8"
        )

    def write(result: Detections, place: Place) -> None:
        height, width = result.size_hw
        lines = []
        for label, score, (x1, y1, x2, y2) in zip(result.labels, result.scores, result.boxes_xyxy, strict=True):
            box_cxcywh_norm = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            numbers = [*box_cxcywh_norm, score] if scores else box_cxcywh_norm
            lines.append(" ".join([str(label), *(f"{number:.6f}" for number in numbers)]) + "\n")
        with replacing(folder / "labels" / f"{place.frame_stem}.txt") as path:
            path.write_text("".join(lines), encoding="utf-8")

    yield write


@contextmanager
def csv_writer(folder: Path, names: Sequence[str]) -> Iterator[Write]:
    """Write `results.csv`, one row a detection, boxes in pixels of the picture; `CSV_COLUMNS` are its columns."""
    with (
        replacing(folder / "results.csv") as path,
        path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,  # file names may be any bytes
    ):
        table = csv.DictWriter(out, CSV_COLUMNS, restval="")
        table.writeheader()

        def write(result: Detections, place: Place) -> None:
            height, width = result.size_hw
            for found in result.to_dict()["detections"]:
                x1, y1, x2, y2 = found["box_xyxy"]
                picture = {"source": result.source or place.stem, "width": width, "height": height}
                box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
                thing = {key: found[key] for key in ("label", "name", "score")}
                table.writerow({**picture, **place.as_fields(), **thing, **box})

        yield write


FORMATS: dict[str, Writer] = {
    "coco": coco_writer,
    "yolo": yolo_writer,
    "yolo-score": partial(yolo_writer, scores=True),
    "csv": csv_writer,
}
"""What `--format` takes."""


def parse_formats(text: str) -> list[str]:
    """The formats in "coco,yolo,csv", each once.

    Raises:
        InputError: an unknown format, or two that write the same file.
    """
    chosen = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for name in chosen:
        if name not in FORMATS:
            raise InputError(f"unknown format {name!r}; choose from {', '.join(FORMATS)}")
    if not chosen:
        raise InputError(f"no format given; choose from {', '.join(FORMATS)}")
    if {"yolo", "yolo-score"} <= set(chosen):
        raise InputError("yolo and yolo-score write the same files; choose one")
    return chosen


def _area(row: dict[str, Any]) -> float:
    """Pixels of the mask, or of the box if there is none."""
    if "segmentation" in row:
        return float(coco_mask.area(row["segmentation"]))
    _, _, width, height = row["bbox"]
    return float(width * height)
