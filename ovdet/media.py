"""Pictures, folders, video and camera in; pictures and video out.

Pictures go through Pillow, which knows the most formats; video goes through OpenCV. What comes in is always
(H, W, 3) uint8 RGB, upright, on white where it was transparent. What cannot be read raises `InputError`.
"""

from __future__ import annotations

import errno
import glob
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ovdet.errors import InputError
from ovdet.files import replacing

Kind = Literal["picture", "video", "camera"]

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm .wmv".split()
)
PICTURE_SUFFIXES = frozenset(  # .heic cannot be read by Pillow alone: taken from folders all the same, to say so
    ".apng .avif .bmp .dib .gif .heic .heif .j2k .jfif .jp2 .jpe .jpeg .jpg".split()
    + ".pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp".split()
)
MAX_PIXELS = 178_956_970
"""Larger pictures are refused: twice Pillow's default for a decompression bomb, half a gigabyte of RGB."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One thing to look at: a picture file, a video file or a camera.

    Attributes:
        kind: "picture", "video" or "camera".
        path: of the file; for a camera its index as text.
    """

    kind: Kind
    path: Path

    @property
    def key(self) -> str:
        """The same for all names of one file."""
        return str(self) if self.kind == "camera" else str(self.path.resolve())

    def __str__(self) -> str:
        return f"camera {self.path}" if self.kind == "camera" else str(self.path)


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        index: position in the video, from 0.
        time_s: seconds from the start of the video.
    """

    image: np.ndarray
    index: int
    time_s: float


def find_sources(argument: str | Path) -> list[Source]:
    """What one command-line argument stands for: a file, a folder, a glob or a camera index.

    Of folders (without their subfolders) and globs, the files that end like pictures or videos are taken, sorted.

    Raises:
        InputError: there is nothing of that name, or nothing that could be a picture or a video.
    """
    text = str(argument)
    path = Path(argument)
    if text.strip() == "":
        raise InputError("a source is empty; give a picture, a folder, a glob, a video or a camera index")
    if path.is_dir():
        return _media_among(sorted(path.iterdir()), f"folder {text}", "; 'FOLDER/**/*' also takes subfolders")
    if path.exists():
        return [_source_of_file(path)]
    if text.isdecimal():
        return [Source("camera", path)]
    if any(mark in text for mark in "*?["):
        matches = sorted(Path(match) for match in glob.glob(str(path.expanduser()), recursive=True))
        return _media_among(matches, f"glob {text}", "")
    raise InputError(f"there is no file or folder {text}")


def read_picture(path: str | Path) -> np.ndarray:
    """Read a picture file into (H, W, 3) uint8 RGB; of an animation or a multi-page file, the first picture.

    Raises:
        InputError: the file is missing, empty, damaged, too large or not a picture.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        with Image.open(path, formats=_formats()) as image:
            count = getattr(image, "n_frames", 1)
            if count > 1:
                _log.info("%s holds %d pictures; only the first is looked at", path, count)
            return image_to_rgb(image, str(path))
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture in a format that can be read") from error
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has too many pixels (more than {MAX_PIXELS:,}); make it smaller first") from error
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise InputError(f"{path} is damaged or cut short ({error})") from error


def image_to_rgb(image: Image.Image, source: str = "the picture") -> np.ndarray:
    """Turn any PIL image into (H, W, 3) uint8 RGB: upright by its EXIF tag, transparency on white.

    16-bit greys are divided by 257. Pictures of 32-bit integers or floats agree on no white, so theirs is
    their own largest value and black their smallest.

    Raises:
        InputError: it has too many pixels, or a colour space that has no way to RGB.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{source} has too many pixels ({width} x {height}); make it smaller first")
    if width * height == 0:
        raise InputError(f"{source} has no pixels ({width} x {height})")
    with suppress(SyntaxError, ValueError, TypeError, KeyError, OverflowError):  # broken EXIF: leave it as it lies
        image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        grey = _to_8_bit(np.asarray(image), sixteen_bit=image.mode != "F" and _is_16_bit(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data or image.mode in {"La", "RGBa"}:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    try:
        return np.array(image.convert("RGB"))
    except ValueError as error:
        raise InputError(f"{source} has the colour space {image.mode}, which cannot be turned into RGB") from error


def array_to_rgb(array: np.ndarray, color: str = "rgb") -> np.ndarray:
    """Turn an array of a picture into (H, W, 3) uint8 RGB.

    Args:
        array: uint8; (H, W) or (H, W, 1) grey, (H, W, 3), or (H, W, 4) with alpha, which goes on white.
        color: order of the channels: "rgb", or "bgr" for what OpenCV reads.

    Raises:
        InputError: another shape or dtype, or no pixels.
    """
    if color not in {"rgb", "bgr"}:
        raise InputError(f'color must be "rgb" or "bgr", got {color!r}')
    if array.dtype != np.uint8:
        raise InputError(
            f"a picture as an array must be uint8 from 0 to 255, got {array.dtype}; scale and cast it first"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in {1, 3, 4}:
        raise InputError(
            f"a picture as an array must be (H, W), (H, W, 3) or (H, W, 4), got {array.shape}; "
            "give several pictures as a list, and move channels last"
        )
    if array.size == 0:
        raise InputError(f"the picture has no pixels (shape {array.shape})")
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if color == "bgr":
        array = array[..., [2, 1, 0, *range(3, array.shape[2])]]
    if array.shape[2] == 4:
        return image_to_rgb(Image.fromarray(np.ascontiguousarray(array)))
    return np.ascontiguousarray(array)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB, the format by the path's suffix; JPEG at quality 95.

    Raises:
        InputError: the file cannot be written; nothing is left behind.
    """
    with replacing(path) as temporary:
        try:
            Image.fromarray(image).save(temporary, quality=95)
        except ValueError as error:  # an encoder's own limit, such as JPEG's 65,535 pixels a side
            raise InputError(f"cannot write {path}: {error}") from error


