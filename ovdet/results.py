"""The answers. Validated at birth; indexing filters every field; convertible to what other tools read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ovdet.ops.masks import Rle, decode_masks, encode_masks

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture, best first as the detectors give it.

    Arrays, lists and CPU tensors are taken and kept as numpy arrays.

    Attributes:
        boxes_xyxy: (N, 4) float32, pixels of the original picture, x to the right, y down, corners on pixel edges.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, each an index into `class_names`.
        class_names: the caller's own list of names, in the caller's order.
        size_hw: height and width of the original picture in pixels.
        rles: N COCO run lengths of `size_hw`, or None if no masks were asked for. A (N, H, W) bool array is
            taken too, and compressed.
        source: where the picture came from, or None for an array.
        model: which model answered, or None.

    Raises:
        ValueError: a field has the wrong shape, a label is no index, a score or a box is not finite, or a mask
            is not of the picture's size.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    size_hw: tuple[int, int]
    rles: tuple[Rle, ...] | None = None
    source: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        boxes_xyxy = np.asarray(self.boxes_xyxy, dtype=np.float32)
        count = len(boxes_xyxy)
        if boxes_xyxy.size == 0:
            boxes_xyxy = boxes_xyxy.reshape(0, 4)
        if boxes_xyxy.shape != (count, 4):
            raise ValueError(f"boxes_xyxy must be (N, 4), got {boxes_xyxy.shape}")
        if not np.isfinite(boxes_xyxy).all() or (boxes_xyxy[:, 2:] < boxes_xyxy[:, :2]).any():
            raise ValueError("boxes_xyxy must be finite with x1 <= x2 and y1 <= y2; convert from cxcywh or xywh first")
        scores = _vector("scores", self.scores, count, np.float32)
        if ((scores < 0) | (scores > 1) | ~np.isfinite(scores)).any():
            raise ValueError(f"scores must lie in [0, 1], got {scores.min()} to {scores.max()}")
        labels = _vector("labels", self.labels, count, np.int64)
        names = tuple(self.class_names)
        if ((labels < 0) | (labels >= len(names))).any():
            raise ValueError(f"labels must index the {len(names)} class_names, got {labels.min()} to {labels.max()}")
        height, width = (int(side) for side in self.size_hw)
        for name, value in (
            ("boxes_xyxy", boxes_xyxy),
            ("scores", scores),
            ("labels", labels),
            ("class_names", names),
            ("size_hw", (height, width)),
            ("rles", _as_rles(self.rles, count, (height, width))),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def empty(
        cls,
        class_names: Sequence[str],
        size_hw: tuple[int, int],
        *,
        masks: bool = False,
        source: str | None = None,
        model: str | None = None,
    ) -> Detections:
        """Nothing found."""
        none = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4)), none, none, tuple(class_names), size_hw, () if masks else None, source, model)

    @property
    def names(self) -> list[str]:
        """The name of each of the N detections."""
        return [self.class_names[label] for label in self.labels]

    @cached_property
    def masks(self) -> np.ndarray | None:
        """(N, H, W) bool, decoded when first asked for; None if no masks were asked of the detector."""
        return None if self.rles is None else decode_masks(self.rles, self.size_hw)

    def mask(self, index: int) -> np.ndarray:
        """One detection's mask, (H, W) bool, without decoding the others.

        Raises:
            ValueError: these detections carry no masks.
        """
        if self.rles is None:
            raise ValueError("these detections carry no masks; ask the detector for them with masks=True")
        mask: np.ndarray = decode_masks([self.rles[index]], self.size_hw)[0]
        return mask

    def label_map(self, *, things: bool = False) -> np.ndarray:
        """Number the pixels: (H, W) int32, 0 for nothing, label + 1 for a class; where masks overlap the first counts.

        Args:
            things: number the detections instead: position + 1.

        Raises:
            ValueError: these detections carry no masks.
        """
        numbers = np.zeros(self.size_hw, np.int32)
        for index in range(len(self) - 1, -1, -1):
            numbers[self.mask(index)] = 1 + (index if things else self.labels[index])
        return numbers

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, index: int | slice | ArrayLike) -> Detections:
        """Keep some: by position, slice, list of positions or bool array; every field follows.

        Example: `result[result.scores > 0.5]`, `result[0]`, `result[result.labels == 1]`.
        """
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"detection {index} of {len(self)}")
            index = [int(index)]
        positions = np.arange(len(self))[
            index if isinstance(index, slice) else np.asarray(index, dtype=_index_type(index))
        ]
        rles = None if self.rles is None else tuple(self.rles[position] for position in positions)
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[positions],
            scores=self.scores[positions],
            labels=self.labels[positions],
            rles=rles,
        )

    def __iter__(self) -> Iterator[Detections]:
        """Yield each detection as a `Detections` of length 1."""
        return (self[index] for index in range(len(self)))

    def to_dict(self) -> dict[str, Any]:
        """One JSON-ready object: source, size_hw, model and the list of detections, masks as COCO run lengths."""
        detections = []
        for index, name in enumerate(self.names):
            found: dict[str, Any] = {
                "name": name,
                "label": int(self.labels[index]),
                "score": round(float(self.scores[index]), 6),
                "box_xyxy": [round(float(edge), 3) for edge in self.boxes_xyxy[index]],
            }
            if self.rles is not None:
                found["segmentation"] = dict(self.rles[index])
            detections.append(found)
        return {
            "source": self.source,
            "size_hw": list(self.size_hw),
            "model": self.model,
            "detections": detections,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], class_names: Sequence[str]) -> Detections:
        """Read what `to_dict` gave; numbers are as it rounded them.

        Args:
            record: as `to_dict` gave it, or as JSON brought it back.
            class_names: that the labels index; the record holds only the names of what was found.
        """
        found = record["detections"]
        rles = tuple(each["segmentation"] for each in found if "segmentation" in each)
        return cls(
            np.array([each["box_xyxy"] for each in found], np.float32).reshape(-1, 4),
            np.array([each["score"] for each in found], np.float32),
            np.array([each["label"] for each in found], np.int64),
            tuple(class_names),
            tuple(record["size_hw"]),
            rles if rles or not found else None,
            record["source"],
            record["model"],
        )

    def with_names(self, class_names: Sequence[str]) -> Detections:
        """The same with labels that index another list, which holds these names too."""
        places = {name: index for index, name in enumerate(class_names)}
        labels = np.array([places[name] for name in self.names], np.int64)
        return replace(self, labels=labels, class_names=tuple(class_names))

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Rows of a COCO result file.

        Args:
            image_id: of this picture, from the annotation file.
            category_ids: the file's id of each class name; by default label + 1, since COCO ids start at 1.

        Returns:
            N dicts with image_id, category_id, bbox (left, top, width, height), score and, with masks, segmentation.
        """
        ids = range(1, len(self.class_names) + 1) if category_ids is None else category_ids
        if len(ids) != len(self.class_names):
            raise ValueError(
                f"category_ids must give one id for each of {len(self.class_names)} class names, got {len(ids)}"
            )
        rows = []
        for index, (x1, y1, x2, y2) in enumerate(self.boxes_xyxy.tolist()):
            row: dict[str, Any] = {
                "image_id": image_id,
                "category_id": int(ids[int(self.labels[index])]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": float(self.scores[index]),
            }
            if self.rles is not None:
                row["segmentation"] = dict(self.rles[index])
            rows.append(row)
        return rows

    def to_supervision(self) -> supervision.Detections:
        """The same as a `supervision.Detections`, names under `data["class_name"]`.

        Raises:
            ImportError: supervision is not installed (`pip install "ovdet[supervision]"`).
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError('to_supervision() needs supervision: pip install "ovdet[supervision]"') from error
        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            mask=self.masks if len(self) else None,
            confidence=self.scores.copy(),
            class_id=self.labels.astype(int),
            data={"class_name": np.asarray(self.names, dtype=str)},
        )

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Draw boxes, masks and labels on a copy of the (H, W, 3) uint8 RGB picture."""
        from ovdet.draw import draw_detections

        drawn: np.ndarray = draw_detections(image, self)
        return drawn

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names[:5], self.scores[:5], strict=True))
        more = f", {len(self) - 5} more" if len(self) > 5 else ""
        return f"Detections({len(self)} in {self.size_hw[1]}x{self.size_hw[0]}: {best}{more})"


