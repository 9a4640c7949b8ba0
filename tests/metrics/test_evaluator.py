"""The bridge: predictions as mmdet gives them, in; the same numbers as from rows, out."""

import hashlib
import json

import numpy as np
import pytest
import torch

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.shapes import write_shapes
from ovdet.errors import InputError
from ovdet.metrics.evaluator import DetectionMetric
from ovdet.ops.masks import decode_masks


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = write_shapes(tmp_path_factory.mktemp("shapes"), images=8, side=64)
    return OpenVocabularyDataset(path, test_mode=True)


def predictions(data, spoil=None):
    """The ground truth as predictions, in two batches of four."""
    samples = []
    for index in range(len(data)):
        picture = data.get_data_info(index)
        size_hw = picture["height"], picture["width"]
        found = {
            "bboxes": torch.tensor([one["bbox"] for one in picture["instances"]], dtype=torch.float32),
            "labels": torch.tensor([one["bbox_label"] for one in picture["instances"]]),
            "scores": torch.full((len(picture["instances"]),), 0.9),
            "masks": torch.from_numpy(decode_masks([one["mask"] for one in picture["instances"]], size_hw)),
        }
        if spoil:
            spoil(found)
        samples.append({"img_id": picture["img_id"], "pred_instances": found})
    return samples[:4], samples[4:]


def evaluate(data, metric, batches):
    metric.dataset_meta = data.metainfo
    for batch in batches:
        metric.process(None, batch)
    return metric.evaluate(sum(len(batch) for batch in batches))


def test_the_truth_scores_full_marks(data):
    numbers = evaluate(data, DetectionMetric(("bbox", "segm"), prefix="shapes"), predictions(data))
    for key in ("box_AP_all", "box_AP50_base", "box_AP50_novel", "mask_AP_all", "mask_AR_novel"):
        assert numbers[f"shapes/{key}"] == pytest.approx(100)


def test_wrong_novel_names_cost_novel_precision_only(data):
    novel = torch.tensor([not base for base in data.metainfo["base_mask"]])

    def forget_novel(found):
        keep = ~novel[found["labels"]]
        for key in found:
            found[key] = found[key][keep]

    numbers = evaluate(data, DetectionMetric(), predictions(data, forget_novel))
    assert numbers["ovdet/box_AP50_base"] == pytest.approx(100)
    assert numbers["ovdet/box_AP50_novel"] == 0


def test_the_report_names_what_was_measured(data):
    metric = DetectionMetric(max_dets=50)
    evaluate(data, metric, predictions(data))
    protocol = metric.report["protocol"]
    with open(data.ann_file, "rb") as stream:
        assert protocol["annotations_sha256"] == hashlib.sha256(stream.read()).hexdigest()
    assert (protocol["images"], protocol["max_dets"], protocol["split_sha256"]) == (
        8,
        50,
        data.metainfo["split_digest"],
    )
    assert protocol["classes"] == {"base": 6, "novel": 3}
    rows = metric.report["per_class"]
    assert [row["name"] for row in rows] == list(data.metainfo["classes"])
    known = [row["box_AP50"] for row in rows if row["box_AP50"] is not None]
    assert np.mean(known) == pytest.approx(100)
    json.dumps(metric.report)


def test_only_the_pictures_seen_count(data):
    first, _ = predictions(data)
    metric = DetectionMetric()
    assert evaluate(data, metric, [first])["ovdet/box_AP50_all"] == pytest.approx(100)
    assert metric.report["protocol"]["images"] == 4


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match="iou_types must be of"):
        DetectionMetric(("boxes",))
