"""Average precision of base, novel and all classes, by pycocotools; also LVIS's federated variant.

OV-COCO reports AP50 of boxes, the mean over the 48 base, the 17 novel and all 65 classes of one 65-way run. LVIS
reports AP of rare, common and frequent classes, where a picture counts for a class only if the class was looked for
in it (Gupta et al. 2019, arXiv:1908.03195).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FREQUENCY_NAMES = {"r": "rare", "c": "common", "f": "frequent"}


@dataclass(frozen=True, eq=False)
class ClassPrecision:
    """Average precision of each class; NaN where the evaluated pictures hold no such object.

    Attributes:
        category_ids: K ids.
        ap: (K,) mean over IoU 0.50 to 0.95.
        ap50: (K,) at IoU 0.5.
        ap75: (K,) at IoU 0.75.
        recall: (K,) mean over IoU 0.50 to 0.95 of the highest recall reached.
    """

    category_ids: tuple[int, ...]
    ap: np.ndarray
    ap50: np.ndarray
    ap75: np.ndarray
    recall: np.ndarray


def class_precision(
    ground_truth: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    category_ids: Sequence[int],
    *,
    iou_type: str = "bbox",
    image_ids: Sequence[int] | None = None,
    max_dets: int = 100,
    federated: bool = False,
    block: int = 40,
) -> ClassPrecision:
    """Match detections to a COCO-format ground truth.

    Args:
        ground_truth: with "images", "annotations" (each with area and iscrowd, as COCO has them) and "categories".
        rows: detections as in a COCO result file (image_id, category_id, bbox, score, segmentation for masks).
        category_ids: of the K classes, in the order of the result.
        iou_type: "bbox" or "segm".
        image_ids: pictures that count; None: all of the ground truth.
        max_dets: best detections kept: of each picture and class (COCO), of each picture (federated).
        federated: LVIS's rules: a class counts on a picture only if it is annotated there or in the picture's
            `neg_category_ids`; unmatched detections of its `not_exhaustive_category_ids` are neither right nor wrong.
        block: classes matched at a time; bounds the memory that pycocotools takes.
    """
    if federated:
        rows = _federated_rows(ground_truth, rows, max_dets)
    image_ids = sorted(row["id"] for row in ground_truth["images"]) if image_ids is None else sorted(image_ids)
    unexhausted = {
        (image["id"], category) for image in ground_truth["images"] if federated
        for category in image.get("not_exhaustive_category_ids", ())
    }  # fmt: skip
    parts = []
    for start in range(0, len(category_ids), block):
        some = list(category_ids[start : start + block])
        truth = _index(ground_truth, _pick(ground_truth["annotations"], some))
        found = _index(ground_truth, _as_annotations(_pick(rows, some), iou_type))
        evaluation = _Evaluation(truth, found, iou_type, unexhausted)
        evaluation.params.catIds = sorted(some)
        evaluation.params.imgIds = image_ids
        evaluation.params.maxDets = [max_dets]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][..., 0, 0]  # (10 IoUs, 101 recalls, k)
        recall = evaluation.eval["recall"][..., 0, 0]  # (10 IoUs, k)
        order = np.argsort(np.argsort(some))
        parts.append((precision[:, :, order], recall[:, order]))
    precision = np.concatenate([part[0] for part in parts], axis=2)  # (10, 101, K)
    recall = np.concatenate([part[1] for part in parts], axis=1)  # (10, K)
    precision, recall = np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall)
    return ClassPrecision(
        category_ids=tuple(category_ids),
        ap=precision.mean(axis=(0, 1)),
        ap50=precision[0].mean(axis=0),
        ap75=precision[5].mean(axis=0),
        recall=recall.mean(axis=0),
    )


def summarise(
    result: ClassPrecision, groups: Sequence[str], frequencies: Sequence[str] | None = None
) -> dict[str, float]:
    """Means over the classes of each group, in percent, classes without an object left out.

    Args:
        result: of K classes.
        groups: K of "base", "novel" and "unused"; the unused count nowhere.
        frequencies: K of "r", "c" and "f", or None.

    Returns:
        "AP_base", "AP50_novel", "AP75_all", "AR_all" and so on; with frequencies also "APr", "APc" and "APf". A group
        without objects is left out.
    """
    groups_of = np.asarray(groups)
    members = {"all": groups_of != "unused", "base": groups_of == "base", "novel": groups_of == "novel"}
    numbers = {}
    for metric, values in (("AP", result.ap), ("AP50", result.ap50), ("AP75", result.ap75), ("AR", result.recall)):
        for group, inside in members.items():
            numbers[f"{metric}_{group}"] = _mean_percent(values[inside])
    for letter in "rcf" if frequencies is not None else "":
        numbers[f"AP{letter}"] = _mean_percent(result.ap[np.asarray(frequencies) == letter])
    return {name: value for name, value in numbers.items() if value is not None}


class _Evaluation(COCOeval):
    """COCO's evaluation, in which unmatched detections of classes that were not annotated to the end do not count."""

    def __init__(self, truth: COCO, found: COCO, iou_type: str, unexhausted: set[tuple[int, int]]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(truth, found, iou_type)
        self.unexhausted = unexhausted

    def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:
        """One picture and class, as pycocotools calls it."""
        result: dict[str, Any] | None = super().evaluateImg(imgId, catId, aRng, maxDet)
        if result is not None and (imgId, catId) in self.unexhausted:
            result["dtIgnore"] = np.logical_or(result["dtIgnore"], result["dtMatches"] == 0)
        return result


def _federated_rows(ground_truth: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], limit: int) -> list[Any]:
    """Detections on pictures where their class was looked for, from the best `limit` of each picture."""
    looked_for = {image["id"]: set(image.get("neg_category_ids", ())) for image in ground_truth["images"]}
    for row in ground_truth["annotations"]:
        looked_for[row["image_id"]].add(row["category_id"])
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_image.setdefault(row["image_id"], []).append(row)
    kept: list[Any] = []
    for image_id, found in by_image.items():
        best = sorted(found, key=lambda row: -row["score"])[:limit]
        kept += [row for row in best if row["category_id"] in looked_for.get(image_id, ())]
    return kept


def _pick(rows: Iterable[Mapping[str, Any]], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    wanted = set(category_ids)
    return [dict(row) for row in rows if row["category_id"] in wanted]


def _as_annotations(rows: list[dict[str, Any]], iou_type: str) -> list[dict[str, Any]]:
    """Give detections the area that pycocotools' own `loadRes` would; here no picture need be known to it."""
    for row in rows:
        row.update(iscrowd=0, area=row["bbox"][2] * row["bbox"][3])
        if iou_type == "bbox":
            row.pop("segmentation", None)
    return rows


def _index(ground_truth: Mapping[str, Any], annotations: list[dict[str, Any]]) -> COCO:
    """A pycocotools index of the ground truth's pictures and classes, with other annotations."""
    for index, row in enumerate(annotations):
        row["id"] = index + 1  # never 0, which pycocotools takes for "not matched"
        row.setdefault("iscrowd", 0)
        row.setdefault("area", row["bbox"][2] * row["bbox"][3])
    index_of = COCO()
    index_of.dataset = {**{key: ground_truth[key] for key in ("images", "categories")}, "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        index_of.createIndex()
    return index_of


def _mean_percent(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return None if not len(known) else float(known.mean() * 100)
