"""The bridge from mmengine's evaluation to `ovdet.metrics`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from ovdet.errors import InputError
from ovdet.metrics.classification import top_k_accuracy
from ovdet.metrics.detection import ClassPrecision, class_precision, summarise
from ovdet.ops.masks import areas, encode_masks

IOU_TYPES = {"bbox": "box", "segm": "mask"}


class DetectionMetric(BaseMetric):
    """Base, novel and overall average precision of the data set at hand; its metainfo says which names are which.

    The truth is the file that the metainfo names as "ann_file"; where it names none, as of generated pictures, it is
    the gt_instances of the samples.

    Args:
        iou_types: of "bbox" and "segm".
        max_dets: detections kept: of each picture and class, or of each picture where `federated`.
        federated: LVIS's rules of which pictures count for a class.
        prefix: of the numbers' names: "prefix/box_AP50_novel".
    """

    default_prefix = "ovdet"

    def __init__(
        self,
        iou_types: Sequence[str] = ("bbox",),
        max_dets: int = 100,
        federated: bool = False,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        unknown = set(iou_types) - set(IOU_TYPES)
        if unknown:
            raise InputError(f"iou_types must be of {sorted(IOU_TYPES)}, got {sorted(unknown)}")
        self.iou_types, self.max_dets, self.federated = tuple(iou_types), max_dets, federated
        self.report: dict[str, Any] = {}
        """After an evaluation: numbers of each class, and what was measured on what."""

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the detections of one batch, as rows of a COCO result file."""
        for sample in data_samples:
            found = sample["pred_instances"]
            boxes_xyxy = found["bboxes"].float().cpu().numpy()
            rles = encode_masks(found["masks"].cpu().numpy()) if "segm" in self.iou_types else None
            category_ids = self.dataset_meta["category_ids"]
            labels, scores = found["labels"].tolist(), found["scores"].float().tolist()
            rows = []
            for index, (x1, y1, x2, y2) in enumerate(boxes_xyxy.tolist()):
                row = {
                    "image_id": sample["img_id"],
                    "category_id": category_ids[labels[index]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": scores[index],
                }
                if rles is not None:
                    row["segmentation"] = rles[index]
                rows.append(row)
            truth = None if "ann_file" in self.dataset_meta else _truth_of(sample, category_ids)
            self.results.append((sample["img_id"], rows, truth))

    def compute_metrics(
        self, results: list[tuple[int, list[dict[str, Any]], dict[str, Any] | None]]
    ) -> dict[str, float]:
        """Numbers in percent, named "box_AP50_novel" and so on."""
        meta = self.dataset_meta
        truth = json.loads(Path(meta["ann_file"]).read_bytes()) if "ann_file" in meta else _join(results, meta)
        rows = [row for _, some, _ in results for row in some]
        image_ids = sorted({image_id for image_id, _, _ in results})
        numbers: dict[str, float] = {}
        per_class: list[dict[str, Any]] = [
            {"name": name, "group": group} for name, group in zip(meta["classes"], meta["groups"], strict=True)
        ]
        for iou_type in self.iou_types:
            kind = IOU_TYPES[iou_type]
            result = class_precision(
                truth,
                rows,
                meta["category_ids"],
                iou_type=iou_type,
                image_ids=image_ids,
                max_dets=self.max_dets,
                federated=self.federated,
            )
            numbers |= {f"{kind}_{k}": v for k, v in summarise(result, meta["groups"], meta["frequencies"]).items()}
            _add_class_numbers(per_class, kind, result)
        self.report = {"per_class": per_class, "protocol": self._protocol(image_ids, truth)}
        return numbers

    def _protocol(self, image_ids: Sequence[int], truth: dict[str, Any]) -> dict[str, Any]:
        """What was measured on what."""
        meta = self.dataset_meta
        if "ann_file" in meta:
            path = Path(meta["ann_file"])
            name, content = path.name, path.read_bytes()
        else:
            name, content = "generated", json.dumps(truth, sort_keys=True).encode()
        return {
            "annotations": name,
            "annotations_sha256": hashlib.sha256(content).hexdigest(),
            **({"source": meta["source"]} if "source" in meta else {}),
            "images": len(image_ids),
            "split": meta["split"],
            "split_sha256": meta["split_digest"],
            "classes": {group: meta["groups"].count(group) for group in sorted(set(meta["groups"]))},
            "metric": "mean over classes of 101-point AP, percent"
            + (", federated (LVIS)" if self.federated else " (COCO)"),
            "iou_types": list(self.iou_types),
            "max_dets": self.max_dets,
            "max_dets_of": "picture" if self.federated else "picture and class",
        }


def _truth_of(sample: dict[str, Any], category_ids: Sequence[int]) -> dict[str, Any]:
    """The COCO rows of one generated picture: its things, with exact masks."""
    things, (height, width) = sample["gt_instances"], sample["ori_shape"][:2]
    rles = encode_masks(np.asarray(things["masks"].masks, dtype=bool).reshape(-1, height, width))
    annotations = []
    for box_xyxy, label, rle, area in zip(
        things["bboxes"].tolist(), things["labels"].tolist(), rles, areas(rles), strict=True
    ):
        x1, y1, x2, y2 = box_xyxy
        annotations.append(
            {
                "image_id": sample["img_id"],
                "category_id": category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(area),
                "segmentation": rle,
                "iscrowd": 0,
            }
        )
    return {"image": {"id": sample["img_id"], "height": height, "width": width}, "annotations": annotations}


def _join(results: Sequence[tuple[int, Any, Any]], meta: dict[str, Any]) -> dict[str, Any]:
    """The pictures' rows as one COCO-format truth, in the order of the pictures' ids."""
    pictures = {image_id: truth for image_id, _, truth in results}
    ordered = [pictures[image_id] for image_id in sorted(pictures)]
    rows = [row for one in ordered for row in one["annotations"]]
    return {
        "images": [one["image"] for one in ordered],
        "annotations": [{**row, "id": index + 1} for index, row in enumerate(rows)],
        "categories": [
            {"id": key, "name": name} for key, name in zip(meta["category_ids"], meta["classes"], strict=True)
        ],
    }


def _add_class_numbers(per_class: list[dict[str, Any]], kind: str, result: ClassPrecision) -> None:
    for row, ap, ap50 in zip(per_class, result.ap, result.ap50, strict=True):
        row[f"{kind}_AP"] = None if np.isnan(ap) else round(float(ap) * 100, 4)
        row[f"{kind}_AP50"] = None if np.isnan(ap50) else round(float(ap50) * 100, 4)


class TopK(BaseMetric):
    """Zero-shot classification: `ovdet.metrics.classification.top_k_accuracy` over a data set.

    Args:
        prefix: of the numbers' names: "prefix/top1".
    """

    default_prefix = "names"

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep scores and labels of one batch."""
        self.results += [(sample["scores"].float().cpu(), sample["label"]) for sample in data_samples]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """The shares, in percent."""
        scores, labels = zip(*results, strict=True)
        shares = top_k_accuracy(torch.stack(scores), torch.tensor(labels))
        return {name: 100 * share for name, share in shares.items()}
