"""One run over pictures and video: read, answer, draw, write, one by one; a bad one does not stop the others."""

from __future__ import annotations

import argparse
import itertools
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO, TypeAlias, TypeVar

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ovdet.cli.options import Plan
from ovdet.cli.terminal import BAD_INPUT, FAULT, OutputFailed, Stop, gentle_interrupt, say_error, write_json_line
from ovdet.draw import draw_detections
from ovdet.errors import InputError, OvdetError
from ovdet.files import write_problem
from ovdet.formats import FORMATS, Place, Write
from ovdet.media import Source, VideoReader, VideoWriter, read_picture, write_picture, write_video
from ovdet.results import Detections

T = TypeVar("T")
Answer: TypeAlias = Callable[[Sequence[np.ndarray]], list[Detections]]
"""What is found in each of some pictures, (H, W, 3) uint8 RGB of any sizes."""
_log = logging.getLogger(__name__)
_DRAWN_AS = {".jpg": ".jpg", ".jpeg": ".jpg", ".jfif": ".jpg", ".webp": ".webp"}
_LONGEST_SIDE = {".jpg": 65500, ".webp": 16383, ".png": 2**31}


class PictureFault(OvdetError):
    """The model failed on a picture: our fault or the machine's, not the picture's."""


@dataclass(frozen=True)
class Item:
    """A picture or frame on its way: (H, W, 3) uint8 RGB, whose it is and what it is called among the outputs."""

    image: np.ndarray
    source: Source
    place: Place


