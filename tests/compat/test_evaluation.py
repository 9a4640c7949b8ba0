"""mmdet's COCO data set and metric on today's numpy and pycocotools: a known answer gets its known score."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.utils import register_all_modules
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

SIZE_HW = (60, 90)
BOXES_XYWH = [[[5, 5, 30, 40], [50, 10, 30, 30]], [[10, 20, 40, 30]]]  # one list a picture


@pytest.fixture
def annotation_file(tmp_path):
    register_all_modules()
    pictures, objects = [], []
    for i, boxes in enumerate(BOXES_XYWH):
        picture = np.full((*SIZE_HW, 3), 50 * i, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
        pictures.append({"id": i + 1, "file_name": f"{i}.png", "height": SIZE_HW[0], "width": SIZE_HW[1]})
        for j, (x, y, w, h) in enumerate(boxes):
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            identity = {"id": len(objects) + 1, "image_id": i + 1, "category_id": 7 + j, "iscrowd": 0}
            objects.append({**identity, "bbox": [x, y, w, h], "area": w * h, "segmentation": outline})
    categories = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
    path = tmp_path / "objects.json"
    path.write_text(json.dumps({"images": pictures, "annotations": objects, "categories": categories}))
    return path


def scores(annotation_file, shift):
    """The metric of predictions that are the truth, moved right by `shift` pixels."""
    metric = CocoMetric(ann_file=str(annotation_file), metric=["bbox", "segm"])
    metric.dataset_meta = {"classes": ("cat", "dog")}
    for i, boxes in enumerate(BOXES_XYWH):
        masks = np.zeros((len(boxes), *SIZE_HW), dtype=bool)
        for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
            mask[y : y + h, x + shift : x + shift + w] = True
        found = {
            "bboxes": torch.tensor([[x + shift, y, x + shift + w, y + h] for x, y, w, h in boxes]).float(),
            "scores": torch.linspace(0.9, 0.8, len(boxes)),
            "labels": torch.arange(len(boxes)),
            "masks": torch.from_numpy(masks),
        }
        metric.process({}, [{"img_id": i + 1, "ori_shape": SIZE_HW, "pred_instances": found}])
    return metric.evaluate(len(BOXES_XYWH))


def test_the_metric_gives_known_answers_their_known_scores(annotation_file):
    exact, moved = scores(annotation_file, 0), scores(annotation_file, 7)
    for kind in ("bbox", "segm"):
        assert exact[f"coco/{kind}_mAP"] == 1.0
        # IoU (w - 7) / (w + 7): cats 23/37 = 0.62 and 33/47 = 0.70, dog 0.62: at 0.5, 0.55 and 0.6 all are found;
        # at 0.65 and 0.7 the cat of width 40 alone. Its score 0.9 equals the other cat's, which comes first.
        cats = 3 * 1.0 + 2 * (0.5 * 51 / 101)
        assert moved[f"coco/{kind}_mAP"] == pytest.approx((cats / 10 + 0.3) / 2, abs=6e-4)
        assert moved[f"coco/{kind}_mAP_50"] == 1.0


@pytest.mark.parametrize("workers", [0, 1])
def test_the_data_set_loads_resizes_and_packs(annotation_file, workers):
    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        {"type": "Resize", "scale": (180, 120), "keep_ratio": True},
        {"type": "RandomFlip", "prob": 1.0},
        {"type": "PackDetInputs"},
    ]
    folder = {"img": str(annotation_file.parent)}
    dataset = CocoDataset(
        ann_file=str(annotation_file), data_prefix=folder, metainfo={"classes": ("cat", "dog")}, pipeline=steps
    )
    (batch,) = DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=pseudo_collate)
    for picture, sample, boxes in zip(batch["inputs"], batch["data_samples"], BOXES_XYWH, strict=True):
        assert picture.shape == (3, 120, 180)
        flipped = [[180 - 2 * (x + w), 2 * y, 180 - 2 * x, 2 * (y + h)] for x, y, w, h in boxes]
        torch.testing.assert_close(sample.gt_instances.bboxes.tensor, torch.tensor(flipped).float())
        areas = sample.gt_instances.masks.areas.tolist()
        assert areas == pytest.approx([4 * w * h for _, _, w, h in boxes], rel=0.1)
