import json

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import LoadAnnotations, RandomFlip
from mmengine.dataset import pseudo_collate
from torch.nn import functional as F

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.proposals import Proposals, ProposalSource
from ovdet.data.shapes import NAMES, write_shapes
from ovdet.data.teacher_store.facts import StoreFacts, TeacherFacts
from ovdet.data.teacher_store.folder import StoreBuilder, finish
from ovdet.data.teacher_store.making import DatasetRows, Plan, make
from ovdet.data.teacher_store.reader import TeacherStore
from ovdet.data.transforms import LoadPicture, LoadProposals, PackDetection, TransformProposals
from ovdet.errors import InputError
from ovdet.vild.build import vild_tiny
from ovdet.vild.extract import BoxesOfRPN, RegionTeacher
from ovdet.vild.weights import CheckpointFacts, save_model

SOME_BOXES = np.asarray([[3, 4, 40, 30], [20, 2, 55, 44], [0, 0, 12, 12], [8, 8, 9, 9], [30, 30, 44, 44]], np.float32)


class Given:
    """The same boxes for every picture, some beyond its border."""

    needs_picture = False
    facts = {"kind": "file"}

    def __call__(self, picture, image_rgb=None):
        return Proposals(SOME_BOXES, np.linspace(0.9, 0.5, len(SOME_BOXES), dtype=np.float32))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, images=3, side=64)
    return folder


def dataset(shapes, *proposals):
    pipeline = [LoadPicture(), LoadAnnotations(with_bbox=True, with_mask=True), *proposals, PackDetection()]
    return OpenVocabularyDataset("annotations.json", str(shapes), dict(img="images"), base_only=True, pipeline=pipeline)


@pytest.fixture
def store(shapes, tower, tmp_path):
    teacher = RegionTeacher(tower)
    rows = DatasetRows(dataset(shapes))
    facts = StoreFacts(TeacherFacts(**teacher.facts("random-features")), Given.facts, {"file": "annotations.json"})
    builder = StoreBuilder(tmp_path / "store", facts, rows.keys_of_pictures)
    make(Plan(builder, rows, Given(), teacher), progress=False)
    finish(builder.folder)
    return TeacherStore(builder.folder)


@pytest.mark.parametrize("variant", ["image", "vild", "ensemble"])
def test_stored_rows_give_the_losses_of_the_teacher_at_hand(variant, shapes, store, tower):
    """On pictures as they are on disk; what differs is the rounding to halves."""

    def losses(source, teacher):
        torch.manual_seed(0)
        model = vild_tiny(variant)
        model.set_class_embeddings(tower.encode_text(NAMES), samples.metainfo["base_mask"])
        model.set_teacher(teacher)
        data = dataset(shapes, LoadProposals(source), TransformProposals())
        batch = pseudo_collate([data[index] for index in range(len(data))])
        torch.manual_seed(1)
        found = model.train()(**model.data_preprocessor(batch, True), mode="loss")
        return {
            name: float(sum(value).detach() if isinstance(value, list) else value.detach())
            for name, value in found.items()
        }

    samples = dataset(shapes)
    boxes = ProposalSource({int(key): Given()(None) for key in store.image_ids})
    stored, at_hand = losses(store, None), losses(boxes, tower)
    assert stored["loss_distill"] > 1 and stored.keys() == at_hand.keys()
    assert stored == pytest.approx(at_hand, rel=1e-4, abs=1e-6)
    assert stored["loss_distill"] != at_hand["loss_distill"], "the rows did go through halves"


def test_rows_stay_when_the_picture_is_flipped(shapes, store):
    data = dataset(shapes, LoadProposals(store), RandomFlip(prob=1.0), TransformProposals())
    sample = data[0]["data_samples"]
    found, width = sample.proposals, sample.img_shape[1]
    rows = store[sample.img_id]
    kept = [
        int((torch.from_numpy(np.array(rows.embeddings)).float() == row).all(dim=1).nonzero()[0])
        for row in found.embeds
    ]
    expected = np.asarray(rows.boxes_xyxy)[kept][:, [2, 1, 0, 3]]
    expected[:, [0, 2]] = width - expected[:, [0, 2]]
    limit = [width, sample.img_shape[0]] * 2
    np.testing.assert_allclose(found.bboxes, expected.clip(0, limit), atol=1e-4)
    assert len(kept) >= 3


