"""The front desk: pictures and names in, `Detections` out; the room that answers is chosen by the model's name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from ovdet.errors import CapabilityError, InputError
from ovdet.media import VIDEO_SUFFIXES, array_to_rgb, image_to_rgb, read_picture
from ovdet.results import Detections

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray"
DEFAULT_MODEL = "imagenet-words"


class Options(TypedDict, total=False):
    """What a call of `Detector` takes beside pictures and names."""

    score: float | None
    max_dets: int
    masks: bool
    batch_size: int
    color: str


class Predictor(Protocol):
    """What each room's desk promises, and all that `Detector` asks of it.

    `predict` keeps no state between calls: a picture's result depends on nothing else in its batch.
    """

    name: str

    def embed(self, names: Sequence[str]) -> Tensor:
        """Class embeddings (K, D) of K names."""

    def predict(
        self,
        images: Sequence[np.ndarray],
        names: Sequence[str],
        class_embeddings: Tensor,
        *,
        score_threshold: float | None = None,
        max_dets: int = 100,
        masks: bool = True,
    ) -> list[Detections]:
        """Detections of each (H, W, 3) uint8 RGB picture; sizes may differ."""


class Detector:
    """Find objects by name in pictures.

    The model is loaded once, when this is made; after that nothing in it changes, so that threads may share it.
    The names are an argument of each call and are never kept.

    Example:
        >>> detector = Detector()
        >>> result = detector("picture.jpg", ["cat", "coffee cup"])
        >>> result.names, result.scores, result.boxes_xyxy

    Args:
        model: "stickers" (for drawings, stickers and clip art; not photographs), a name from
            `ovdet.list_models()`, the path of a trained checkpoint (.pth, or compact .safetensors), or any object
            that keeps the promises of `Predictor`.
        device: as torch names it, such as "cpu" or "cuda:0"; None takes a GPU if there is one.

    Raises:
        InputError: unknown model name, damaged checkpoint, or a device that is not there.
    """

    def __init__(self, model: str | Path | Predictor = DEFAULT_MODEL, device: str | None = None) -> None:
        self.predictor: Predictor = load_predictor(model, device) if isinstance(model, str | Path) else model

    @property
    def name(self) -> str:
        """Of the model that answers."""
        return self.predictor.name

    @overload  # the first that fits counts: a str is an Iterable too
    def __call__(  # type: ignore[overload-overlap]
        self, source: Picture, names: Sequence[str], **options: Unpack[Options]
    ) -> Detections: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, source: list[Picture] | tuple[Picture, ...], names: Sequence[str], **options: Unpack[Options]
    ) -> list[Detections]: ...
    @overload
    def __call__(
        self, source: Iterable[Picture], names: Sequence[str], **options: Unpack[Options]
    ) -> Iterator[Detections]: ...
    def __call__(
        self,
        source: Picture | Iterable[Picture],
        names: Sequence[str],
        *,
        score: float | None = None,
        max_dets: int = 100,
        masks: bool = True,
        batch_size: int = 1,
        color: str = "rgb",
    ) -> Detections | list[Detections] | Iterator[Detections]:
        """Find every named thing.

        Args:
            source: one picture: a path, a PIL image (turned upright by its EXIF tag) or an array, (H, W, 3)
                uint8; or a list of pictures; or any iterator of pictures, such as `ovdet.media.read_video(path)`.
            names: what to look for; `labels` of the result index this list.
            score: lowest score that is kept, from 0 to 1; None takes the model's own calibrated threshold.
            max_dets: most detections a picture, best first.
            masks: whether to make masks.
            batch_size: pictures looked at together; the result does not depend on it.
            color: order of an array's channels: "rgb", or "bgr" for what OpenCV reads.

        Returns:
            `Detections` for one picture, a list for a list; for an iterator a generator, which reads no more
            than `batch_size` pictures ahead.

        Raises:
            InputError: a picture cannot be read, or a name or an option makes no sense.
        """
        from ovdet.vlm.prompts import check_names

        names = check_names(names)
        check_options(score, max_dets, batch_size)
        class_embeddings = self.predictor.embed(names)  # (K, D)

        def look(images: list[np.ndarray]) -> list[Detections]:
            return self.predictor.predict(
                images, names, class_embeddings, score_threshold=score, max_dets=max_dets, masks=masks
            )

        return answer_pictures(source, look, batch_size, color)

    def masks(self, picture: Picture, boxes_xyxy: ArrayLike, *, color: str = "rgb") -> np.ndarray:
        """Cut out the thing in each of N boxes.

        Args:
            picture: as `__call__` takes one.
            boxes_xyxy: (N, 4), pixels of the picture.
            color: order of an array's channels.

        Returns:
            (N, H, W) bool.

        Raises:
            InputError: the picture cannot be read, or boxes are not (N, 4).
            CapabilityError: this model cannot do it.
        """
        boxes = np.asarray(boxes_xyxy, dtype=np.float32)
        if boxes.shape != (len(boxes), 4) or not np.isfinite(boxes).all():
            raise InputError(f"boxes_xyxy must be (N, 4) finite numbers, got {boxes.shape}")
        cut_out = getattr(self.predictor, "masks_of_boxes", None)
        if cut_out is None:
            raise CapabilityError(f"{self.name} cannot turn boxes into masks")
        masks: np.ndarray = cut_out(load_picture(picture, color), boxes)
        return masks


def answer_pictures(
    source: Picture | Iterable[Picture],
    look: Callable[[list[np.ndarray]], list[Any]],
    batch_size: int = 1,
    color: str = "rgb",
) -> Any:
    """Answer one picture, a list of them or a stream, each in kind.

    Args:
        source: as `Detector` takes it.
        look: answers of some pictures, (H, W, 3) uint8 RGB; each answer is a dataclass with a `source`.
        batch_size: pictures looked at together.
        color: order of an array's channels.

    Returns:
        One answer for one picture, a list for a list, a generator for an iterator, which reads no more than
        `batch_size` pictures ahead.

    Raises:
        InputError: `source` is nothing of these, or a picture cannot be read.
    """

    def stream(pictures: Iterator[Picture], size: int) -> Iterator[Any]:
        while batch := list(itertools.islice(pictures, size)):
            answers = look([load_picture(picture, color) for picture in batch])
            for picture, answer in zip(batch, answers, strict=True):
                yield replace(answer, source=source_name(picture))

    if isinstance(source, str | Path | Image.Image | np.ndarray):
        return next(stream(iter([source]), 1))
    if isinstance(source, Tensor | bytes | bytearray) or not isinstance(source, Iterable):
        raise InputError(
            f"a picture must be a path, a PIL image or a (H, W, 3) uint8 array, got {type(source).__name__}; "
            "turn a tensor into an array first"
        )
    answers = stream(iter(source), batch_size)
    return list(answers) if isinstance(source, list | tuple) else answers


def load_picture(picture: Picture, color: str = "rgb") -> np.ndarray:
    """One picture of any kind as (H, W, 3) uint8 RGB; `color` is the order of an array's channels.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(picture, str | Path):
        if Path(picture).suffix.lower() in VIDEO_SUFFIXES:
            raise InputError(f"{picture} is a video; give its frames: detector(ovdet.media.read_video(path), names)")
        return read_picture(picture)
    if isinstance(picture, Image.Image):
        try:
            return image_to_rgb(picture, source_name(picture) or "the picture")
        except OSError as error:  # PIL reads the pixels only now
            raise InputError(f"{source_name(picture) or 'the picture'} is damaged or cut short ({error})") from error
    if isinstance(picture, np.ndarray):
        return array_to_rgb(picture, color)
    raise InputError(
        f"a picture must be a path, a PIL image or a (H, W, 3) uint8 array, got {type(picture).__name__}; "
        "turn a tensor into an array first"
    )