class VideoReader:
    """Frames of a video file or a camera, one at a time, each read when it is asked for.

    Iterate once, in a `with` block. `fps` is the frame rate, `count` the number of frames that the file claims
    (0 if it does not say, as for a camera).

    Raises:
        InputError: it cannot be opened (at once), or holds no frame that can be decoded (when iterated).
    """

    def __init__(self, source: Source | str | Path) -> None:
        if not isinstance(source, Source):
            source = Source("video", Path(source))
        self.source = source
        if source.kind == "video":
            _check_video_file(source.path)
        self._capture = cv2.VideoCapture(int(str(source.path)) if source.kind == "camera" else str(source.path))
        if not self._capture.isOpened():
            self._capture.release()
            remedy = "is it connected and free?" if source.kind == "camera" else "it is damaged or not a video"
            raise InputError(f"{source} cannot be opened; {remedy}")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if np.isfinite(fps) and 0 < fps <= 1000 else 25.0
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if source.kind == "video" and 0 < count < 2**31 else 0

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            ok, bgr = self._capture.read()
            if not ok:
                break
            milliseconds = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            time_s = milliseconds / 1000 if milliseconds > 0 else index / self.fps
            yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), index, time_s)
            index += 1
        if index == 0:
            raise InputError(f"{self.source} holds no frame that can be decoded")
        if index < 0.9 * self.count:
            _log.warning("%s ends early: %d of %d frames could be read", self.source, index, self.count)


def read_video(path: str | Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video file, (H, W, 3) uint8 RGB, each read when it is asked for."""
    with VideoReader(path) as reader:
        for frame in reader:
            yield frame.image


class VideoWriter:
    """Frames into an mp4 file; made by `write_video`. The first frame sets the size, later ones are scaled to it.

    MPEG-4 wants even sides: the last row or column of an odd one is written twice.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: Any = None
        self._size_wh = (0, 0)
        self.written = 0

    def write(self, image: np.ndarray) -> None:
        """Add one frame, (H, W, 3) uint8 RGB."""
        odd_rows, odd_columns = image.shape[0] % 2, image.shape[1] % 2
        if odd_rows or odd_columns:
            image = np.pad(image, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        size_wh = (image.shape[1], image.shape[0])
        if self._writer is None:
            self._size_wh = size_wh
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size_wh)
            if not self._writer.isOpened():
                raise OSError(errno.EINVAL, f"no mp4 encoder here takes frames of {size_wh[0]} x {size_wh[1]}")
        if size_wh != self._size_wh:
            image = cv2.resize(image, self._size_wh, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self.written += 1

    def finish(self) -> None:
        """Write what the encoder still holds and close the file."""
        if self._writer is not None:
            self._writer.release()


@contextmanager
def write_video(path: Path, fps: float) -> Iterator[VideoWriter]:
    """Lend a writer of an mp4 file, which appears when the block ends; after an error in the block there is none.

    Raises:
        InputError: the file cannot be written, or no frame was.
    """
    with replacing(path) as temporary:
        writer = VideoWriter(temporary, fps)
        try:
            yield writer
        finally:
            writer.finish()
        if not _is_whole_video(temporary, writer.written):  # OpenCV does not say when a write fails
            raise OSError(errno.EIO, "the video came out incomplete; is the disk full?")


def _media_among(paths: Iterable[Path], origin: str, hint: str) -> list[Source]:
    sources = [_source_of_file(path) for path in paths if _is_media(path)]
    if not sources:
        raise InputError(f"{origin} holds no picture or video{hint}")
    return sources


def _is_media(path: Path) -> bool:
    suffix = path.suffix.lower()
    return (suffix in PICTURE_SUFFIXES or suffix in VIDEO_SUFFIXES) and path.is_file() and path.name[0] != "."


def _source_of_file(path: Path) -> Source:
    return Source("video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture", path)


def _check_video_file(path: Path) -> None:
    """Say what OpenCV does not: why a file cannot be opened."""
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty (0 bytes)")
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@cache
def _formats() -> tuple[str, ...]:
    """What Pillow reads, without EPS: to draw it, Pillow starts Ghostscript on a file that may come from anywhere."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def _upright(image: Image.Image) -> Image.Image:
    """Turn as the EXIF tag says; most pictures have none and are not copied."""
    return ImageOps.exif_transpose(image) if image.getexif() else image


def _is_16_bit(image: Image.Image) -> bool:
    """Whether a picture of integers has 16 bits: by its mode, or, as older Pillow reads PNG, by its format."""
    return image.mode.startswith("I;16") or image.format in {"PNG", "PPM"}


def _to_8_bit(values: np.ndarray, *, sixteen_bit: bool) -> np.ndarray:
    """Scale (H, W) of more than 8 bits to (H, W) uint8."""
    values = values.astype(np.float64)
    if sixteen_bit:
        return np.clip(np.rint(values / 257), 0, 255).astype(np.uint8)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    spread = high - low if high > low else 1.0
    return np.rint((values - low) / spread * 255).astype(np.uint8)


def _is_whole_video(path: Path, frames: int) -> bool:
    """Whether the file opens again and claims all frames that were written."""
    if frames == 0:
        return False
    capture = cv2.VideoCapture(str(path))
    try:
        return bool(capture.isOpened() and capture.get(cv2.CAP_PROP_FRAME_COUNT) >= frames - 1)
    finally:
        capture.release()
