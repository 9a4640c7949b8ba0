"""Class-agnostic proposals of whole data sets, with the teacher's embedding of each where there is one."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovdet.errors import InputError
from ovdet.files import replacing


@dataclass(frozen=True, eq=False)
class Proposals:
    """Proposals of one picture, best first.

    Attributes:
        boxes_xyxy: (P, 4) float32, pixels of the original picture.
        scores: (P,) float32.
        embeddings: (P, D) of unit length, or None.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        if self.boxes_xyxy.shape != (count, 4):
            raise ValueError(f"boxes_xyxy must be (P, 4), got {self.boxes_xyxy.shape}")
        for name in ("scores", "embeddings"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"there are {count} boxes, but {len(values)} rows of {name}")


class ProposalSource:
    """Proposals by picture id, held in memory; a data set too large for that needs a store on disk.

    Args:
        by_image: picture id -> proposals. A picture that is not in it has none.
        teacher: which backbone made the embeddings, so that a student of another space is refused.
    """

    def __init__(self, by_image: Mapping[int, Proposals], teacher: str | None = None) -> None:
        self.by_image = dict(by_image)
        self.teacher = teacher
        widths = {one.embeddings.shape[1] for one in self.by_image.values() if one.embeddings is not None}
        if len(widths) > 1:
            raise ValueError(f"all embeddings must have one width, got {sorted(widths)}")
        self.embed_dim = widths.pop() if widths else None

    def __getitem__(self, image_id: int) -> Proposals:
        none = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        if self.embed_dim is not None:
            none = Proposals(none.boxes_xyxy, none.scores, np.zeros((0, self.embed_dim), np.float32))
        return self.by_image.get(image_id, none)

    def __len__(self) -> int:
        return len(self.by_image)

    def save(self, path: str | Path) -> None:
        """Write an .npz: boxes and scores as float32, embeddings as float16.

        Raises:
            InputError: it cannot be written.
        """
        ids = sorted(self.by_image)
        found = [self.by_image[key] for key in ids]
        arrays = {
            "image_ids": np.asarray(ids, dtype=np.int64),
            "counts": np.asarray([len(one.scores) for one in found], dtype=np.int64),
            "boxes_xyxy": np.concatenate([np.zeros((0, 4)), *(one.boxes_xyxy for one in found)]).astype(np.float32),
            "scores": np.concatenate([np.zeros(0), *(one.scores for one in found)]).astype(np.float32),
            "teacher": np.asarray(self.teacher or ""),
        }
        if self.embed_dim is not None:
            arrays["embeddings"] = np.concatenate([one.embeddings for one in found]).astype(np.float16)
        with replacing(Path(path)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> ProposalSource:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged, or its rows do not match its boxes.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            ids, counts = arrays["image_ids"], arrays["counts"]
            boxes_xyxy, scores, teacher = arrays["boxes_xyxy"], arrays["scores"], str(arrays["teacher"])
        except OSError as error:
            raise InputError(f"cannot read the proposal file {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"the proposal file {path} is damaged or of another kind ({error})") from error
        embeddings = arrays.get("embeddings")
        rows = {len(boxes_xyxy), len(scores), int(counts.sum()), len(boxes_xyxy if embeddings is None else embeddings)}
        if len(rows) > 1 or len(ids) != len(counts):
            raise InputError(f"the proposal file {path} is inconsistent: boxes, scores and embeddings differ in number")
        ends = np.cumsum(counts)
        by_image = {
            int(key): Proposals(
                boxes_xyxy[end - count : end],
                scores[end - count : end],
                None if embeddings is None else embeddings[end - count : end].astype(np.float32),
            )
            for key, count, end in zip(ids, counts, ends, strict=True)
        }
        return cls(by_image, teacher or None)