def source_name(picture: Picture) -> str | None:
    """Where a picture came from: its path, or None for what lives in memory."""
    if isinstance(picture, str | Path):
        return str(picture)
    return str(getattr(picture, "filename", "")) or None


def check_options(score: float | None, max_dets: int, batch_size: int) -> None:
    """Refuse options out of range.

    Raises:
        InputError: it names the option.
    """
    if score is not None and not 0 <= score <= 1:
        raise InputError(f"score must be from 0 to 1, got {score}")
    if max_dets < 1:
        raise InputError(f"max_dets must be at least 1, got {max_dets}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")


def load_predictor(model: str | Path, device: str | None = None) -> Predictor:
    """Load the desk that a model's name or checkpoint path stands for.

    Raises:
        InputError: unknown name (the nearest is suggested), missing or damaged file, or no such device.
    """
    target = choose_device(device)
    path = checkpoint_path(model)
    if path is not None:
        from ovdet.vild.predict import ViLDDetector

        return ViLDDetector.load(path, target)
    from ovdet.vild.shipped import SHIPPED, load_shipped
    from ovdet.vlm.zoo import create_vlm, list_models

    if model in SHIPPED:
        return load_shipped(model, target)
    near = get_close_matches(model, [*SHIPPED, *list_models()], 1, cutoff=0.4)
    if near and near[0] in SHIPPED and model not in list_models():
        raise InputError(f"unknown model {model!r}; did you mean {near[0]!r}? `ovdet models` lists all")
    backbone = create_vlm(model, device=target)  # it knows the other names, and suggests the nearest
    from ovdet.zeroshot.predict import ZeroShotDetector

    return ZeroShotDetector(backbone, device=target)


def checkpoint_path(model: str | Path) -> Path | None:
    """The checkpoint that is meant, or None for the name of a model.

    Raises:
        InputError: there is no such file.
    """
    if not isinstance(model, Path) and Path(model).suffix not in {".pth", ".pt", ".safetensors"}:
        return None
    if not Path(model).is_file():
        raise InputError(f"there is no checkpoint {model}")
    return Path(model)


def choose_device(device: str | None) -> str:
    """The device as torch names it: a GPU if there is one and None is asked for.

    Raises:
        InputError: torch knows no such device, or this machine lacks it.
    """
    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"there is no device {device!r} here; use cpu, or what `ovdet doctor` lists") from error
    return device