class Job:
    """Everything that one run shares; `run` does it and says how it went by an exit code.

    Args:
        answer: looks at pictures.
        names: of the classes of the answers.
        sources: what to look at.
        options: of the command line, those of `add_run_options` at least.
        stdout: for lines of JSON, or None.
        writes: what else is written of every result.
    """

    def __init__(
        self,
        answer: Answer,
        names: Sequence[str],
        sources: Sequence[Source],
        options: argparse.Namespace,
        *,
        stdout: TextIO | None,
        writes: Sequence[Write] = (),
    ) -> None:
        self.answer, self.names, self.sources, self.options = answer, names, sources, options
        self.stdout = stdout
        self.stop = Stop()
        self.code = 0
        self._stems = StemBook()
        self._inputs = {source.path.resolve() for source in sources if source.kind != "camera"}
        self._writes = list(writes)

    def look(self, items: Sequence[Item]) -> list[Detections]:
        """What is found in each of some pictures or frames."""
        return self.answer([item.image for item in items])

    def record(self, result: Detections) -> dict[str, Any]:
        """What is told of a result as JSON; "source" comes first."""
        return result.to_dict()

    def answer_frames(self, items: Iterator[Item]) -> Iterator[tuple[Item, Detections]]:
        """Look at the frames of one video, no more than a batch ahead.

        Raises:
            OvdetError: the model failed on a frame.
        """
        for batch in batches(items, self.options.batch_size):
            for item, result in self._predict(batch):
                if isinstance(result, OvdetError):
                    raise result
                yield item, result

    def run(self, formats: Sequence[str]) -> int:
        """Look at every source and finish the result files; the exit code is 0, 1 or 2."""
        with ExitStack() as stack:
            self._writes += [stack.enter_context(FORMATS[name](self.options.out, self.names)) for name in formats]
            bar = stack.enter_context(tqdm(total=len(self.sources), unit="source", disable=_quiet(self.sources)))
            for kind, group in itertools.groupby(self.sources, key=lambda source: source.kind):
                if kind == "picture":
                    self._pictures(group, bar)
                else:
                    self._videos(group, bar)
        if self.options.show:
            with suppress(cv2.error):
                cv2.destroyAllWindows()
        return self.code

    def _pictures(self, sources: Iterable[Source], bar: tqdm) -> None:
        for batch in batches(self._until_stopped(sources), self.options.batch_size):
            start = time.perf_counter()
            items = [item for source in batch if (item := self._read(source)) is not None]
            for item, result in self._predict(items):
                if isinstance(result, OvdetError):
                    self._report(result)
                    continue
                written = None
                try:
                    written = self._save_picture(item, result)
                except OvdetError as error:
                    self._report(error)
                self._emit(item, result)
                seconds = (time.perf_counter() - start) / len(batch)
                goal = f" -> {written}" if written else ""
                _log.info("%s: %s (%.2f s)%s", item.source, summary(Counter(result.names)), seconds, goal)
            bar.update(len(batch))

    def _read(self, source: Source) -> Item | None:
        try:
            return Item(read_picture(source.path), source, Place(self._stems.claim(source.path.stem)))
        except InputError as error:
            self._report(error)
            return None

    def _predict(self, items: Sequence[Item]) -> list[tuple[Item, Detections | OvdetError]]:
        """Results of a batch; if the batch fails, its pictures one by one, so that only the culprit is lost."""
        try:
            results = self.look(items) if items else []
        except Exception as error:
            if len(items) > 1:
                return [pair for item in items for pair in self._predict([item])]
            return [(items[0], fault_of(items[0], error))]
        return [(item, replace(result, source=str(item.source))) for item, result in zip(items, results, strict=True)]

    def _save_picture(self, item: Item, result: Detections) -> Path | None:
        """Draw and save a picture and its crops; the path of the drawn one."""
        if self.options.save_crops:
            self._save_crops(item, result)
        if self.options.no_save and not self.options.show:
            return None
        drawn = draw_detections(item.image, result)
        self._show(drawn, wait_ms=0)
        if self.options.no_save:
            return None
        suffix = _DRAWN_AS.get(item.source.path.suffix.lower(), ".png")
        if max(item.image.shape[:2]) > _LONGEST_SIDE[suffix]:
            suffix = ".png"
        path = self._free_of_inputs(self.options.out / f"{item.place.stem}{suffix}")
        write_picture(path, drawn)
        return path

    def _save_crops(self, item: Item, result: Detections) -> None:
        height, width = result.size_hw
        for index, (x1, y1, x2, y2) in enumerate(result.boxes_xyxy):
            left, top = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
            right, bottom = max(int(np.ceil(x2)), left + 1), max(int(np.ceil(y2)), top + 1)
            folder = f"{result.labels[index]}_{file_safe(result.names[index])}"
            path = self.options.out / "crops" / folder / f"{item.place.frame_stem}_{index}.png"
            write_picture(self._free_of_inputs(path), np.ascontiguousarray(item.image[top:bottom, left:right]))

    def _videos(self, sources: Iterable[Source], bar: tqdm) -> None:
        for source in self._until_stopped(sources):
            try:
                self._video(source)
            except OutputFailed:
                raise
            except OvdetError as error:
                self._report(error)
            bar.update(1)

    def _video(self, source: Source) -> None:
        """Look at each frame as it is read; the drawn video is whole also if Ctrl-C ends it early."""
        stem = self._stems.claim(f"camera{source.path}" if source.kind == "camera" else source.path.stem, video=True)
        path = None if self.options.no_save else self._free_of_inputs(self.options.out / f"{stem}.mp4")
        found: Counter[str] = Counter()
        frames, start = 0, time.perf_counter()
        with (
            VideoReader(source) as reader,
            write_video(path, reader.fps) if path else nullcontext() as writer,
            tqdm(total=reader.count or None, unit="frame", leave=False, disable=None, file=sys.stderr) as bar,
        ):
            items = (Item(frame.image, source, Place(stem, frame.index, frame.time_s)) for frame in reader)
            for item, result in self.answer_frames(self._until_stopped(items)):
                self._frame(item, result, writer)
                found.update(result.names)
                frames += 1
                bar.update(1)
        goal = f" -> {path}" if path else ""
        seconds = time.perf_counter() - start
        _log.info("%s: %d frames, %s (%.1f s)%s", source, frames, summary(found), seconds, goal)

    def _frame(self, item: Item, result: Detections, writer: VideoWriter | None) -> None:
        if self.options.save_crops:
            self._save_crops(item, result)
        if writer is not None or self.options.show:
            drawn = draw_detections(item.image, result)
            self._show(drawn, wait_ms=1)
            if writer is not None:
                writer.write(drawn)
        self._emit(item, result)

    def _emit(self, item: Item, result: Detections) -> None:
        """Add a result to the files and the stream that gather all of them; if that fails, the run fails."""
        try:
            for write in self._writes:
                write(result, item.place)
        except OSError as error:
            raise OutputFailed(str(write_problem("the result files", error))) from error
        except OvdetError as error:
            raise OutputFailed(str(error)) from error
        if self.stdout is not None:
            record = self.record(result)
            write_json_line({"source": record.pop("source"), **item.place.as_fields(), **record}, self.stdout)

    def _show(self, image: np.ndarray, *, wait_ms: int) -> None:
        """Show a picture in a window if asked to; q ends the run."""
        if not self.options.show:
            return
        try:
            cv2.imshow("ovdet", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            key = cv2.waitKey(wait_ms) & 0xFF
        except cv2.error as error:
            raise InputError("--show: no window can be opened here; leave it out") from error
        if key == ord("q"):
            self.stop.set()

    def _until_stopped(self, things: Iterable[T]) -> Iterator[T]:
        """Yield things until the run is to stop."""
        things = iter(things)
        while not self.stop.is_set():
            try:
                yield next(things)
            except StopIteration:
                return

    def _free_of_inputs(self, path: Path) -> Path:
        if path.resolve() in self._inputs:
            raise InputError(f"{path} would be overwritten, but it is a source itself; choose another --out")
        return path

    def _report(self, error: OvdetError) -> None:
        say_error(str(error), error)
        self.code = max(self.code, FAULT if isinstance(error, PictureFault) else BAD_INPUT)


def run_job(job: Job, plan: Plan) -> int:
    """Run a job so that a first Ctrl-C ends it in good order; gives the exit code."""
    with gentle_interrupt("stopping in good order; Ctrl-C again stops at once") as job.stop:
        code = job.run(plan.formats)
    return job.stop.code or max(code, plan.code)


class StemBook:
    """Gives every source a name of its own among the outputs: photo, photo-2, photo-3 ..."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._videos: set[str] = set()
        self._numbered: set[str] = set()  # "clip" if "clip_000012" is taken, as a frame of clip would be called

    def claim(self, stem: str, *, video: bool = False) -> str:
        """The stem itself if it is free, else with a number; case makes no difference, as on many file systems.

        A video takes the names of its frames too: see `Place.frame_stem`.
        """
        candidates = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        chosen = next(name for name in candidates if self._is_free(name.casefold(), video))
        self._taken.add(chosen.casefold())
        self._numbered.add(_without_frame(chosen.casefold()))
        if video:
            self._videos.add(chosen.casefold())
        return chosen

    def _is_free(self, name: str, video: bool) -> bool:
        is_frame = _without_frame(name) in self._videos or (video and name in self._numbered)
        return name not in self._taken and not is_frame


def _without_frame(stem: str) -> str:
    """What comes before a frame's number: "clip" of "clip_000012", nothing of "photo"."""
    match = re.fullmatch(r"(.+)_\d{6,}", stem, re.DOTALL)
    return match[1] if match else ""


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size`, read no further than the list at hand."""
    things = iter(things)
    while batch := list(itertools.islice(things, size)):
        yield batch


def summary(found: Counter[str]) -> str:
    """What was found, most frequent first: "2 x cat, 1 x coffee cup"; long names are cut short."""
    return ", ".join(f"{count} x {cut_short(name)}" for name, count in found.most_common()) or "nothing found"


def cut_short(name: str, longest: int = 60) -> str:
    """A name or sentence for a message: its beginning and "...", if it is long."""
    return name if len(name) <= longest else name[:longest].rstrip() + "..."


def file_safe(name: str) -> str:
    """A class name as the name of a folder on any system."""
    return re.sub(r'[\x00-\x1f\\/:*?"<>|]', "_", name)[:60].strip(". ") or "_"


def fault_of(item: Item, error: Exception) -> OvdetError:
    """What to say when the model failed on a picture."""
    where = f"{item.source}" if item.place.frame is None else f"{item.source} frame {item.place.frame}"
    if isinstance(error, OvdetError):
        return InputError(f"{where}: {error}")
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return InputError(f"{where}: not enough memory for this picture; make it smaller or use another --device")
    fault = PictureFault(f"{where}: the model failed ({type(error).__name__}: {error})")
    fault.__cause__ = error
    return fault


def _quiet(sources: Sequence[Source]) -> bool | None:
    """Whether to hide the bar over sources: for a single one, or (None) wherever stderr is no terminal."""
    return True if len(sources) == 1 else None
