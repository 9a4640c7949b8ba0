"""The third desk: examples and pictures in, `Detections` with masks out; and clips, followed from their first frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ovdet.detector import DEFAULT_MODEL as DEFAULT_DETECTOR
from ovdet.detector import Detector, Picture, answer_pictures, checkpoint_path, choose_device, load_picture, source_name
from ovdet.errors import InputError
from ovdet.examples import ExampleLike, Mask, make_example
from ovdet.layers.shipped import unknown_model
from ovdet.media import VideoReader
from ovdet.ops.masks import encode_masks
from ovdet.results import Detections
from ovdet.seggpt.candidates import LOWEST, MOST, choose, things_of_example
from ovdet.seggpt.examples import Example
from ovdet.seggpt.follow import MEMORY, ClipFollower, follow
from ovdet.seggpt.postprocess import MaskRules
from ovdet.seggpt.predict import Ensemble, Mode, Precision, Prompt, SegGPTSegmenter, SoftMaps
from ovdet.seggpt.prompts import TunedPrompt
from ovdet.seggpt.shipped import SHIPPED, load_shipped

DEFAULT_SEGMENTER = "stickers"


class Segmenter:
    """Segment pictures and video by examples: a picture and its mask say what to look for in every other picture.

    The model is loaded once, when this is made; nothing in it changes afterwards but that a box as a mask loads the
    detector when it is first needed.

    Example:
        >>> segmenter = Segmenter()
        >>> result = segmenter("photo.png", [("example.png", "mask.png", "pear")])
        >>> result.names, result.scores, result.masks

    Args:
        model: "stickers" (for drawings, stickers and clip art; not photographs), the path of a file of
            tools/convert/seggpt.py (.pth, or compact .safetensors), or a desk of `ovdet.seggpt`.
        device: as torch names it, such as "cpu" or "cuda:0"; None takes a GPU if there is one.
        detector: turns boxes into masks, and finds candidates: a `Detector`, or what makes one; None is "stickers" for
            the segmenter of that name, else the default detector.
        batch_size: pictures looked at together; the result does not depend on it.
        precision: of the matrix products, for a model that is given by name or path.
        mirror: also look in the mirror, see `SegGPTSegmenter`; likewise. None is what suits the model: "stickers" does
            with pictures, unless a detector's candidates are scored, and not in videos.

    Raises:
        InputError: unknown model name, damaged checkpoint or one of another room, or a device that is not there.
    """

    def __init__(
        self,
        model: str | Path | SegGPTSegmenter = DEFAULT_SEGMENTER,
        device: str | None = None,
        *,
        detector: str | Path | Detector | None = None,
        batch_size: int = 1,
        precision: Precision = "fp32",
        mirror: bool | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.desk = load_segmenter(model, device) if isinstance(model, str | Path) else model
        if isinstance(model, str | Path):
            self.desk.batch_size, self.desk.precision = batch_size, precision
            self.desk.mirror = self.desk.mirror if mirror is None else mirror
        self.batch_size, self._mirror = batch_size, mirror
        self._detector, self._device = detector, device

    @property
    def name(self) -> str:
        """Of the model that answers."""
        return self.desk.name

    @cached_property
    def detector(self) -> Detector:
        """What turns boxes into masks and finds candidates; loaded when first asked for."""
        own = DEFAULT_SEGMENTER if self.name == DEFAULT_SEGMENTER else DEFAULT_DETECTOR
        given = self._detector or own
        return given if isinstance(given, Detector) else Detector(given, self._device)

    def example(
        self,
        picture: Picture,
        mask: Mask,
        names: str | Sequence[str] | None = None,
        *,
        resize: bool = False,
        color: str = "rgb",
    ) -> Example:
        """Take a picture and a mask of whichever form: file, array, COCO annotation or box.

        Args:
            picture: a path, a PIL image or a (H, W, 3) uint8 array.
            mask: a file or an array (binary, palette, colours); (COCO file, annotation id); or x1, y1, x2, y2 in
                pixels, which the detector turns into a mask.
            names: of the class; or of palette numbers 1, 2, ... or of colours, in order. None: the mask's own, else
                "thing".
            resize: bring a mask of another size to the picture's instead of refusing it.
            color: order of an array's channels, "rgb" or "bgr".

        Raises:
            InputError: something cannot be read, or makes no example.
        """
        return make_example(picture, mask, names, detector=lambda: self.detector, resize=resize, color=color)

    def learn(
        self,
        examples: Sequence[ExampleLike] | Prompt,
        *,
        mode: Mode = "semantic",
        ensemble: Ensemble = "feature",
        together: bool = False,
        candidates: Literal["detect"] | None = None,
    ) -> Prompt:
        """Compute once what examples give for any number of pictures; give the result in their place.

        Args:
            examples: (picture, mask) or (picture, mask, name), each as `example` takes it, or what that gave. Each
                may show other classes; those of one class are joined.
            mode: "semantic" asks for all of a class, one mask each; "instance" for the very things of the example;
                "similar" for all things of the class, a mask for each connected part.
            ensemble: of several examples of one class: "feature" (better, time grows with them) or "spatial" (tiled
                into one picture).
            together: paint all classes in one pass, each in a colour of its own: faster, less exact.
            candidates: "detect" gives masks of the detector that look like the example and that the model paints too,
                instead of all that the model paints: surer that it is the thing, for the detector's time.

        Raises:
            InputError: no example, or one that cannot be used.
            CapabilityError: the detector takes no pictures as classes.
        """
        if candidates not in ("detect", None):
            raise InputError(f"candidates must be 'detect' or None, got {candidates!r}")
        if isinstance(examples, Prompt):
            if candidates and examples.rows is None:
                raise InputError("this prompt was learned without candidates; give candidates to learn")
            return examples
        made = [self._taken(each, place) for place, each in enumerate(examples)]
        mirror = self._mirror if candidates is None else bool(self._mirror)
        prompt = self.desk.learn(made, mode=mode, ensemble=ensemble, together=together, mirror=mirror)
        return replace(prompt, rows=self._rows(made, prompt.names)) if candidates else prompt

    def learn_tuned(self, prompt: str | Path | TunedPrompt, *, mode: Mode | None = None) -> Prompt:
        """Take a prompt that in-context tuning made for this model, in the place of examples.

        Args:
            prompt: file of tools/convert/seggpt.py, or what `TunedPrompt.load` gave.
            mode: see `learn`; None is what it was tuned for.

        Raises:
            InputError: it cannot be read, or was tuned for another model.
        """
        tuned = prompt if isinstance(prompt, TunedPrompt) else TunedPrompt.load(prompt)
        return self.desk.learn_tuned(tuned, mode)

    def _rows(self, examples: Sequence[Example], names: Sequence[str]) -> Tensor:
        """(K, D): for each class the mean of what the detector takes for its things in all examples, as long as one."""
        shown = {}
        owners = []
        for example in examples:
            for index, name in enumerate(example.names):
                for box_xyxy in things_of_example(example.labels == index + 1):
                    shown[str(len(owners))] = (example.image, box_xyxy)
                    owners.append(names.index(name))
        rows = self.detector.vocabulary([], shown)[1].float()
        place = torch.tensor(owners, device=rows.device)
        summed = rows.new_zeros(len(names), rows.shape[1]).index_add(0, place, rows)
        lengths = rows.new_zeros(len(names)).index_add(0, place, rows.norm(dim=1))  # N, where rows are unit vectors
        return normalize(summed, dim=1) * (lengths / torch.bincount(place, minlength=len(names)))[:, None]

    def decide(
        self,
        image: np.ndarray,
        soft_maps: SoftMaps,
        prompt: Prompt,
        rules: MaskRules | None = None,
        max_dets: int = 100,
    ) -> Detections:
        """Masks of one picture out of its soft maps, and out of the detector's if the prompt wants candidates.

        Args:
            image: (H, W, 3) uint8 RGB.
            soft_maps: of `SegGPTSegmenter.look`.
            prompt: of `learn`.
            rules: how masks are made; with candidates, `threshold` is of the score.
            max_dets: most masks, surest first.
        """
        if prompt.rows is None:
            return self.desk.decide(soft_maps, prompt, rules, max_dets)
        names = [str(label) for label in range(len(prompt.names))]  # what the detector learned of a name must not count
        most = MOST * len(names)
        found = self.detector.predictor.predict([image], names, prompt.rows, score_threshold=LOWEST, max_dets=most)[0]
        if found.rles is None:
            found = replace(found, rles=tuple(encode_masks(self.detector.masks(image, found.boxes_xyxy))))
        return choose(soft_maps, found, prompt, rules, max_dets, self.name)

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, source: Picture, examples: Sequence[ExampleLike] | Prompt, **options: Any
    ) -> Detections: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, source: list[Picture] | tuple[Picture, ...], examples: Sequence[ExampleLike] | Prompt, **options: Any
    ) -> list[Detections]: ...
    @overload
    def __call__(
        self, source: Iterable[Picture], examples: Sequence[ExampleLike] | Prompt, **options: Any
    ) -> Iterator[Detections]: ...
    def __call__(
        self,
        source: Picture | Iterable[Picture],
        examples: Sequence[ExampleLike] | Prompt,
        *,
        mode: Mode = "semantic",
        ensemble: Ensemble = "feature",
        together: bool = False,
        candidates: Literal["detect"] | None = None,
        rules: MaskRules | None = None,
        max_dets: int = 100,
        color: str = "rgb",
    ) -> Detections | list[Detections] | Iterator[Detections]:
        """Segment what the examples show.

        Args:
            source: one picture: a path, a PIL image or a (H, W, 3) uint8 array; a list of pictures; or any iterator.
            examples: as `learn` takes them, or what it gave.
            mode: see `learn`.
            ensemble: see `learn`.
            together: see `learn`.
            candidates: see `learn`.
            rules: threshold (with candidates, of the score), largest part, holes, smallest size, whether classes may
                overlap.
            max_dets: most masks a picture, surest first.
            color: order of an array's channels, "rgb" or "bgr".

        Returns:
            `Detections` with masks for one picture, a list for a list, a generator for an iterator; labels index the
            classes in the order in which the examples first show them.

        Raises:
            InputError: a picture or an example cannot be used.
        """
        prompt = self.learn(examples, mode=mode, ensemble=ensemble, together=together, candidates=candidates)

        def look(images: list[np.ndarray]) -> list[Detections]:
            maps = self.desk.look(images, prompt)
            return [self.decide(*each, prompt, rules, max_dets) for each in zip(images, maps, strict=True)]

        return answer_pictures(source, look, self.batch_size, color)

    def soft_masks(
        self, picture: Picture, examples: Sequence[ExampleLike] | Prompt, *, color: str = "rgb", **options: Any
    ) -> np.ndarray:
        """How sure the model is of each class at each pixel, before any threshold; options of `learn`.

        Returns:
            (K, H, W) float32 in [0, 1].
        """
        return self.desk.soft_masks([load_picture(picture, color)], self.learn(examples, **options))[0]

    def video(
        self,
        source: str | Path | Iterable[np.ndarray],
        *,
        first: Mask | Example | Mapping[int, Example] | None = None,
        names: str | Sequence[str] | None = None,
        examples: Sequence[ExampleLike] = (),
        memory: int = MEMORY,
        mode: Mode = "instance",
        ensemble: Ensemble = "feature",
        rules: MaskRules | None = None,
        max_dets: int = 100,
        resize: bool = False,
    ) -> Iterator[Detections]:
        """Follow things through a clip: by a mask of its first frame, by examples of other pictures, or by both.

        Args:
            source: of a video file, or frames (H, W, 3) uint8 RGB in order.
            first: mask of the first frame, as `example` takes it (a palette mask gives several things); or what is
                known of any frames, by position.
            names: of the things of `first`.
            examples: as `learn` takes them; they stay to the end, like the first frame.
            memory: past frames that serve as further examples; time grows with them, memory does not grow with the
                clip.
            mode: see `learn`.
            ensemble: see `learn`.
            rules: see `__call__`.
            max_dets: most masks a frame.
            resize: bring a first mask of another size to the frame's.

        Yields:
            `Detections` of each frame, the things of `first` as they were given in theirs.

        Raises:
            InputError: nothing says what to follow, or something cannot be used.
        """
        if first is None and not examples:
            raise InputError("nothing says what to follow; give a mask of the first frame, or examples")
        rule = {"mode": mode, "ensemble": ensemble, "rules": rules, "max_dets": max_dets}
        follower = ClipFollower(self.desk, memory=memory, mirror=bool(self._mirror), **rule)
        for place, each in enumerate(examples):
            follower.give(self._taken(each, place))
        return self._follow(source, follower, first, names, resize)

    def _follow(
        self,
        source: str | Path | Iterable[np.ndarray],
        follower: ClipFollower,
        first: Mask | Example | Mapping[int, Example] | None,
        names: str | Sequence[str] | None,
        resize: bool,
    ) -> Iterator[Detections]:
        if isinstance(source, str | Path):
            with VideoReader(source) as reader:
                frames = (frame.image for frame in reader)
                for found in self._follow(frames, follower, first, names, resize):
                    yield replace(found, source=source_name(source))
            return
        frames = iter(source)
        if isinstance(first, Mapping) or first is None:
            yield from follow(follower, frames, first or {})
            return
        head = list(itertools.islice(frames, 1))
        for image in head:
            first = first if isinstance(first, Example) else self.example(image, first, names, resize=resize)
        yield from follow(follower, itertools.chain(head, frames), {0: first})

    def _taken(self, given: ExampleLike, place: int) -> Example:
        if isinstance(given, Example):
            return given
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise InputError(
                f"example {place} must be (picture, mask) or (picture, mask, name), got {type(given).__name__}"
            )
        try:
            return self.example(*given)
        except InputError as error:
            raise InputError(f"example {place}: {error}") from error


def weights_path(model: str | Path) -> Path:
    """Where the weights lie that a model's name or checkpoint path stands for.

    Raises:
        InputError: unknown name (the nearest is suggested), or no such file.
    """
    path = checkpoint_path(model)
    if path is not None:
        return path
    if model in SHIPPED:
        return SHIPPED[str(model)].checked_path(str(model))
    raise unknown_model(model, SHIPPED)


def load_segmenter(model: str | Path, device: str | None = None) -> SegGPTSegmenter:
    """Load the desk that a model's name or checkpoint path stands for.

    Raises:
        InputError: unknown name (the nearest is suggested), missing or damaged file, or no such device.
    """
    target = choose_device(device)
    path = checkpoint_path(model)
    if path is not None:
        return SegGPTSegmenter.load(path, target)
    if model in SHIPPED:
        return load_shipped(str(model), target)
    raise unknown_model(model, SHIPPED)
