import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from ovdet.errors import CapabilityError, InputError
from ovdet.ops.masks import decode_masks
from ovdet.vild.build import vild_tiny
from ovdet.vild.predict import ViLDDetector, fitted_size, prepare_picture
from ovdet.vild.weights import CheckpointFacts

NAMES = ["cat", "dog", "coffee cup", "hot air balloon"]


@pytest.fixture
def detector(tower, tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    model = vild_tiny("ensemble", test_temperature=0.2)
    facts = CheckpointFacts(
        **model.recipe,
        text_tower={"name": "random-features", "fingerprint": tower.fingerprint},
        templates="plain",
        class_names=["cat", "dog", "bird"],
        base_mask=[True, False, True],
        test_scale=(160, 96),
        score_threshold=0.01,
    )
    return ViLDDetector(model, tower, facts)


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((90, 120), (60, 200), (200, 60))]


def test_every_picture_is_answered_in_its_own_frame(detector, pictures):
    results = detector.predict(pictures, NAMES, detector.embed(NAMES))
    assert [result.size_hw for result in results] == [(90, 120), (60, 200), (200, 60)]
    for result in results:
        assert 0 < len(result) <= 100
        assert result.class_names == tuple(NAMES)
        assert result.model == "vild"
        height, width = result.size_hw
        assert (result.boxes_xyxy >= 0).all()
        assert (result.boxes_xyxy[:, [0, 2]] <= width).all() and (result.boxes_xyxy[:, [1, 3]] <= height).all()
        assert (np.diff(result.scores) <= 0).all()


def test_a_batch_of_mixed_sizes_equals_one_at_a_time(detector, pictures):
    embeddings = detector.embed(NAMES)
    together = detector.predict(pictures, NAMES, embeddings)
    alone = [detector.predict([picture], NAMES, embeddings)[0] for picture in pictures]
    for one, two in zip(together, alone, strict=True):
        assert np.array_equal(one.boxes_xyxy, two.boxes_xyxy)
        assert np.array_equal(one.scores, two.scores)
        assert one.rles == two.rles


def test_boxes_without_names_are_apart_inside_and_best_first(detector, pictures):
    for picture in pictures:
        boxes_xyxy, objectness = detector.propose(picture, max_boxes=20, nms_iou=0.5)
        assert 0 < len(boxes_xyxy) == len(objectness) <= 20
        assert (np.diff(objectness) <= 0).all() and objectness.min() >= 0 and objectness.max() <= 1
        height, width = picture.shape[:2]
        assert (boxes_xyxy >= 0).all()
        assert (boxes_xyxy[:, [0, 2]] <= width).all() and (boxes_xyxy[:, [1, 3]] <= height).all()
        overlaps = box_iou(*[torch.from_numpy(boxes_xyxy)] * 2) - torch.eye(len(boxes_xyxy))
        assert overlaps.max() <= 0.5
    named = detector.predict(pictures[:1], NAMES, detector.embed(NAMES), score_threshold=0.0)[0]
    loose, _ = detector.propose(pictures[0], max_boxes=1000, nms_iou=1.0)
    nearest = np.abs(named.boxes_xyxy[:, None] - loose).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-3  # what is named is among what is proposed


@pytest.mark.parametrize("size_hw", [(90, 120), (64, 64), (33, 17)])
def test_without_a_test_scale_a_picture_keeps_its_size(detector, size_hw):
    picture = np.random.default_rng(0).integers(0, 255, (*size_hw, 3), dtype=np.uint8)
    data, scale_xy = prepare_picture(detector.model, picture, ())
    assert data["data_samples"][0].img_shape[:2] == size_hw and scale_xy == (1.0, 1.0)


