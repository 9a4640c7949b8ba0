import pytest
import torch
from torchvision.ops import box_convert

from ovdet.errors import InputError
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.images import EncodedImages
from ovdet.xvlm.losses import box_losses, contrastive_loss, matching_loss
from ovdet.xvlm.masking import WordMasking
from ovdet.xvlm.training import XVLMTraining, square_boxes


@pytest.fixture
def masking(vocabulary):
    return WordMasking(vocabulary, vocabulary.index("[MASK]"))


def test_boxes_on_patch_edges_stay_there():
    edges = torch.tensor(
        [[x, y, x + w, y + h] for x in (0, 32, 96) for y in (64, 160) for w, h in ((32, 64), (224, 32))]
    )
    shares = box_convert(edges.float() / 384, "xyxy", "cxcywh")
    found = box_convert(square_boxes(shares, 384), "xywh", "xyxy")
    assert torch.equal(found, edges.double())


@torch.no_grad()
def test_all_losses_are_those_of_the_parts(model, tokens, masking, batch):
    training = XVLMTraining(model, tokens, masking=masking)
    torch.manual_seed(1)
    found = training.loss(**batch)
    assert set(found) == {"loss_contrast", "loss_match", "loss_words", "loss_box", "loss_giou"}
    ids, mask = tokens(batch["texts"])
    encoded = model.encode_images(training.prepare(batch["images"]))
    index = batch["image_index"]
    masks = model.image_encoder.region_masks(square_boxes(batch["boxes_cxcywh_norm"], 64))
    assert masks[3].all()
    seen = model.image_encoder.regions(encoded, index, masks).all()
    states = model.encode_text(ids, mask)
    vectors = model.space.of_images(seen[:, 0]), model.space.of_texts(states[:, 0])
    torch.testing.assert_close(found["loss_contrast"], contrastive_loss(*vectors, 0.07))
    boxes = model.predict_boxes(states, mask, encoded.tokens[index])
    expected = box_losses(boxes, batch["boxes_cxcywh_norm"], batch["is_image"])
    torch.testing.assert_close((found["loss_box"], found["loss_giou"]), expected)
    logits = [
        model.match_logits(model.first(states[a : a + 1], mask[a : a + 1], seen[b : b + 1], masks[b : b + 1]))
        for a in range(5)
        for b in range(5)
    ]
    pairs = torch.cat(logits).view(5, 5, 2)
    right = pairs[range(5), range(5)]
    wrong_most = torch.stack([pairs[a, b] for a in range(5) for b in range(5) if a != b])
    each = torch.nn.functional.cross_entropy(wrong_most, torch.zeros(20, dtype=torch.long), reduction="none")
    bounds = [float((matching_loss(right, right[:0]) * 5 + 10 * edge) / 15) for edge in (each.min(), each.max())]
    assert bounds[0] <= found["loss_match"].item() <= bounds[1]


def test_every_parameter_learns(model, tokens, masking, batch):
    training = XVLMTraining(model, tokens, masking=masking)
    sum(training.loss(**batch).values()).backward()
    without = [name for name, parameter in training.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in training.parameters())


def test_boxes_are_learned_from_whole_pictures(model, tokens, batch):
    """The box head never sees the region: no gradient of its loss depends on the mask."""
    training = XVLMTraining(model, tokens, ("box",))
    first = training.loss(**batch)
    model.image_encoder.regions = None  # would fail if it were asked
    encoder = type(model.image_encoder)
    model.image_encoder.regions = lambda encoded, index, masks: encoder.regions(
        model.image_encoder, encoded, index, torch.ones_like(masks)
    )
    torch.testing.assert_close(training.loss(**batch), first)


def test_pictures_alone_have_no_box_loss(model, tokens, batch):
    whole = {**batch, "is_image": torch.ones(5, dtype=torch.bool)}
    assert set(XVLMTraining(model, tokens, ("contrast", "box")).loss(**whole)) == {"loss_contrast"}


def test_a_step_of_two_grains_has_both(model, tokens, batch):
    training = XVLMTraining(model, tokens, ("contrast", "box"))
    whole = {**batch, "is_image": torch.ones(5, dtype=torch.bool)}
    both = training.loss(images=whole, regions=batch)
    assert set(both) == {"loss_contrast", "region_loss_contrast", "region_loss_box", "region_loss_giou"}
    assert set(training.loss(images=whole, regions=None)) == {"loss_contrast"}


def test_texts_of_one_picture_may_be_told_to_belong_together(model, tokens, batch):
    strangers = XVLMTraining(model, tokens, ("contrast",)).loss(**batch)["loss_contrast"]
    friends = XVLMTraining(model, tokens, ("contrast",), by_picture=True).loss(**batch)["loss_contrast"]
    assert (strangers - friends).abs() > 1e-3
    one = {**batch, "image_ids": torch.tensor([7, 7, 7])}
    losses = XVLMTraining(model, tokens, ("contrast", "match"), by_picture=True).loss(**one)
    assert all(value.isfinite() for value in losses.values())  # no wrong pair can be drawn


def test_the_temperature_is_clamped_in_pre_training_alone(model, tokens, batch):
    model.space.temperature.data.fill_(0.9)
    XVLMTraining(model, tokens, ("contrast",)).loss(**batch)
    assert model.space.temperature.item() == pytest.approx(0.9)
    XVLMTraining(model, tokens, ("contrast",), clamp_temperature=True).loss(**batch)
    assert model.space.temperature.item() == 0.5


def test_answers_are_in_pixels_of_the_original(model, tokens, batch):
    sizes = torch.tensor([[10, 20], [30, 40], [50, 60]])
    found = XVLMTraining(model, tokens, ("match", "box")).predict(**batch, size_hw=sizes)
    assert len(found) == 5
    for k, one in enumerate(found):
        height, width = sizes[batch["image_index"][k]].tolist()
        x, y, w, h = one["box_cxcywh_norm"].tolist()
        expected = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
        torch.testing.assert_close(one["box_xyxy"], torch.tensor(expected), atol=1e-4, rtol=1e-4)
        assert 0 < one["score"] < 1
    assert "box_xyxy" not in XVLMTraining(model, tokens, ("match",)).predict(**batch)[0]


def test_pictures_come_as_bytes_or_shares(model, tokens):
    training = XVLMTraining(model, tokens, ("match",))
    picture = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(training.prepare(picture), training.prepare(picture / 255))


def test_losses_that_the_model_has_no_head_for_are_refused(model, tokens, swin_sizes, text_sizes, masking):
    boxes = xvlm("box", swin_sizes, text_sizes)
    for built, losses, reason in (
        (boxes, ("match",), "no head for the loss 'match'"),
        (boxes, ("words",), "no head"),
        (model, ("words",), "needs masking"),
        (model, ("colour",), "must be some of"),
        (model, (), "must be some of"),
    ):
        with pytest.raises(InputError, match=reason):
            XVLMTraining(built, tokens, losses)
    XVLMTraining(boxes, tokens, ("box",))


def test_vit_models_train_too(vit_sizes, text_sizes, tokens, masking, batch):
    torch.manual_seed(0)
    model = xvlm("pretrain", vit_sizes, text_sizes, 16)
    losses = XVLMTraining(model, tokens, masking=masking).loss(**batch)
    sum(losses.values()).backward()
    assert len(losses) == 5 and model.image_encoder.trunk.cls_token.grad.abs().sum() > 0
    assert isinstance(model.encode_images(torch.zeros(1, 3, 64, 64)), EncodedImages)
