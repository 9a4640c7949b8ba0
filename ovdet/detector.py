"""The front desk: pictures and names in, `Detections` out; the room that answers is chosen by the model's name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


ClassImages: TypeAlias = "Mapping[str, Picture | tuple[Picture, Sequence[float]]]"
"""Name of a class -> a picture of it, or a picture and the box x1, y1, x2, y2 of what is meant in it."""


class Options(TypedDict, total=False):
    """What a call of `Detector` takes beside pictures and names."""

    class_images: ClassImages
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
        class_images: ClassImages | None = None,
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
            class_images: further things to look for, which pictures stand for; they come after the names in the list.
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
        check_options(score, max_dets, batch_size)
        names, class_embeddings = self.vocabulary(names, class_images)

        def look(images: list[np.ndarray]) -> list[Detections]:
            return self.predictor.predict(
                images, names, class_embeddings, score_threshold=score, max_dets=max_dets, masks=masks
            )

        return answer_pictures(source, look, batch_size, color)

    def vocabulary(self, names: Sequence[str], class_images: ClassImages | None = None) -> tuple[list[str], Tensor]:
        """Embed what to look for: names, then classes that pictures stand for; arguments as for `__call__`.

        Returns:
            K names, and what the model makes of them, (K, D).

        Raises:
            InputError: names that make no sense or come twice, or a picture that cannot be read.
            CapabilityError: this model takes no pictures as classes.
        """
        from ovdet.vlm.prompts import check_names

        class_images = class_images or {}
        every = check_names([*names, *class_images]) if not isinstance(names, str) else check_names(names)
        if not class_images:
            return every, self.predictor.embed(every)
        embed_pictures = getattr(self.predictor, "embed_pictures", None)
        if embed_pictures is None:
            raise CapabilityError(f"{self.name} takes no pictures as classes; give names")
        shown = []
        for name, given in class_images.items():
            try:
                shown.append(_cut_to(*given) if isinstance(given, tuple) else _cut_to(given))
            except InputError as error:
                raise InputError(f"class picture {name!r}: {error}") from error
        rows = [embed_pictures(*zip(*shown, strict=True))]
        if len(every) > len(shown):
            words = self.predictor.embed(every[: -len(shown)])
            rows = [words, rows[0].to(words)]
        return every, torch.cat(rows)

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


def check_box(box: Any, image: np.ndarray) -> np.ndarray:
    """A box as (4,) float32 x1, y1, x2, y2, cut at the picture's border.

    Raises:
        InputError: it is no box, or lies outside of the picture.
    """
    try:
        box_xyxy = np.asarray(box, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"a box must be four numbers x1, y1, x2, y2, got {box!r}") from error
    if box_xyxy.shape != (4,) or not np.isfinite(box_xyxy).all():
        raise InputError(f"a box must be four numbers x1, y1, x2, y2, got {box!r}")
    height, width = image.shape[:2]
    inside = box_xyxy.clip(0, [width, height, width, height]).astype(np.float32)
    if (inside[2:] <= inside[:2]).any():
        raise InputError(f"the box {box_xyxy.tolist()} (x1, y1, x2, y2) holds no pixel of its {width}x{height} picture")
    return inside


def _cut_to(picture: Picture, box_xyxy: Sequence[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A picture, and the box of what is meant in it; the whole of it if nobody says."""
    image = load_picture(picture)
    whole = (0, 0, image.shape[1], image.shape[0])
    return image, check_box(whole if box_xyxy is None else box_xyxy, image)


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
    if not isinstance(model, Path) and Path(model).suffix not in {".pth", ".pt", ".th", ".safetensors"}:
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
