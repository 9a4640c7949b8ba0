"""Against pycocotools' own summary, and against average precision restated by brute force."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ovdet.metrics.detection import ClassPrecision, class_precision, summarise
from ovdet.ops.masks import encode_masks

SIZE_HW = (60, 80)
CATEGORY_IDS = (2, 5, 9)


def box_mask(box):
    left, top, width, height = (round(side) for side in box)
    mask = np.zeros((1, *SIZE_HW), bool)
    mask[0, top : top + height, left : left + width] = True
    return encode_masks(mask)[0]


def scene(seed, images=6, crowds=True):
    """Random boxes with integer corners; detections are jittered truth and false alarms. First ids are 0."""
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for image_id in range(images):
        for _ in range(int(rng.integers(0, 5))):
            left, top = rng.integers(0, 50), rng.integers(0, 30)
            box = [float(value) for value in (left, top, rng.integers(6, 30), rng.integers(6, 30))]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": int(rng.choice(CATEGORY_IDS)),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowds and rng.random() < 0.1),
                    "segmentation": box_mask(box),
                }
            )
    for truth in annotations:
        for _ in range(int(rng.integers(0, 3))):
            box = [max(0.0, side + int(rng.integers(-3, 4))) for side in truth["bbox"][:2]]
            box += [float(max(3, side + int(rng.integers(-3, 4)))) for side in truth["bbox"][2:]]
            category = truth["category_id"] if rng.random() < 0.8 else int(rng.choice(CATEGORY_IDS))
            rows.append({"image_id": truth["image_id"], "category_id": category, "bbox": box})
    for row in rows:
        row.update(score=float(rng.random()), segmentation=box_mask(row["bbox"]))
    pictures = [{"id": key, "height": SIZE_HW[0], "width": SIZE_HW[1]} for key in range(images)]
    names = [{"id": key, "name": f"n{key}"} for key in CATEGORY_IDS]
    return {"images": pictures, "annotations": annotations, "categories": names}, rows


def summary_of_pycocotools(truth, rows, iou_type):
    """Its 12 numbers; ids moved by one, since it takes id 0 for "unmatched"."""
    annotations = [{**row, "id": row["id"] + 1} for row in truth["annotations"]]
    coco = COCO()
    coco.dataset = {**truth, "annotations": annotations, "info": {}}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        found = coco.loadRes([{**row, **({} if iou_type == "segm" else {"segmentation": []})} for row in rows])
        evaluation = COCOeval(coco, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def box_iou(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


def brute_force_ap(truth, rows, threshold, counts=lambda image, category: True, excused=lambda image, category: False):
    """Mean over classes of 101-point AP, matching each detection in turn to the best free box; no crowds."""
    values = []
    for category in CATEGORY_IDS:
        wanted = [row for row in truth["annotations"] if row["category_id"] == category]
        if not wanted:
            continue
        found = [row for row in rows if row["category_id"] == category and counts(row["image_id"], category)]
        free, hits = list(wanted), []
        for row in sorted(found, key=lambda row: -row["score"]):
            near = [
                (box_iou(row["bbox"], other["bbox"]), index)
                for index, other in enumerate(free)
                if other["image_id"] == row["image_id"]
            ]
            best = max(near, default=(0, -1))
            if best[0] >= threshold:
                free.pop(best[1])
                hits.append(1)
            elif not excused(row["image_id"], category):
                hits.append(0)
        right = np.cumsum(hits)
        recall, precision = right / len(wanted), right / np.arange(1, len(hits) + 1)
        points = [precision[recall >= level].max(initial=0) for level in np.linspace(0, 1, 101)]
        values.append(np.mean(points))
    return float(np.mean(values)) * 100


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_all_classes_as_pycocotools_summarises(seed, iou_type):
    truth, rows = scene(seed)
    result = class_precision(truth, rows, CATEGORY_IDS, iou_type=iou_type, block=2)
    numbers = summarise(result, ("base", "novel", "base"))
    stats = summary_of_pycocotools(truth, rows, iou_type)
    assert [numbers[key] for key in ("AP_all", "AP50_all", "AP75_all")] == pytest.approx(stats[:3] * 100, abs=1e-9)
    assert numbers["AR_all"] == pytest.approx(stats[8] * 100, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_ap50_as_brute_force(seed):
    truth, rows = scene(seed, crowds=False)
    result = class_precision(truth, rows, CATEGORY_IDS)
    assert np.nanmean(result.ap50) * 100 == pytest.approx(brute_force_ap(truth, rows, 0.5), abs=1e-9)
    assert np.nanmean(result.ap75) * 100 == pytest.approx(brute_force_ap(truth, rows, 0.75), abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_federated_as_brute_force(seed):
    truth, rows = scene(seed, crowds=False)
    rng = np.random.default_rng(seed)
    positive = {(row["image_id"], row["category_id"]) for row in truth["annotations"]}
    for image in truth["images"]:
        absent = [key for key in CATEGORY_IDS if (image["id"], key) not in positive]
        present = [key for key in CATEGORY_IDS if (image["id"], key) in positive]
        image["neg_category_ids"] = [key for key in absent if rng.random() < 0.5]
        image["not_exhaustive_category_ids"] = [key for key in present if rng.random() < 0.5]
    images = {image["id"]: image for image in truth["images"]}
    expected = brute_force_ap(
        truth,
        rows,
        0.5,
        counts=lambda image, key: (image, key) in positive or key in images[image]["neg_category_ids"],
        excused=lambda image, key: key in images[image]["not_exhaustive_category_ids"],
    )
    result = class_precision(truth, rows, CATEGORY_IDS, federated=True, max_dets=300)
    assert np.nanmean(result.ap50) * 100 == pytest.approx(expected, abs=1e-9)


def test_federated_keeps_the_best_of_a_picture_over_all_classes():
    truth, _ = scene(0, images=1)
    truth["annotations"] = [{"id": 1, "image_id": 0, "category_id": 2, "bbox": [0, 0, 10, 10]}]
    truth["images"][0]["neg_category_ids"] = []
    rows = [{"image_id": 0, "category_id": 5, "bbox": [0, 0, 10, 10], "score": 0.9}]
    rows.append({"image_id": 0, "category_id": 2, "bbox": [0, 0, 10, 10], "score": 0.8})
    assert class_precision(truth, rows, CATEGORY_IDS, federated=True, max_dets=2).ap50[0] == pytest.approx(1)
    assert class_precision(truth, rows, CATEGORY_IDS, federated=True, max_dets=1).ap50[0] == 0


def test_order_of_classes_is_the_callers():
    truth, rows = scene(1)
    ascending = class_precision(truth, rows, CATEGORY_IDS)
    turned = class_precision(truth, rows, CATEGORY_IDS[::-1], block=2)
    np.testing.assert_array_equal(turned.ap, ascending.ap[::-1])


def test_only_the_asked_pictures_count():
    truth, rows = scene(2)
    some = {**truth, "images": truth["images"][:3]}
    some["annotations"] = [row for row in truth["annotations"] if row["image_id"] < 3]
    expected = class_precision(some, [row for row in rows if row["image_id"] < 3], CATEGORY_IDS)
    np.testing.assert_array_equal(class_precision(truth, rows, CATEGORY_IDS, image_ids=[0, 1, 2]).ap, expected.ap)


def test_nothing_found_is_zero_and_nothing_there_is_left_out():
    truth, _ = scene(3)
    truth["annotations"] = [row for row in truth["annotations"] if row["category_id"] == 5]
    numbers = summarise(class_precision(truth, [], CATEGORY_IDS), ("base", "novel", "base"))
    assert numbers["AP50_novel"] == numbers["AP50_all"] == 0
    assert "AP50_base" not in numbers


def fixed(ap50):
    values = np.asarray(ap50, dtype=float)
    return ClassPrecision(tuple(range(len(values))), values, values, values, values)


def test_overall_ap50_is_the_weighted_mean_of_the_groups():
    # BARON's published OV-COCO row: base 60.4 over 48 classes, novel 34.0 over 17, all 53.5
    numbers = summarise(
        fixed([0.604] * 48 + [0.34] * 17 + [0.99] * 15), ["base"] * 48 + ["novel"] * 17 + ["unused"] * 15
    )
    assert numbers["AP50_base"] == pytest.approx(60.4)
    assert numbers["AP50_novel"] == pytest.approx(34.0)
    assert numbers["AP50_all"] == pytest.approx((48 * 60.4 + 17 * 34.0) / 65) == pytest.approx(53.5, abs=0.05)


def test_lvis_groups_by_frequency():
    numbers = summarise(fixed([0.1, 0.3, 0.5, np.nan]), ["novel", "base", "base", "novel"], ["r", "c", "f", "r"])
    assert (numbers["APr"], numbers["APc"], numbers["APf"]) == pytest.approx((10, 30, 50))
    assert numbers["AP_all"] == pytest.approx(30)
    assert numbers["AP_base"] == pytest.approx(40)


@pytest.mark.parametrize(
    ("rare", "common", "frequent", "overall"),
    [(16.8, 25.6, 28.5, 25.2), (18.0, 24.7, 30.6, 25.9), (10.1, 23.9, 32.5, 24.9)],  # ViLD*, ensemble, text: mask AP
)
def test_lvis_overall_ap_is_the_mean_over_classes_that_occur(rare, common, frequent, overall):
    # LVIS v1 val: published rows fit 0.170 APr + 0.4415 APc + 0.3886 APf; half of the rare classes do not occur there
    counts = {"r": (170, rare), "c": (442, common), "f": (388, frequent)}
    values = [value / 100 for count, value in counts.values() for _ in range(count)] + [np.nan] * 165
    frequencies = [letter for letter, (count, _) in counts.items() for _ in range(count)] + ["r"] * 165
    groups = ["novel" if letter == "r" else "base" for letter in frequencies]
    assert summarise(fixed(values), groups, frequencies)["AP_all"] == pytest.approx(overall, abs=0.1)
