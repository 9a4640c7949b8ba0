"""COCO-format annotations as segmented pictures: instances (COCO, LVIS, PACO, one's own) and panoptic maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ovdet.data.coco import read_annotations
from ovdet.data.segments import IGNORED, SegmentedPicture, cut, read_rgb, read_upright_rgb
from ovdet.errors import InputError

_HOSTS = ("http://images.cocodataset.org/", "https://images.cocodataset.org/")


class CocoSegments:
    """Pictures of a COCO-format file; segments are its annotations, keys its categories; a `PictureSource`.

    Crowds are not judged. Where masks overlap, the smaller one is on top.

    Args:
        ann_file: instances with masks (polygons or run lengths); LVIS's coco_url names pictures, too.
        images: folder of the pictures.

    Raises:
        InputError: the file is missing, not in COCO format, or its annotations have no masks.
    """

    def __init__(self, ann_file: str | Path, images: str | Path) -> None:
        self.ann_file, self.images = Path(ann_file), Path(images)
        content = read_annotations(ann_file)
        rows = sorted(content["categories"], key=lambda row: row["id"])
        self.category_ids = tuple(row["id"] for row in rows)
        self.class_names = tuple(row["name"] for row in rows)
        key_of = {category_id: key for key, category_id in enumerate(self.category_ids)}
        self.rows = sorted(content["images"], key=lambda row: row["id"])
        position = {row["id"]: index for index, row in enumerate(self.rows)}
        self.names = [_file_name(row, ann_file) for row in self.rows]
        self._position = {name: index for index, name in enumerate(self.names)}
        self._annotations: list[list[tuple[int, Any, bool]]] = [[] for _ in self.rows]
        for index, row in enumerate(content["annotations"]):
            if row["image_id"] not in position:
                raise InputError(f"{ann_file}: annotations[{index}] is of an unknown picture {row['image_id']!r}")
            if not row.get("segmentation"):
                raise InputError(f'{ann_file}: annotations[{index}] has no "segmentation"; boxes alone cut nothing out')
            where = self._annotations[position[row["image_id"]]]
            where.append((key_of[row["category_id"]], row["segmentation"], bool(row.get("iscrowd", 0))))

    def __len__(self) -> int:
        return len(self.rows)

    def keys_of(self, index: int) -> tuple[int, ...]:
        """Category of each segment, an index into `class_names`."""
        return tuple(key for key, _, crowd in self._annotations[index] if not crowd)

    def __getitem__(self, index: int) -> SegmentedPicture:
        size_hw = self._size(index)
        image = read_upright_rgb(self.images / self.names[index], size_hw)
        rows = self._annotations[index]
        masks = [decode(segmentation, size_hw, self.ann_file) for _, segmentation, crowd in rows if not crowd]
        crowds = [decode(segmentation, size_hw, self.ann_file) for _, segmentation, crowd in rows if crowd]
        ignored = np.any(crowds, axis=0) if crowds else None
        return cut(image, masks, self.keys_of(index), ignored)

    def picture(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one file name."""
        return read_upright_rgb(self.images / name, self._size(self._of(name)))

    def mask(self, name: str, label: int, *, crowds: str = "ignore") -> tuple[np.ndarray, np.ndarray]:
        """Union of a category's masks, overlaps and all, and the judged pixels.

        Args:
            name: file name.
            label: index into `class_names`.
            crowds: "ignore" leaves crowds of the category out of the judged pixels; "include" takes them as masks, as
                label pictures made of all annotations do.
        """
        index = self._of(name)
        size_hw = self._size(index)
        truth, judged = np.zeros(size_hw, bool), np.ones(size_hw, bool)
        for key, segmentation, crowd in self._annotations[index]:
            if key == label:
                mask = decode(segmentation, size_hw, self.ann_file)
                if crowd and crowds == "ignore":
                    judged &= ~mask
                else:
                    truth |= mask
        return truth, judged | truth

    def _of(self, name: str) -> int:
        if name not in self._position:
            raise InputError(f"{self.ann_file} has no picture {name}")
        return self._position[name]

    def _size(self, index: int) -> tuple[int, int]:
        return int(self.rows[index]["height"]), int(self.rows[index]["width"])