@dataclass(frozen=True, eq=False)
class Grounding:
    """What one sentence means in one picture: boxes, best first, or nothing if it is not there.

    Attributes:
        expression: the sentence as the caller wrote it.
        boxes_xyxy: (N, 4) float32, pixels of the original picture; one, or several where candidates were given.
        scores: (N,) float32 in [0, 1], how sure the model is of each, or None from a model that cannot say.
        size_hw: height and width of the original picture in pixels.
        confidence: of the best box, also where that fell below the threshold; None from a model that cannot say.
        source: where the picture came from, or None for an array.
        model: which model answered, or None.

    Raises:
        ValueError: a field has the wrong shape, or a number is out of its range.
    """

    expression: str
    boxes_xyxy: np.ndarray
    scores: np.ndarray | None
    size_hw: tuple[int, int]
    confidence: float | None = None
    source: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str) or not self.expression.strip():
            raise ValueError(f"expression must be a sentence, got {self.expression!r}")
        count = len(np.asarray(self.boxes_xyxy))
        stand_in = np.zeros(count) if self.scores is None else self.scores
        checked = Detections(self.boxes_xyxy, stand_in, np.zeros(count), (self.expression,), self.size_hw)
        confidence = None if self.confidence is None else float(self.confidence)
        if confidence is not None and not 0 <= confidence <= 1:
            raise ValueError(f"confidence must lie in [0, 1], got {confidence}")
        object.__setattr__(self, "boxes_xyxy", checked.boxes_xyxy)
        object.__setattr__(self, "scores", None if self.scores is None else checked.scores)
        object.__setattr__(self, "size_hw", checked.size_hw)
        object.__setattr__(self, "confidence", confidence)

    @property
    def absent(self) -> bool:
        """Is there nothing in the picture that the sentence could mean?"""
        return not len(self.boxes_xyxy)

    @property
    def box_xyxy(self) -> np.ndarray | None:
        """(4,) of the best box, None if absent."""
        return None if self.absent else self.boxes_xyxy[0]

    @property
    def score(self) -> float | None:
        """Of the best box; None if absent, or if the model cannot say."""
        return None if self.absent or self.scores is None else float(self.scores[0])

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def to_detections(self) -> Detections:
        """The same as detections of one class, which the sentence names; a score that is not known becomes 1."""
        scores = np.ones(len(self)) if self.scores is None else self.scores
        labels = np.zeros(len(self), np.int64)
        return Detections(
            self.boxes_xyxy, scores, labels, (self.expression,), self.size_hw, source=self.source, model=self.model
        )

    def to_dict(self) -> dict[str, Any]:
        """One JSON-ready object."""
        scores = [None] * len(self) if self.scores is None else [round(float(score), 6) for score in self.scores]
        boxes = [[round(float(edge), 3) for edge in box] for box in self.boxes_xyxy]
        return {
            "source": self.source,
            "size_hw": list(self.size_hw),
            "model": self.model,
            "expression": self.expression,
            "absent": self.absent,
            "confidence": None if self.confidence is None else round(self.confidence, 6),
            "boxes": [{"score": score, "box_xyxy": box} for score, box in zip(scores, boxes, strict=True)],
        }

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Draw the boxes with the sentence on a copy of the (H, W, 3) uint8 RGB picture."""
        return self.to_detections().draw(image)

    def __repr__(self) -> str:
        sure = "" if self.confidence is None else f", confidence {self.confidence:.2f}"
        found = "absent" if self.absent else f"{len(self)} box{'es' if len(self) > 1 else ''}"
        return f"Grounding({self.expression!r}: {found}{sure})"


def _vector(name: str, values: ArrayLike, count: int, dtype: type) -> np.ndarray:
    vector: np.ndarray = np.asarray(values, dtype=dtype)
    if vector.shape != (count,):
        raise ValueError(f"{name} must be ({count},) like the boxes, got {vector.shape}")
    return vector


def _index_type(index: ArrayLike) -> type:
    """What an index array holds; an empty list, which numpy calls float, holds no positions."""
    return bool if np.asarray(index).dtype == bool else int


def _as_rles(masks: Any, count: int, size_hw: tuple[int, int]) -> tuple[Rle, ...] | None:
    """Run lengths of the given masks, checked against the number of boxes and the picture's size."""
    if masks is None:
        return None
    if not isinstance(masks, list | tuple):
        masks = encode_masks(np.asarray(masks))
    if len(masks) != count:
        raise ValueError(f"there must be one mask for each of {count} boxes, got {len(masks)}")
    rles = []
    for index, rle in enumerate(masks):
        if not isinstance(rle, Mapping) or tuple(rle.get("size", ())) != size_hw:
            raise ValueError(f"mask {index} must be a COCO run length of size {list(size_hw)}")
        rles.append(dict(rle))
    return tuple(rles)
