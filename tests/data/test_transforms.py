import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.datasets.transforms import FilterAnnotations, RandomCrop, RandomFlip, Resize
from mmdet.structures.bbox import HorizontalBoxes
from PIL import Image

from ovdet.data.proposals import Proposals, ProposalSource
from ovdet.data.teacher_store.facts import StoreFacts, TeacherFacts
from ovdet.data.teacher_store.folder import PictureKey, StoreBuilder, finish
from ovdet.data.transforms import LoadPicture, LoadProposals, PackDetection, TransformProposals, move_boxes
from ovdet.errors import InputError


def proposals(rng, size_hw, count=30):
    """Random boxes; the embedding of row i is i, so that a row tells whose it is."""
    height, width = size_hw
    corners = rng.uniform(0, 1, (count, 2, 2)) * [width, height]
    boxes_xyxy = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 0.01], axis=1).astype(np.float32)
    tags = np.arange(count, dtype=np.float32)
    return Proposals(boxes_xyxy, tags / count, np.stack([tags, -tags], axis=1))


def iou(a, b):
    sides = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
    area = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - np.prod(sides)
    return np.prod(sides) / area


def analytic(box, steps):
    """One box through the same steps, written out for each kind of step."""
    x1, y1, x2, y2 = (float(edge) for edge in box)
    for kind, *numbers in steps:
        if kind == "scale":
            x1, x2, y1, y2 = x1 * numbers[0], x2 * numbers[0], y1 * numbers[1], y2 * numbers[1]
        elif kind == "shift":
            x1, x2, y1, y2 = x1 - numbers[0], x2 - numbers[0], y1 - numbers[1], y2 - numbers[1]
        else:
            x1, x2 = numbers[0] - x2, numbers[0] - x1
    return np.asarray([x1, y1, x2, y2])


class Recorder:
    """Runs a transform and notes, from the pictures alone, what it did; the picture codes its own coordinates."""

    def __init__(self, transform, steps):
        self.transform, self.steps = transform, steps

    def __call__(self, results):
        before = results["img"].copy()
        results = self.transform(results)
        if results is None:
            return None
        after = results["img"]
        if isinstance(self.transform, Resize):
            self.steps.append(("scale", after.shape[1] / before.shape[1], after.shape[0] / before.shape[0]))
        elif isinstance(self.transform, RandomFlip):
            if not np.array_equal(before, after):
                self.steps.append(("flip", before.shape[1]))
        else:  # a crop: find its corner, where the picture holds the value of the first pixel
            places = np.argwhere((before == after[0, 0]).all(axis=2))
            top, left = next(
                place for place in places
                if np.array_equal(before[place[0]:, place[1]:][: after.shape[0], : after.shape[1]], after)
            )  # fmt: skip
            self.steps.append(("shift", left, top))
        return results


def test_rows_stay_with_their_boxes_through_flip_resize_crop_and_filter():
    """1000 random pipelines: every kept row's box is the analytically moved box of its own proposal."""
    kept_rows = dropped_rows = 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        np.random.seed(seed)
        size_hw = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
        source = proposals(rng, size_hw)
        steps: list = []
        ratio = rng.uniform(0.1, 2.0)  # large-scale jitter
        geometry = [
            Resize(scale=(max(8, int(64 * ratio)), max(8, int(64 * ratio))), keep_ratio=bool(rng.random() < 0.7)),
            RandomCrop(crop_size=(40, 40), allow_negative_crop=True),
            RandomFlip(prob=0.5),
        ]
        order = rng.permutation(3) if seed % 2 else range(3)
        pipeline = Compose(
            [LoadProposals(ProposalSource({1: source}))]
            + [Recorder(geometry[index], steps) for index in order]
            + [FilterAnnotations(min_gt_bbox_wh=(1, 1), keep_empty=False), TransformProposals(min_side=1.0)]
        )
        boxes = HorizontalBoxes(np.asarray([[2, 2, 15, 15], [0, 0, 1, 1]], np.float32))
        results = pipeline(
            {
                "img_id": 1,
                "img": rng.integers(0, 256, (*size_hw, 3)).astype(np.uint8),
                "img_shape": size_hw,
                "gt_bboxes": boxes,
                "gt_bboxes_labels": np.asarray([0, 1]),
                "gt_ignore_flags": np.zeros(2, bool),
            }
        )
        height, width = results["img"].shape[:2]
        tags = results["proposal_embeds"][:, 0].astype(int)
        assert len(tags) == len(results["proposals"]) == len(results["proposal_scores"])
        np.testing.assert_array_equal(results["proposal_scores"], source.scores[tags])
        expected = np.stack([analytic(box, steps) for box in source.boxes_xyxy]).clip(0, [width, height] * 2)
        for box, tag in zip(results["proposals"], tags, strict=True):
            assert iou(box.astype(float), expected[tag]) == pytest.approx(1, abs=1e-3)
        inside = ((expected[:, 2:] - expected[:, :2]) >= 1).all(axis=1)
        assert set(np.flatnonzero(inside)) ^ set(tags) <= set(
            np.flatnonzero(np.abs(np.min(expected[:, 2:] - expected[:, :2], axis=1) - 1) < 1e-3)
        )
        kept_rows, dropped_rows = kept_rows + len(tags), dropped_rows + len(expected) - len(tags)
    assert kept_rows > 5000 and dropped_rows > 1000  # both happened


