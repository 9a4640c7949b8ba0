"""Scenes for detectors: what is annotated, what is never repeated, and a truth that the evaluator agrees with."""

import numpy as np
import pytest
import torch

from ovdet.data.sampling import Draw, SeededSampler
from ovdet.data.stickers.detection import StickerDetectionScenes
from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.errors import InputError
from ovdet.metrics.evaluator import DetectionMetric


@pytest.fixture(scope="module")
def make(real_names_pack):
    def build(**arguments):
        return StickerDetectionScenes("48-17", **{"length": 12, "pack": real_names_pack, "side": 128, **arguments})

    return build


def objects_of(sample):
    return sample["data_samples"].gt_instances


def test_a_sample_is_the_scene_in_blue_green_red_with_its_things(make):
    data = make(stream="validation")
    for index in range(4):
        scene, sample = data.scenes.scene(index), data[index]
        assert np.array_equal(sample["inputs"].numpy()[::-1].transpose(1, 2, 0), scene.image)
        things = objects_of(sample)
        assert np.array_equal(things.masks.masks.astype(bool), scene.masks)
        assert np.array_equal(things.bboxes.numpy(), scene.boxes_xyxy)
        assert np.array_equal(things.labels.numpy(), scene.labels)
        assert sample["data_samples"].img_shape == sample["data_samples"].ori_shape == (128, 128)


def test_novel_things_are_drawn_but_not_annotated(make):
    data, told = make(base_only=True), make()
    base_mask = np.asarray(data.metainfo["base_mask"])
    counts = []
    for index in range(12):
        sample, whole = data[index], told[index]
        assert torch.equal(sample["inputs"], whole["inputs"])
        labels = objects_of(whole).labels.numpy()
        assert objects_of(sample).labels.tolist() == labels[base_mask[labels]].tolist()
        counts.append((len(objects_of(sample)), len(objects_of(whole))))
    mine, everything = np.sum(counts, axis=0)
    assert 0 < mine < everything


def test_no_scene_of_a_training_comes_twice_and_a_resumed_one_goes_on(make):
    data = make(length=5)  # several passes
    draws = iter(SeededSampler(data, seed=3))
    numbers = [next(draws).number for _ in range(12)]
    assert numbers == list(range(12))
    again = iter(SeededSampler(data, seed=3, start=7))
    for number in range(7, 10):
        assert torch.equal(data[next(again)]["inputs"], data.scenes[number]["image"].flip(0))
    assert torch.equal(data[Draw(0, 11)]["inputs"], data[Draw(4, 11)]["inputs"])


def test_a_test_ends(make):
    data = make(stream="evaluation")
    assert len(data) == 12
    with pytest.raises(IndexError):
        data[12]


def test_the_names_are_those_of_the_split(make):
    meta, vocabulary = make().metainfo, load_vocabulary("48-17")
    assert meta["classes"] == vocabulary.names and len(meta["classes"]) == 65
    assert {n for n, g in zip(meta["classes"], meta["groups"], strict=True) if g == "novel"} == vocabulary.novel
    assert meta["source"]["candidates"] == 65 and meta["source"]["stream"] == "train"
    assert make(seed=4).metainfo["source"]["seed"] == 4


def test_held_out_styles_are_for_tests(make):
    with pytest.raises(InputError, match="never trained on"):
        make(styles="twemoji")
    assert make(styles="twemoji", stream="evaluation").metainfo["source"]["styles"] == ["twemoji"]


def test_nothing_to_draw_is_refused(make):
    with pytest.raises(InputError, match="length must be at least 1"):
        make(length=0)


def perfect(data, spoil=None):
    """Every thing found just where it is; what a Runner hands to a metric."""
    rows = []
    for index in range(len(data)):
        sample = data[index]["data_samples"]
        things = sample.gt_instances
        found = {
            "bboxes": things.bboxes.clone(),
            "labels": things.labels,
            "scores": torch.full((len(things),), 0.9),
            "masks": torch.from_numpy(things.masks.masks.astype(bool)),
        }
        if spoil:
            spoil(found)
        rows.append({**sample.to_dict(), "pred_instances": found})
    return rows


def test_the_truth_of_generated_pictures_is_read_off_the_samples(make):
    data = make(stream="validation")
    metric = DetectionMetric(iou_types=("bbox", "segm"))
    metric.dataset_meta = data.metainfo
    metric.process(None, perfect(data))
    numbers = metric.evaluate(len(data))
    assert numbers["ovdet/box_AP50_all"] == pytest.approx(100) and numbers["ovdet/mask_AP_novel"] == pytest.approx(100)
    protocol = metric.report["protocol"]
    assert protocol["annotations"] == "generated" and protocol["images"] == 12
    assert protocol["source"] == data.metainfo["source"]
    assert len(protocol["annotations_sha256"]) == 64


def test_things_beside_their_place_are_not_found(make):
    data = make(stream="validation")
    metric = DetectionMetric()
    metric.dataset_meta = data.metainfo
    metric.process(None, perfect(data, lambda found: found["bboxes"].add_(200)))
    assert metric.evaluate(len(data))["ovdet/box_AP50_all"] == 0
