import pytest
import torch
from mmdet.structures import DetDataSample
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.vild.build import BUILDERS
from ovdet.vild.crops import crop_scores, true_rivals
from ovdet.vild.roi_head import ClassTable
from ovdet.vlm.crops import CropEncoder

WIDTH = 32


@pytest.fixture(scope="module")
def model():
    built = BUILDERS["vild_stickers_crops"]("text", embed_dim=WIDTH)
    built.init_weights()
    return built.eval()


def batch():
    samples = [
        DetDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1.0, 1.0), img_id=k))
        for k in range(2)
    ]
    return {
        "inputs": [torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8) for _ in samples],
        "data_samples": samples,
    }


def test_scores_are_geometric_means():
    vectors = F.normalize(torch.randn(4, 8), dim=1)
    table = ClassTable(F.normalize(torch.randn(3, 8), dim=1))
    objectness = torch.tensor([0.0, 0.25, 0.5, 1.0])
    scores = crop_scores(vectors, objectness, table, 0.1)
    names = (vectors @ table.embeddings.T / 0.1).softmax(dim=1)
    torch.testing.assert_close(scores, (names * objectness[:, None]) ** 0.5)


def test_the_weights_are_those_of_the_trained_detector():
    trained = BUILDERS["vild_stickers"]("text", embed_dim=WIDTH).state_dict()
    mine = BUILDERS["vild_stickers_crops"]("text", embed_dim=WIDTH).state_dict()
    assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in mine.items()}


def test_names_come_from_the_teacher_on_the_refined_boxes(model, tower):
    """Each detection's score is the one that the teacher and the RPN give its box, by a way of its own."""
    model.set_teacher(tower)
    names = torch.randn(4, WIDTH)
    model.set_class_embeddings(names)
    data = model.data_preprocessor(batch(), False)
    found = model(**data, mode="predict")
    table = F.normalize(names, dim=1)
    pictures = (data["inputs"] * model.data_preprocessor.std + model.data_preprocessor.mean) / 255
    proposals = model.rpn_head.predict(model.extract_feat(data["inputs"]), data["data_samples"], rescale=False)
    for picture, sample, own in zip(pictures, found, proposals, strict=True):
        boxes = sample.pred_instances.bboxes[:5]
        assert len(boxes) == 5
        vectors = CropEncoder(tower, model.config.crop_scales, square=model.config.square_crops).embed(
            picture[None, :, :96, :128].clamp(0, 1), [(96, 128)], [boxes]
        )[0]
        likely = (vectors @ table.T / model.config.test_temperature).softmax(dim=1)
        objectness = (
            sample.pred_instances.scores[:5] ** 2 / likely.gather(1, sample.pred_instances.labels[:5, None])[:, 0]
        )
        distance = (objectness[:, None] - own.scores[None]).abs().amin(dim=1)
        assert (distance < 1e-3).all()
        assert sample.pred_instances.masks.shape[1:] == (96, 128)


def test_without_a_teacher_it_says_so(model):
    model.set_teacher(None)
    model.set_class_embeddings(torch.randn(4, WIDTH))
    with pytest.raises(InputError, match="has no teacher"):
        model(**model.data_preprocessor(batch(), False), mode="predict")


def test_rivals_share_in_the_probabilities_and_are_never_answers():
    asked, others = torch.eye(6)[:2], torch.eye(6)[2:4]
    rows = torch.stack([torch.eye(6)[0], torch.eye(6)[2]])  # one is asked for, one is a rival
    table, objectness = ClassTable(asked), torch.ones(2)
    alone = crop_scores(rows, objectness, table, 0.1)
    among = crop_scores(rows, objectness, table, 0.1, others)
    assert alone.shape == among.shape == (2, 2)
    assert alone[1].tolist() == pytest.approx([0.5**0.5] * 2)  # forced to be one of two
    assert among[1].max() < 0.01 < 0.99 < among[0, 0]


def test_synonyms_are_no_rivals():
    asked = torch.tensor([[1.0, 0.0]])
    near, far = [0.95, 0.3122], [0.6, 0.8]
    assert true_rivals(torch.tensor([near, far]), asked).tolist() == [pytest.approx(far)]
    assert len(true_rivals(torch.tensor([near, far]), torch.zeros(0, 2))) == 2