def test_rotation_is_refused():
    with pytest.raises(ValueError, match="scale, flip and shift only"):
        move_boxes(np.zeros((1, 4)), np.asarray([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]))


def test_packing_carries_the_three_together():
    results = {
        "img": np.zeros((8, 9, 3), np.uint8),
        "proposals": np.asarray([[0, 0, 4, 4]], np.float32),
        "proposal_scores": np.asarray([0.5], np.float32),
        "proposal_embeds": np.asarray([[0.6, 0.8]], np.float16),
        "img_id": 4,
    }
    packed = PackDetection(meta_keys=("img_id",))(results)
    found = packed["data_samples"].proposals
    assert packed["inputs"].shape == (3, 8, 9)
    assert found.bboxes.tolist() == [[0, 0, 4, 4]]
    assert (found.scores.tolist(), found.embeds.shape, found.embeds.dtype.is_floating_point) == ([0.5], (1, 2), True)
    assert "proposals" in results


def test_a_picture_without_proposals_has_none(tmp_path):
    source = ProposalSource({1: proposals(np.random.default_rng(0), (10, 10))})
    results = TransformProposals()(LoadProposals(source)({"img_id": 2, "img_shape": (10, 10)}))
    assert (results["proposals"].shape, results["proposal_embeds"].shape) == ((0, 4), (0, 2))


def test_limit_keeps_the_first_rows():
    source = ProposalSource({1: proposals(np.random.default_rng(0), (10, 10))})
    assert LoadProposals(source, limit=3)({"img_id": 1})["proposal_embeds"][:, 0].tolist() == [0, 1, 2]


def write_picture(path, size_hw, **options):
    Image.fromarray(np.full((*size_hw, 3), [10, 20, 30], np.uint8)).save(path, **options)
    return str(path)


def test_pictures_are_read_as_bgr(tmp_path):
    path = write_picture(tmp_path / "a.png", (4, 6))
    results = LoadPicture()({"img_path": path, "height": 4, "width": 6})
    assert results["img"][0, 0].tolist() == [30, 20, 10]
    np.testing.assert_array_equal(results["img"], cv2.imread(path))


def test_exif_rotation_follows_the_annotations(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    path = write_picture(tmp_path / "a.jpg", (8, 16), exif=exif)
    assert LoadPicture()({"img_path": path, "height": 16, "width": 8})["img"].shape == (16, 8, 3)
    assert LoadPicture()({"img_path": path, "height": 8, "width": 16})["img"].shape == (8, 16, 3)


def test_bad_pictures_are_named(tmp_path):
    path = write_picture(tmp_path / "a.png", (4, 6))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, message in (
        (str(tmp_path / "none.png"), r"cannot read the picture .*none\.png: No such file"),
        (str(tmp_path / "broken.png"), "damaged or no picture"),
        (str(tmp_path / "empty.png"), "damaged or no picture"),
        (path, "is 6 x 4 pixels, but its annotation file says 5 x 4"),
    ):
        with pytest.raises(InputError, match=message):
            LoadPicture()({"img_path": name, "height": 4, "width": 5})


def test_without_a_source_nothing_is_added():
    results = TransformProposals()(LoadProposals(None)({"img_id": 2, "img_shape": (10, 10)}))
    assert results == {"img_id": 2, "img_shape": (10, 10)}


def test_a_store_comes_by_its_folder_and_minds_the_size(tmp_path):
    source = proposals(np.random.default_rng(0), (10, 12))
    teacher = TeacherFacts("t", "f", 2)
    builder = StoreBuilder(tmp_path / "s", StoreFacts(teacher, {}, {"file": "a.json"}), [PictureKey(5, 10, 12)])
    builder.write(0, [source])
    finish(tmp_path / "s")
    load = LoadProposals(str(tmp_path / "s"), limit=4)
    results = load({"img_id": 5, "height": 10, "width": 12})
    assert results["proposal_embeds"][:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(results["proposals"], source.boxes_xyxy[:4])
    with pytest.raises(InputError, match="picture 5 is 12 x 11 pixels, but was 12 x 10"):
        load({"img_id": 5, "height": 11, "width": 12})
    with pytest.raises(InputError, match="has no picture 6"):
        load({"img_id": 6, "height": 10, "width": 12})
