"""The run of `ovdet segment`: pictures by examples, videos followed frame by frame, masks and soft maps as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image

from ovdet.cli.answers import AnswerLog
from ovdet.cli.job import Item, Job, fault_of, file_safe
from ovdet.data.davis import write_label_png
from ovdet.errors import InputError, OvdetError
from ovdet.files import replacing
from ovdet.formats import Place, Write
from ovdet.media import Source
from ovdet.results import Detections
from ovdet.seggpt.examples import Example
from ovdet.seggpt.follow import ClipFollower
from ovdet.seggpt.postprocess import MaskRules
from ovdet.seggpt.predict import Prompt, SoftMaps
from ovdet.segmenter import Segmenter

ByWords = Callable[[np.ndarray], Example | None]
"""Looks for words in a picture, (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class Wanted:
    """What is to be segmented.

    Attributes:
        names: of all classes, in the order of their labels.
        examples: of other pictures, for all sources.
        firsts: video's path -> what is known of its first frame.
        words: name -> looks for it in a video's frames until it is found.
        stamp: what answers depend on beside the source, for `--resume`.
    """

    names: tuple[str, ...]
    examples: tuple[Example, ...]
    firsts: Mapping[Path, Example]
    words: Mapping[str, ByWords]
    stamp: Mapping[str, Any]


class SegmentJob(Job):
    """One run of `ovdet segment`.

    Args:
        segmenter: that looks.
        wanted: what to segment.
        prompt: of the examples for pictures, or None where there are none but videos.
        rules: how masks are made of soft maps.
        sources: what to look at.
        options: of the command line.
        stdout: for lines of JSON, or None.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        wanted: Wanted,
        prompt: Prompt | None,
        rules: MaskRules,
        sources: Sequence[Source],
        options: argparse.Namespace,
        *,
        stdout: TextIO | None,
    ) -> None:
        writes = [] if options.no_mask_files else [mask_writer(options.out / "masks", things=options.mode == "similar")]
        super().__init__(self._look, wanted.names, sources, options, stdout=stdout, writes=writes)
        self.segmenter, self.desk = segmenter, segmenter.desk
        self.wanted, self.prompt, self.rules = wanted, prompt, rules
        self._logs: list[AnswerLog] = []
        self._soft: dict[int, tuple[tuple[str, ...], SoftMaps]] = {}  # id of the image -> names, and their maps

    def run(self, formats: Sequence[str]) -> int:
        """As `Job.run`; what a resumed run would need of a video is removed once all sources had their turn."""
        try:
            code = super().run(formats)
        finally:
            for log in self._logs:
                log.close()
        if not self.stop.is_set():
            for log in self._logs:
                if log.is_whole:
                    log.path.unlink(missing_ok=True)
        return code

    def answer_frames(self, items: Iterator[Item]) -> Iterator[tuple[Item, Detections]]:
        """Follow what is wanted through a video, or look at each frame by itself if it shall remember none."""
        log: AnswerLog | None = None
        for item in items:
            if log is None:
                first = self.wanted.firsts.get(item.source.path)
                if first is None and not self.wanted.words and not self.options.memory:
                    yield from super().answer_frames(_chained(item, items))
                    return
                log, follower = self._log_of(item), self._follower()
                reading = True
            stored = log.read() if reading else None
            reading = stored is not None
            try:
                found = self._replay(item, follower, *stored) if stored else self._step(item, follower, log)
            except Exception as error:
                raise error if isinstance(error, OvdetError) else fault_of(item, error) from error
            yield item, replace(found, source=str(item.source))
        if log is not None:
            log.is_whole = not self.stop.is_set()

    def _follower(self) -> ClipFollower:
        options = self.options
        follower = ClipFollower(
            self.desk,
            memory=options.memory,
            mode=options.mode,
            ensemble=options.ensemble,
            rules=self.rules,
            max_dets=options.max_dets,
            mirror=bool(options.mirror),
        )
        for example in self.wanted.examples:
            follower.give(example)
        return follower

    def _step(self, item: Item, follower: ClipFollower, log: AnswerLog) -> Detections:
        """Answer a frame: what is known of it, else what the follower finds; and write the answer down."""
        known = self._known(item, follower)
        if known is not None:
            found = follower.start(item.image, known)
        elif follower.names:
            found = follower(item.image)
        else:
            found = Detections.empty((), item.image.shape[:2], masks=True, model=self.desk.name)
        if self.options.soft and follower.seen is not None:
            self._soft[id(item.image)] = follower.seen
        found = found.with_names(self.wanted.names)
        log.write(found, [] if known is None else list(known.names))
        return found

    def _known(self, item: Item, follower: ClipFollower) -> Example | None:
        """The mask of the first frame, and things that words find, of those that they have not found before."""
        first = self.wanted.firsts.get(item.source.path) if item.place.frame == 0 else None
        looks = [look for name, look in self.wanted.words.items() if name not in follower.names]
        known = [first, *(look(item.image) for look in looks)]
        return Example.joined([example for example in known if example is not None])

    def _replay(self, item: Item, follower: ClipFollower, found: Detections, given: list[str]) -> Detections:
        """Bring the follower to where it was after a frame that an earlier run answered."""
        if found.size_hw != item.image.shape[:2]:
            raise InputError(f"{item.source} has changed since this run was begun; leave out --resume to begin anew")
        masks = [(name, found.masks[found.names.index(name)]) for name in given]
        if masks:
            follower.give(Example.of_masks(item.image, masks))
            found_only = found[np.array([name not in given for name in found.names], bool)]
        else:
            found_only = found
        follower.remember(item.image, found_only)
        return found

    def _log_of(self, item: Item) -> AnswerLog:
        facts = item.source.path.stat() if item.source.kind == "video" else None
        stamp = {
            **self.wanted.stamp,
            "source": str(item.source.path),
            "bytes": facts and facts.st_size,
            "changed_ns": facts and facts.st_mtime_ns,
        }
        path = self.options.out / f"{item.place.stem}.answers.jsonl"
        self._logs.append(AnswerLog(path, stamp, self.wanted.names, resume=self.options.resume))
        return self._logs[-1]

    def _look(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Answer pictures, each by itself."""
        if self.prompt is None:
            raise InputError("only a video has a first frame; give --example for pictures")
        results = []
        for image, soft_maps in zip(images, self.desk.look(images, self.prompt), strict=True):
            if self.options.soft:
                self._soft[id(image)] = self.prompt.names, soft_maps
            found = self.segmenter.decide(image, soft_maps, self.prompt, self.rules, self.options.max_dets)
            results.append(found.with_names(self.wanted.names))
        return results

    def _emit(self, item: Item, result: Detections) -> None:
        super()._emit(item, result)
        if id(item.image) in self._soft:
            names, maps = self._soft.pop(id(item.image))
            for name, soft in zip(names, maps, strict=True):
                label = self.wanted.names.index(name)
                file = _file_of(self.options.out / "soft", item.place, f"_{label}_{file_safe(name)}")
                with replacing(file) as temporary:
                    Image.fromarray(np.rint(soft * 255).astype(np.uint8)).save(temporary, "PNG")


def mask_writer(folder: Path, *, things: bool) -> Write:
    """Writes FOLDER/PICTURE.png or FOLDER/CLIP/00012.png, numbers in DAVIS's palette, 0 for nothing.

    Args:
        folder: of the files.
        things: number the things of a picture, surest first, instead of their classes.
    """

    def write(result: Detections, place: Place) -> None:
        write_label_png(_file_of(folder, place), result.label_map(things=things))

    return write


def _file_of(folder: Path, place: Place, tail: str = "") -> Path:
    if place.frame is None:
        return folder / f"{place.stem}{tail}.png"
    return folder / place.stem / f"{place.frame:05d}{tail}.png"


def _chained(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest
