"""Clips with objects: DAVIS, YouTube-VOS and MOSE folders in, palette PNGs and server archives out."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovdet.data.label_maps import read_names
from ovdet.data.segments import IGNORED, NOTHING, SegmentedPicture, read_labels, read_rgb
from ovdet.errors import InputError
from ovdet.files import replacing

VOID = 255
"""Label of pixels that nobody judges."""
SERVERS = {"youtube-vos": "Annotations/", "mose": "", "davis": ""}
"""Where submissions go -> what stands before the clips' folders in the archive."""
_OBJECTS = 256
"""Keys of one clip's objects: clip * _OBJECTS + label."""


def palette() -> list[int]:
    """The palette of DAVIS and Pascal VOC: bits of a label spread over R, G and B, 256 colours in a row."""
    colours = []
    for label in range(256):
        rgb, rest = [0, 0, 0], label
        for bit in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= (rest >> channel & 1) << bit
            rest >>= 3
        colours += rgb
    return colours


def write_label_png(path: str | Path, labels: np.ndarray) -> None:
    """Write object labels as an indexed PNG in DAVIS's palette, whole or not at all.

    Args:
        path: of the file.
        labels: (H, W) integers in 0..255, 0 for nothing.

    Raises:
        InputError: a label is out of range, or the file cannot be written.
    """
    if labels.ndim != 2 or (labels.size and not 0 <= labels.min() <= labels.max() <= 255):
        raise InputError(f"labels must be (H, W) in 0..255, got {labels.shape}")
    image = Image.fromarray(labels.astype(np.uint8), "L")
    image.putpalette(palette())
    with replacing(Path(path)) as temporary:
        image.save(temporary, "PNG")


@dataclass(frozen=True)
class Clip:
    """One clip on disk.

    Attributes:
        name: of its folder.
        frames: pictures in order.
        masks: frame's name (without suffix) -> its label picture, where there is one.
        starts: object's label -> name of the frame that shows it first; empty if nobody says.
        categories: object's label -> category, if the data set says so.
    """

    name: str
    frames: tuple[Path, ...]
    masks: dict[str, Path]
    starts: dict[int, str] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one frame."""
        return read_rgb(self.frames[index])

    def labels(self, index: int) -> np.ndarray:
        """(H, W) int32 labels of one frame: 0 nothing, 255 not judged.

        Raises:
            InputError: the frame has no label picture.
        """
        frame = self.frames[index].stem
        if frame not in self.masks:
            raise InputError(f"clip {self.name} has no label picture of frame {frame}")
        return read_labels(self.masks[frame])

    def prompts(self) -> dict[int, dict[int, np.ndarray]]:
        """Where objects are given: frame's position -> object's label -> (H, W) bool.

        On DAVIS and MOSE all objects are in the first frame. On YouTube-VOS each is given where it first appears.
        """
        place = {path.stem: index for index, path in enumerate(self.frames)}
        if not self.starts:
            labels = self.labels(0)
            return {0: {label: labels == label for label in _objects(labels)}}
        given: dict[int, dict[int, np.ndarray]] = {}
        for label, frame in sorted(self.starts.items()):
            if frame not in place:
                raise InputError(f"clip {self.name}: object {label} should appear in frame {frame}, which is not there")
            mask = self.labels(place[frame]) == label
            if not mask.any():
                raise InputError(f"clip {self.name}: object {label} is not in the label picture of frame {frame}")
            given.setdefault(place[frame], {})[label] = mask
        return dict(sorted(given.items()))


def davis_2017(root: str | Path, part: str = "val", resolution: str = "480p") -> list[Clip]:
    """DAVIS 2017: ImageSets/2017/PART.txt, JPEGImages/480p/CLIP, Annotations/480p/CLIP.

    Raises:
        InputError: a file or folder is missing.
    """
    root = Path(root)
    names = read_names(root / "ImageSets" / "2017" / f"{part}.txt")
    return [_clip(root / "JPEGImages" / resolution, root / "Annotations" / resolution, name) for name in names]


def youtube_vos(root: str | Path, meta: str | Path | None = None) -> list[Clip]:
    """YouTube-VOS: meta.json, JPEGImages/CLIP, Annotations/CLIP of one part (`train` or `valid`).

    The file says in which frames each object is; its first one is where the object is given.

    Raises:
        InputError: a file or folder is missing, or meta.json is of another form.
    """
    root = Path(root)
    path = root / "meta.json" if meta is None else Path(meta)
    try:
        videos = json.loads(path.read_bytes())["videos"]
        facts = {
            name: (
                {int(label): min(one["frames"]) for label, one in row["objects"].items()},
                {int(label): str(one["category"]) for label, one in row["objects"].items() if "category" in one},
            )
            for name, row in videos.items()
        }
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no meta.json of YouTube-VOS ({type(error).__name__}: {error})") from error
    return [_clip(root / "JPEGImages", root / "Annotations", name, *facts[name]) for name in sorted(facts)]


def clip_folders(root: str | Path) -> list[Clip]:
    """MOSE, or any folder with JPEGImages/CLIP/*.jpg and Annotations/CLIP/*.png; objects are in the first frame.

    Raises:
        InputError: a folder is missing or empty.
    """
    root = Path(root)
    if not (root / "JPEGImages").is_dir():
        raise InputError(f"{root} has no folder JPEGImages")
    names = sorted(path.name for path in (root / "JPEGImages").iterdir() if path.is_dir())
    if not names:
        raise InputError(f"{root / 'JPEGImages'} has no folder of a clip")
    return [_clip(root / "JPEGImages", root / "Annotations", name) for name in names]


class ClipFrames:
    """Frames with label pictures, for training; keys are objects, so that frames of a clip share them.

    A `PictureSource` for `PictureContexts(..., kind="instance", same_objects=True)`.

    Args:
        clips: with label pictures of more frames than the first.

    Raises:
        InputError: no frame has a label picture.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = list(clips)
        self.frames = [
            (number, index)
            for number, clip in enumerate(self.clips)
            for index, path in enumerate(clip.frames)
            if path.stem in clip.masks
        ]
        if not self.frames:
            raise InputError("no frame of these clips has a label picture")

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def _keys(self) -> list[tuple[int, ...]]:
        """Objects of each frame. All label pictures are read for it once, by the first who asks."""
        return [
            tuple(number * _OBJECTS + label for label in _objects(self.clips[number].labels(index)))
            for number, index in self.frames
        ]

    def keys_of(self, index: int) -> tuple[int, ...]:
        """Objects of one frame."""
        return self._keys[index]

    def __getitem__(self, index: int) -> SegmentedPicture:
        number, place = self.frames[index]
        labels = self.clips[number].labels(place)
        owner = labels - 1
        owner[labels == 0], owner[labels == VOID] = NOTHING, IGNORED
        keys = number * _OBJECTS + np.arange(1, max(int(owner.max(initial=0)) + 1, 1) + 1)
        return SegmentedPicture(self.clips[number].image(place), owner, keys)


def write_submission(path: str | Path, folder: str | Path, clips: Sequence[Clip], server: str) -> int:
    """Pack label PNGs FOLDER/CLIP/FRAME.png as a server takes them, after checking them.

    "youtube-vos" wants Annotations/CLIP/FRAME.png, from the frame on where the first object is given; "mose" and
    "davis" (test-dev) want CLIP/FRAME.png of all frames. Each file must be indexed, of its frame's size, and have no
    object that the clip does not give.

    Args:
        path: of the .zip.
        folder: of the answers.
        clips: that were answered.
        server: see above.

    Returns:
        Number of files packed.

    Raises:
        InputError: an answer is missing, of another size, in colour, or has a strange object; which one is told.
    """
    if server not in SERVERS:
        raise InputError(f"there is no server {server!r}; choose one of {', '.join(SERVERS)}")
    folder, count = Path(folder), 0
    with replacing(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for clip in clips:
            prompts = clip.prompts()
            known = {0} | {label for masks in prompts.values() for label in masks}
            for frame in clip.frames[min(prompts, default=0) if server == "youtube-vos" else 0 :]:
                answer = folder / clip.name / f"{frame.stem}.png"
                _check_answer(answer, frame, known)
                archive.write(answer, f"{SERVERS[server]}{clip.name}/{frame.stem}.png")
                count += 1
    return count


def _check_answer(answer: Path, frame: Path, known: set[int]) -> None:
    labels = read_labels(answer)
    with Image.open(frame) as picture:
        size_hw = picture.size[::-1]
    if labels.shape != size_hw:
        raise InputError(f"{answer} is {labels.shape[1]} x {labels.shape[0]}, its frame {size_hw[1]} x {size_hw[0]}")
    strange = sorted(set(np.unique(labels).tolist()) - known)
    if strange:
        raise InputError(f"{answer} has an object {strange[0]}, which the clip does not give ({sorted(known - {0})})")


def _clip(
    images: Path,
    maps: Path,
    name: str,
    starts: Mapping[int, str] | None = None,
    categories: Mapping[int, str] | None = None,
) -> Clip:
    frames = tuple(sorted(path for path in (images / name).glob("*") if path.suffix.lower() in (".jpg", ".png")))
    if not frames:
        raise InputError(f"{images / name} has no frames (.jpg)")
    masks = {path.stem: path for path in sorted((maps / name).glob("*.png"))}
    if not masks:
        raise InputError(f"{maps / name} has no label picture (.png)")
    return Clip(name, frames, masks, dict(starts or {}), dict(categories or {}))


def _objects(labels: np.ndarray) -> list[int]:
    return [label for label in np.unique(labels).tolist() if label not in (0, VOID)]


def objects_of(clip: Clip) -> list[int]:
    """Labels that a clip is scored on: 1 up to the largest in its first label picture, as the official tool counts."""
    return list(range(1, max(_objects(clip.labels(0)), default=0) + 1))


def truth_frames(clip: Clip) -> list[int]:
    """Positions of the frames that DAVIS scores: all with a label picture but the first and the last."""
    return [index for index, path in enumerate(clip.frames) if path.stem in clip.masks][1:-1]


def read_answers(folder: str | Path, clip: Clip, indices: Sequence[int]) -> list[np.ndarray]:
    """Label pictures FOLDER/CLIP/FRAME.png of some frames.

    Raises:
        InputError: one is missing or no label picture.
    """
    return [read_labels(Path(folder) / clip.name / f"{clip.frames[index].stem}.png") for index in indices]


def clip_stamp(clips: Sequence[Clip], name: str) -> dict[str, Any]:
    """What a result says of its clips: how many, and the hash of their names and of those of their frames."""
    rows = [[clip.name, [path.stem for path in clip.frames]] for clip in clips]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {"data": name, "clips": len(clips), "frames": sum(len(of) for _, of in rows), "clips_sha256": digest}