def test_the_desk_gives_what_the_model_gives(detector, pictures):
    """The same through mmdet's contract, with the resizing done by hand."""
    picture = pictures[0][:, :, :]
    bigger = np.zeros((96, 128, 3), np.uint8)
    bigger[:90, :120] = picture
    detector.facts = CheckpointFacts("vild_tiny", test_scale=(128, 96), score_threshold=0.01)
    result = detector.predict([bigger], NAMES, detector.embed(NAMES))[0]
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0)))
    bgr = torch.from_numpy(bigger[:, :, ::-1].copy()).permute(2, 0, 1)
    mask = [name in ("cat", "bird") for name in NAMES]
    detector.model.set_class_embeddings(detector.embed(NAMES), mask)
    found = detector.model.test_step({"inputs": [bgr], "data_samples": [sample]})[0].pred_instances
    keep = found.scores > 0.01
    np.testing.assert_allclose(result.boxes_xyxy, found.bboxes[keep].numpy(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(result.scores, found.scores[keep].numpy(), rtol=1e-5)
    assert np.array_equal(result.labels, found.labels[keep].numpy())
    assert (decode_masks(result.rles, (96, 128)) != found.masks[keep].numpy()).mean() < 1e-3


def test_known_names_weigh_the_text_head_more(detector):
    table = detector.class_table(["Cat", "dog", "zebra", "bird"], torch.randn(4, 32))
    assert table.base_mask.tolist() == [True, False, False, True]


def test_without_base_names_all_names_weigh_the_same(detector, tower):
    blank = ViLDDetector(detector.model, tower, CheckpointFacts("vild_tiny"))
    assert blank.class_table(NAMES, torch.randn(4, 32)).base_mask is None


def test_the_vocabulary_is_an_argument(detector, pictures):
    embeddings = detector.embed(NAMES)
    before = detector.predict(pictures[:1], NAMES, embeddings)[0]
    detector.predict(pictures[:1], ["zebra"], detector.embed(["zebra"]))
    after = detector.predict(pictures[:1], NAMES, embeddings)[0]
    assert np.array_equal(before.scores, after.scores)
    assert len(detector.model.class_table) == 0


def test_limits(detector, pictures):
    embeddings = detector.embed(NAMES)
    everything = detector.predict(pictures[:1], NAMES, embeddings, score_threshold=0.0, max_dets=50)[0]
    assert len(everything) == 50
    cut = float(everything.scores[20])
    above = detector.predict(pictures[:1], NAMES, embeddings, score_threshold=cut, max_dets=50)[0]
    assert np.array_equal(above.scores, everything.scores[everything.scores > cut])
    assert detector.predict(pictures[:1], NAMES, embeddings, masks=False)[0].rles is None
    assert len(detector.predict(pictures[:1], NAMES, embeddings, max_dets=0)[0]) == 0


@pytest.mark.parametrize("size_hw", [(1, 1), (3000, 2), (2, 3000), (16, 16)])
def test_odd_pictures(detector, size_hw):
    result = detector.predict([np.zeros((*size_hw, 3), np.uint8)], NAMES, detector.embed(NAMES))[0]
    assert result.size_hw == size_hw


@pytest.mark.parametrize(
    "picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), "picture.jpg"]
)
def test_other_arrays_are_refused(detector, picture):
    with pytest.raises(InputError, match=r"\(H, W, 3\) uint8 RGB"):
        detector.predict([picture], NAMES, detector.embed(NAMES))


def test_an_empty_picture_is_refused(detector):
    with pytest.raises(InputError, match="nothing in it"):
        detector.predict([np.zeros((0, 8, 3), np.uint8)], NAMES, detector.embed(NAMES))


def test_embeddings_of_other_names_are_refused(detector, pictures):
    with pytest.raises(InputError, match="4 names but 3"):
        detector.predict(pictures, NAMES, torch.randn(3, 32))


def test_save_and_load(detector, tower, pictures, tmp_path):
    detector.save(tmp_path / "small.pth")
    loaded = ViLDDetector.load(tmp_path / "small.pth", text_tower=tower)
    one, two = (each.predict(pictures[:1], NAMES, each.embed(NAMES))[0] for each in (detector, loaded))
    assert np.array_equal(one.boxes_xyxy, two.boxes_xyxy)
    assert np.array_equal(one.scores, two.scores)
    assert loaded.name == "vild:small.pth"


def test_a_tower_with_other_weights_is_refused(detector, tower, tmp_path, monkeypatch):
    detector.save(tmp_path / "small.pth")
    monkeypatch.setattr(type(tower), "fingerprint", "something else")
    with pytest.raises(InputError, match="other weights"):
        ViLDDetector.load(tmp_path / "small.pth", text_tower=tower)


def test_a_tower_of_another_width_is_refused(detector, tower):
    with pytest.raises(InputError, match="32 dimensions, the model in 16"):
        ViLDDetector(vild_tiny(embed_dim=16), tower, detector.facts)


def test_fitted_sizes_are_mmcvs():
    from mmcv import rescale_size

    for size in ((480, 640), (1080, 1920), (333, 77), (20, 3000), (800, 1333)):
        assert fitted_size(size, (1333, 800)) == rescale_size(size[::-1], (1333, 800))[::-1]
    assert fitted_size((30_000, 20), (1333, 800)) == (1333, 1)


def test_given_boxes_get_the_masks_that_found_ones_have(detector, pictures):
    found = detector.predict(pictures[1:2], NAMES, detector.embed(NAMES))[0]
    masks = detector.masks_of_boxes(pictures[1], found.boxes_xyxy)
    assert (masks == found.masks).mean() > 0.999 and masks.any()
    assert detector.masks_of_boxes(pictures[1], found.boxes_xyxy[:0]).shape == (0, 60, 200)
    detector.model.roi_head.mask_head = None
    with pytest.raises(CapabilityError, match="has no mask head"):
        detector.masks_of_boxes(pictures[1], found.boxes_xyxy)
