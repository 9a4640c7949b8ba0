"""COCO and LVIS annotation files as training and evaluation data, names and splits read from the file."""

from __future__ import annotations

import json
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from ovdet.data.sampling import Draw, seed_everything
from ovdet.data.splits import Split, annotated_split
from ovdet.errors import InputError

_COCO_HOST = "http://images.cocodataset.org/"


def read_annotations(path: str | Path) -> dict[str, Any]:
    """Read a COCO-format annotation file and check what the reader relies on.

    Returns:
        The file's object, with "images", "annotations" and "categories" (ids and names unique).

    Raises:
        InputError: the file is missing, is no JSON object, lacks a list, names a category or picture twice, or has a
            box or size that is no numbers, or an object of a category that it does not list.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the annotation file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"the annotation file {path} is not valid JSON ({error})") from error
    for field in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise InputError(f'the annotation file {path} has no list "{field}": it must be in COCO format')
    _check_rows(path, "images", content["images"], ("id", "height", "width"))
    _check_rows(path, "categories", content["categories"], ("id", "name"))
    _check_rows(path, "annotations", content["annotations"], ("image_id", "category_id", "bbox"))
    for field, key in (("categories", "id"), ("categories", "name"), ("images", "id")):
        seen: set[Any] = set()
        for index, row in enumerate(content[field]):
            if row[key] in seen:
                raise InputError(f"{path}: {field}[{index}] repeats the {key} {row[key]!r}")
            seen.add(row[key])
    listed = {row["id"] for row in content["categories"]}
    for index, row in enumerate(content["annotations"]):
        if row["category_id"] not in listed:
            raise InputError(f"{path}: annotations[{index}] is of an unlisted category {row['category_id']!r}")
    return content


class OpenVocabularyDataset(BaseDataset):
    """Pictures with boxes, labels and masks; the class names come from the annotation file, never from a config.

    `metainfo` holds what the rest needs: "classes" (K names), "base_mask", "groups", "category_ids",
    "frequencies", "split" (name), "split_digest" and "ann_file".

    Args:
        ann_file: COCO or LVIS v1 annotation file, below `data_root`.
        data_root: folder of the data set.
        data_prefix: `dict(img=...)`, folder of the pictures below `data_root`.
        split: makes the vocabulary out of the file's categories, such as `ov_coco_split`; a dumped config has its
            dotted name.
        base_only: keep boxes of base classes only, and only pictures with such a box (training).
        only_named: keep only pictures with a box of the vocabulary (OV-COCO's 4,836 validation pictures).
        names: if given, the names that the file must have, in its order of ids; anything else is refused.
        seed: of the random transforms; with `SeededSampler` a sample is a function of seed and draw alone.
        pipeline: transforms, as mmengine takes them.
        test_mode: no picture may be replaced by another when a transform gives it up.
        indices: keep only the first so many pictures, or those at these positions.
        serialize_data: hold the list as one array, which worker processes share.
        lazy_init: read the file only when `full_init` is called.
        max_refetch: tries to replace a picture that a transform gave up.

    Raises:
        InputError: the file is missing or not in COCO format, names mismatch, or nothing is left to train on.
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        *,
        split: Callable[[Sequence[Mapping[str, Any]]], Split] | str = annotated_split,
        base_only: bool = False,
        only_named: bool = False,
        names: Sequence[str] | None = None,
        seed: int = 0,
        pipeline: Sequence[Any] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        split = pkgutil.resolve_name(split) if isinstance(split, str) else split
        self.split_of, self.base_only, self.only_named = split, base_only, only_named
        self.expected_names = None if names is None else tuple(names)
        self.seed = seed
        super().__init__(
            ann_file=str(ann_file),
            data_root=str(data_root),
            data_prefix=dict(data_prefix or {"img": ""}),
            pipeline=list(pipeline),
            test_mode=test_mode,
            indices=indices,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the file: one dict a picture, with img_path, img_id, height, width and instances."""
        content = read_annotations(self.ann_file)
        split = self.split_of(content["categories"])
        if self.expected_names is not None:
            _check_names(self.ann_file, self.expected_names, split.names)
        self._metainfo.update(
            classes=split.names,
            base_mask=split.base_mask,
            groups=split.groups,
            category_ids=split.category_ids,
            frequencies=split.frequencies,
            split=split.name,
            split_digest=split.digest,
            ann_file=self.ann_file,
        )
        label_of = {category_id: label for label, category_id in enumerate(split.category_ids)}
        pictures = {row["id"]: self._picture(row, index) for index, row in enumerate(content["images"])}
        for index, row in enumerate(content["annotations"]):
            picture = pictures.get(row["image_id"])
            if picture is None:
                raise InputError(f"{self.ann_file}: annotations[{index}] is of an unknown picture {row['image_id']!r}")
            label = label_of.get(row["category_id"])
            instance = None if label is None else _instance(row, label, picture)
            if instance is not None and "mask" not in instance and self._wants_masks:
                raise InputError(
                    f'{self.ann_file}: annotations[{index}] has no "segmentation", which the pipeline asks for; '
                    "without masks, load with with_mask=False and build the model with with_mask=False"
                )
            if instance is not None:
                picture["instances"].append(instance)
        return [pictures[key] for key in sorted(pictures)]

    def filter_data(self) -> list[dict[str, Any]]:
        """Drop boxes of classes that training must not see, and pictures that are left without any."""
        base_mask = self._metainfo["base_mask"]
        kept = []
        for picture in self.data_list:
            if self.base_only:
                picture["instances"] = [one for one in picture["instances"] if base_mask[one["bbox_label"]]]
            if picture["instances"] or not (self.base_only or self.only_named):
                kept.append(picture)
        if not kept:
            what = "base class" if self.base_only else "named class"
            raise InputError(f"{self.ann_file} has no picture with a box of a {what}")
        return kept

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of one picture, as mmengine's dataset wrappers ask for them."""
        return [instance["bbox_label"] for instance in self.get_data_info(idx)["instances"]]

    def prepare_data(self, idx: int) -> Any:
        """One sample; a `Draw` seeds the random transforms, so that workers and restarts change nothing."""
        if isinstance(idx, Draw):
            seed_everything(self.seed, idx.number)
        return super().prepare_data(int(idx))

    @property
    def _wants_masks(self) -> bool:
        return any(getattr(step, "with_mask", False) for step in self.pipeline.transforms)

    def _picture(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        file_name = row.get("file_name") or str(row.get("coco_url", "")).removeprefix(_COCO_HOST)
        if not file_name:
            raise InputError(f'{self.ann_file}: images[{index}] has neither "file_name" nor "coco_url"')
        return {
            "img_path": str(Path(self.data_prefix["img"]) / file_name),
            "img_id": row["id"],
            "height": row["height"],
            "width": row["width"],
            "instances": [],
        }


def _instance(row: Mapping[str, Any], label: int, picture: Mapping[str, Any]) -> dict[str, Any] | None:
    """One annotation as mmdet's loader wants it; None for boxes without area inside the picture."""
    left, top, width, height = row["bbox"]
    inside_width = min(left + width, picture["width"]) - max(left, 0)
    inside_height = min(top + height, picture["height"]) - max(top, 0)
    if row.get("ignore") or inside_width <= 0 or inside_height <= 0 or width < 1 or height < 1:
        return None
    instance = {
        "bbox": [left, top, left + width, top + height],
        "bbox_label": label,
        "ignore_flag": int(bool(row.get("iscrowd", 0))),
    }
    if row.get("segmentation"):
        instance["mask"] = row["segmentation"]
    return instance


def _check_rows(path: str | Path, field: str, rows: Sequence[Any], keys: Sequence[str]) -> None:
    for index, row in enumerate(rows):
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise InputError(f'{path}: {field}[{index}] has no "{missing[0]}"')
        if field == "annotations" and not _is_box(row["bbox"]):
            raise InputError(
                f"{path}: annotations[{index}].bbox must be [left, top, width, height] in pixels, got {row['bbox']!r}"
            )
        if field == "images" and not all(_is_number(row[key]) and row[key] > 0 for key in ("height", "width")):
            raise InputError(
                f"{path}: images[{index}] must have height and width in pixels, got {row['height']!r}, {row['width']!r}"
            )


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_names(path: str | Path, expected: Sequence[str], found: Sequence[str]) -> None:
    """Refuse a config whose names are not the file's, naming the first difference."""
    if tuple(expected) == tuple(found):
        return
    if len(expected) != len(found):
        raise InputError(f"the config names {len(expected)} classes, but {path} has {len(found)}")
    index = next(i for i, (mine, theirs) in enumerate(zip(expected, found, strict=True)) if mine != theirs)
    raise InputError(f"class {index} is {expected[index]!r} in the config, but {found[index]!r} in {path}")