class PanopticSegments:
    """COCO panoptic: a JSON file and PNGs whose colours are segment ids (R + 256 G + 65536 B).

    Args:
        ann_file: such as panoptic_train2017.json.
        maps: folder of the PNGs.
        images: folder of the pictures.

    Raises:
        InputError: the file is missing or not in COCO's panoptic format.
    """

    def __init__(self, ann_file: str | Path, maps: str | Path, images: str | Path) -> None:
        self.ann_file, self.maps, self.images = Path(ann_file), Path(maps), Path(images)
        content = _read_panoptic(self.ann_file)
        rows = sorted(content["categories"], key=lambda row: row["id"])
        self.category_ids = tuple(row["id"] for row in rows)
        self.class_names = tuple(row["name"] for row in rows)
        self.is_thing = tuple(bool(row.get("isthing", 1)) for row in rows)
        key_of = {category_id: key for key, category_id in enumerate(self.category_ids)}
        files = {row["id"]: _file_name(row, ann_file) for row in content["images"]}
        self.rows = sorted(content["annotations"], key=lambda row: row["image_id"])
        self.names = []
        for row in self.rows:
            if row["image_id"] not in files:
                raise InputError(f"{ann_file}: an annotation is of an unknown picture {row['image_id']!r}")
            self.names.append(files[row["image_id"]])
            unlisted = [one["category_id"] for one in row["segments_info"] if one["category_id"] not in key_of]
            if unlisted:
                raise InputError(f"{ann_file}: picture {files[row['image_id']]} has an unlisted category {unlisted[0]}")
        self._key_of = key_of

    def __len__(self) -> int:
        return len(self.rows)

    def segments(self, index: int) -> tuple[np.ndarray, dict[int, int], tuple[int, ...]]:
        """(H, W) int32 segment ids, id -> category as an index into `class_names`, and ids of crowds."""
        colours = read_rgb(self.maps / self.rows[index]["file_name"]).astype(np.int32)
        info = self.rows[index]["segments_info"]
        classes = {int(one["id"]): self._key_of[one["category_id"]] for one in info}
        crowds = tuple(int(one["id"]) for one in info if one.get("iscrowd"))
        return colours[..., 0] + (colours[..., 1] << 8) + (colours[..., 2] << 16), classes, crowds

    def keys_of(self, index: int) -> tuple[int, ...]:
        """Category of each segment that is no crowd."""
        info = self.rows[index]["segments_info"]
        return tuple(self._key_of[one["category_id"]] for one in info if not one.get("iscrowd"))

    def __getitem__(self, index: int) -> SegmentedPicture:
        ids, classes, crowds = self.segments(index)
        image = read_upright_rgb(self.images / self.names[index], ids.shape)
        owner = np.full(ids.shape, IGNORED, np.int32)  # unlabelled pixels and crowds
        kept = [segment for segment in classes if segment not in crowds]
        for place, segment in enumerate(kept):
            owner[ids == segment] = place
        return SegmentedPicture(image, owner, np.asarray([classes[segment] for segment in kept], np.int64))


def decode(segmentation: Any, size_hw: tuple[int, int], where: str | Path = "the annotation") -> np.ndarray:
    """(H, W) bool of polygons or run lengths, as pycocotools draws them.

    Raises:
        InputError: it is neither.
    """
    try:
        if isinstance(segmentation, Sequence) and not isinstance(segmentation, str):
            rle = coco_mask.merge(coco_mask.frPyObjects([list(map(float, one)) for one in segmentation], *size_hw))
        elif isinstance(segmentation["counts"], list):
            rle = coco_mask.frPyObjects(dict(segmentation), *size_hw)
        else:
            rle = dict(segmentation)
        mask = coco_mask.decode(rle).astype(bool)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{where}: a segmentation is neither polygons nor run lengths ({error})") from error
    if mask.shape != tuple(size_hw):
        raise InputError(f"{where}: a mask is {mask.shape}, its picture {tuple(size_hw)}")
    return mask


def _file_name(row: Mapping[str, Any], where: str | Path) -> str:
    name = str(row.get("file_name") or row.get("coco_url") or "")
    for host in _HOSTS:
        name = name.removeprefix(host)
    if not name:
        raise InputError(f'{where}: picture {row.get("id")!r} has neither "file_name" nor "coco_url"')
    return name


def _read_panoptic(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the annotation file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"the annotation file {path} is not valid JSON ({error})") from error
    for field in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise InputError(f'{path} has no list "{field}": it must be in COCO\'s panoptic format')
    for index, row in enumerate(content["annotations"]):
        if not isinstance(row, dict) or not {"image_id", "file_name", "segments_info"} <= row.keys():
            raise InputError(
                f'{path}: annotations[{index}] must have "image_id", "file_name" and "segments_info"; is this a file '
                "of instances?"
            )
    return content
