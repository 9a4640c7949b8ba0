"""A closer look moves boxes to where things end, and answers each name alone, as the maps do."""

import dataclasses

import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.layers.compact import write_compact
from ovdet.ops.masks import boxes_xyxy_of_masks
from ovdet.zeroshot.closer import Thing, look_closer
from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.maps import look, name_maps
from ovdet.zeroshot.matching import make_matcher
from ovdet.zeroshot.predict import ZeroShotDetector
from ovdet.zeroshot.proposals import Looked, load_finder
from ovdet.zeroshot.proposer import Proposer
from ovdet.zeroshot.regions import Region, find_regions

CONFIG = ZeroShotConfig()


@pytest.fixture(scope="module")
def finder(backbone, tmp_path_factory):
    """A proposer that was taught nothing, by way of its file: boxes stay as they are, nothing is sure."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("proposer") / "proposer.safetensors"
    write_compact(path, Proposer().state_dict(), {"steps": 0})
    return load_finder(path, backbone)


@pytest.fixture
def closer(backbone, finder, tmp_path, monkeypatch):
    """The detector with a proposer and small views."""
    monkeypatch.setenv("OVDET_HOME", str(tmp_path))
    config = ZeroShotConfig(view_sides=(128, 192, 256), mirror_below=0, closer_sides=(128, 224))
    return ZeroShotDetector(backbone, config, finder=finder)


def ask(detector, image, names, **options):
    return detector.predict([image], names, detector.embed(names), **options)[0]


def region(box, score):
    return Region(box, score, score, np.zeros((40, 60), bool), np.zeros((40, 60), np.float32))


class Shifted:
    """A finder that moves every box ten pixels to the right and is less sure of the lower ones."""

    class trunk:
        mean = torch.zeros(1)

    def view(self, image, size_hw):
        return size_hw

    def look_closer(self, views, boxes):
        moved = boxes + torch.tensor([10.0, 0.0, 10.0, 0.0])
        quality = 1 - boxes[:, 1] / 1000
        masks = torch.ones(len(boxes), 28, 28)
        return Looked(moved, quality, masks, moved)


def test_boxes_and_scores_are_the_finders():
    image = np.zeros((400, 600, 3), np.uint8)  # ten pixels a cell
    found = [(region((5, 10, 20, 30), 0.9), 0), (region((30, 20, 50, 40), 0.5), 1)]
    first, second = look_closer(Shifted(), image, found, CONFIG, 0.0)
    assert first.box_xyxy == (60.0, 100.0, 210.0, 300.0) and first.label == 0
    assert first.score == pytest.approx(0.9), "of two equal numbers any mean is the same"
    assert second.score == pytest.approx((0.5**4 * 0.8) ** 0.2), "the region counts four times"
    assert [thing.label for thing in look_closer(Shifted(), image, found, CONFIG, 0.7)] == [0]
    assert look_closer(Shifted(), image, [], CONFIG, 0.0) == []


def test_of_boxes_in_each_others_way_the_better_of_each_name_stays():
    image = np.zeros((400, 600, 3), np.uint8)
    same, other = region((5, 10, 20, 30), 0.6), region((6, 10, 20, 30), 0.9)
    things = look_closer(Shifted(), image, [(same, 0), (other, 0), (same, 1)], CONFIG, 0.0)
    assert [(thing.label, thing.box_xyxy[0]) for thing in things] == [(0, 70.0), (1, 60.0)]


def test_a_mask_stays_in_its_box_and_is_never_empty():
    window = torch.tensor([0.0, 0.0, 56.0, 56.0])
    full = Thing((10.2, 10.0, 30.0, 39.5), 0.5, 0, torch.ones(28, 28), window)
    assert boxes_xyxy_of_masks(full.mask((100, 100))[None]).tolist() == [[10.0, 10.0, 30.0, 40.0]]
    empty = dataclasses.replace(full, likely=torch.zeros(28, 28))
    np.testing.assert_array_equal(empty.mask((100, 100)), full.mask((100, 100)))


def test_an_untaught_proposer_changes_scores_and_no_box(closer, backbone, small_cat):
    options = {"score_threshold": 0.3, "masks": False}
    result = ask(closer, small_cat, ["cat", "piano", "bicycle"], **options)
    assert set(result.names) == {"cat"}
    found = look(backbone, small_cat, closer.config)
    maps = dict(name_maps(found, make_matcher(backbone, closer.embed(["cat"])), (160, 320), closer.config, 0.25))
    (first, *_) = find_regions(maps[0], closer.config, 0.25)
    box = np.array(first.box) * np.array([320 / 128, 160 / 64] * 2)
    np.testing.assert_allclose(result.boxes_xyxy[0], box, atol=0.01)
    assert result.scores[0] == pytest.approx((first.score**4 / 2) ** 0.2, abs=1e-4)


def test_order_company_and_batch_change_nothing(closer, small_cat):
    names = ["cat", "dog", "animal", "tiger", "coffee cup"]
    options = {"score_threshold": 0.05, "max_dets": 1000}
    together = ask(closer, small_cat, names, **options)
    assert len(set(together.names)) >= 2
    rows = sorted(zip(together.names, together.scores.tolist(), map(tuple, together.boxes_xyxy.tolist()), strict=True))
    other_way = ask(closer, small_cat, names[::-1], **options)
    assert rows == sorted(
        zip(other_way.names, other_way.scores.tolist(), map(tuple, other_way.boxes_xyxy.tolist()), strict=True)
    )
    alone = ask(closer, small_cat, ["cat"], **options)
    assert [row for row in rows if row[0] == "cat"] == sorted(
        zip(alone.names, alone.scores.tolist(), map(tuple, alone.boxes_xyxy.tolist()), strict=True)
    )


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 3000), (33, 31)])
def test_odd_sizes(closer, size_hw):
    image = np.random.default_rng(0).integers(0, 255, (*size_hw, 3), dtype=np.uint8)
    result = ask(closer, image, ["cat", "animal"], score_threshold=0.001)
    assert result.size_hw == size_hw and len(result.masks) == len(result)


def test_its_own_threshold_is_the_default(closer, backbone):
    assert closer.score_threshold == CONFIG.closer_threshold
    assert ZeroShotDetector(backbone).score_threshold == CONFIG.score_threshold


def test_files_that_are_no_proposer_are_refused(backbone, tmp_path):
    broken, other = tmp_path / "broken.safetensors", tmp_path / "other.safetensors"
    broken.write_bytes(b"no weights")
    write_compact(other, {"weight": torch.zeros(3)}, {})
    for path, message in ((broken, "damaged"), (other, "no proposer"), (tmp_path / "none", "none")):
        with pytest.raises(InputError, match=message):
            load_finder(path, backbone)