def test_the_teacher_sees_the_picture_as_its_backbone_would(tower):
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    picture = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    boxes = torch.from_numpy(SOME_BOXES)
    for scales in ((1.0, 1.5), (1.0,)):
        expected = tower.region_embed_crop(picture, [boxes], scales)[0]
        found = RegionTeacher(tower, scales, block=3)(image, SOME_BOXES)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert RegionTeacher(tower)(image, SOME_BOXES[:0]).shape == (0, 32)


def test_low_precision_is_close_and_said(tower):
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    exact, rough = RegionTeacher(tower), RegionTeacher(tower, precision=torch.bfloat16)
    a, b = exact(image, SOME_BOXES), rough(image, SOME_BOXES)
    assert 1e-6 < np.abs(a - b).max() < 0.05
    assert exact.facts("x")["precision"] == "float32" and rough.facts("x")["precision"] == "bfloat16"
    assert exact.facts("x") == {
        "name": "x",
        "fingerprint": "random-features-0",
        "embed_dim": 32,
        "crop_scales": [1.0, 1.5],
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "RoIAlign, as many samples as pixels; warped to a square",
        "precision": "float32",
    }


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    model = vild_tiny("text")
    save_model(model, CheckpointFacts(**model.recipe, test_scale=(120, 96)), tmp_path / "rpn.pth")
    return tmp_path / "rpn.pth"


def test_boxes_of_an_rpn_are_in_the_pictures_frame(checkpoint):
    source = BoxesOfRPN.load(checkpoint, limit=20, sha256="abc")
    image = np.random.default_rng(0).integers(0, 255, (48, 70, 3), dtype=np.uint8)
    found = source({}, image)
    assert found.boxes_xyxy.shape == (20, 4) and found.scores.shape == (20,)
    assert (np.diff(found.scores) <= 0).all() and (found.boxes_xyxy >= 0).all()
    assert found.boxes_xyxy[:, [0, 2]].max() <= 70 and found.boxes_xyxy[:, [1, 3]].max() <= 48
    assert found.boxes_xyxy.max() > 48, "not in the frame of a smaller picture"
    assert json.loads(json.dumps(source.facts)) == {
        "kind": "rpn",
        "checkpoint": "rpn.pth",
        "sha256": "abc",
        "builder": "vild_tiny",
        "limit": 20,
        "test_scale": [120, 96],
        "nms_iou": 0.7,
        "precision": "float32",
    }


def test_boxes_of_an_rpn_are_its_own(checkpoint):
    """Those of the model's first stage on the same picture, scaled by hand."""
    source = BoxesOfRPN.load(checkpoint, limit=200)
    image = np.random.default_rng(0).integers(0, 255, (96, 120, 3), dtype=np.uint8)  # test_scale leaves it as it is
    model = source.model
    bgr = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    inputs = F.pad(((bgr.flip(0) - mean) / std)[None], (0, 8))  # sides to multiples of 32
    pyramid = model.extract_feat(inputs)
    scores, deltas = model.rpn_head(pyramid)
    metainfo = [dict(img_shape=(96, 120), scale_factor=(1.0, 1.0))]
    expected = model.rpn_head.predict_by_feat(scores, deltas, batch_img_metas=metainfo, rescale=False)[0]
    found = source({}, image)
    np.testing.assert_allclose(found.boxes_xyxy, expected.bboxes[:200].detach(), atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores[:200].detach(), atol=1e-6)


def test_an_rpn_that_keeps_fewer_boxes_is_refused(checkpoint):
    with pytest.raises(InputError, match="this RPN keeps 200 boxes of a picture; ask for no more, got 300"):
        BoxesOfRPN.load(checkpoint)
