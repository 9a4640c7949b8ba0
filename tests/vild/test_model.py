import copy
from dataclasses import replace

import pytest
import torch
from mmengine.structures import InstanceData
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.vild.model import ViLDModel

VARIANTS = ["text", "image", "vild", "ensemble"]


def found(model: ViLDModel, batch: dict, table=None) -> list[InstanceData]:
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch), False)
    with torch.no_grad():
        if table is not None:
            return model.detect(data["inputs"], data["data_samples"], table)
        return [sample.pred_instances for sample in model(**data, mode="predict")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_gives_finite_losses_under_their_names(make_model, make_batch, losses_of, variant):
    losses = losses_of(make_model(variant), make_batch())
    expected = {"loss_rpn_cls", "loss_rpn_bbox", "loss_bbox", "loss_mask"}
    expected |= {"loss_cls", "acc"} if variant != "image" else set()
    expected |= {"loss_distill"} if variant != "text" else set()
    assert set(losses) == expected
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_in_the_original_frame(make_model, make_batch, variant):
    batch = make_batch()
    for sample in batch["data_samples"]:
        height, width = sample.img_shape
        sample.set_metainfo({"ori_shape": (height // 2, width // 2), "scale_factor": (2.0, 2.0)})
    for sample, size in zip(found(make_model(variant), batch), [(48, 64), (40, 50)], strict=True):
        assert sample.bboxes.shape == (len(sample), 4)
        assert sample.masks.shape == (len(sample), *size)
        assert sample.masks.dtype == torch.bool
        assert (sample.bboxes[:, 2] <= size[1]).all() and (sample.bboxes[:, 3] <= size[0]).all()
        assert (sample.scores.diff() <= 0).all()
        assert ((sample.scores > 1e-4) & (sample.scores <= 1)).all()


def test_stored_proposals_play_no_part_at_test(make_model, make_batch):
    model, batch = make_model("ensemble"), make_batch(proposals=6)
    bare = copy.deepcopy(batch)
    for sample in bare["data_samples"]:
        del sample.proposals
    for one, two in zip(found(model, batch), found(model, bare), strict=True):
        assert torch.equal(one.bboxes, two.bboxes)


@pytest.mark.parametrize("classes", [5, 80, 1203, 10_000])
def test_pitfall_17_any_number_of_names_at_test(make_model, make_batch, classes):  # acceptance 16
    model, batch = make_model("ensemble", test_temperature=1.0, score_thr=0.0), make_batch()
    results = found(model, batch, model.make_class_table(torch.randn(classes, 32)))
    assert all((each.labels < classes).all() and len(each) <= 100 for each in results)
    assert len(results[0]) > 0


@pytest.mark.parametrize("more", [80, 1203])
def test_shared_names_keep_their_logits(make_model, more):  # acceptance 16
    from ovdet.vild.heads import cosine_logits

    few = F.normalize(torch.randn(5, 32), dim=1)
    many = torch.cat([few, F.normalize(torch.randn(more - 5, 32), dim=1)])
    regions, background = torch.randn(40, 32), torch.randn(32)
    one, other = (cosine_logits(regions, names, background, 0.01) for names in (few, many))
    torch.testing.assert_close(other[:, :5], one[:, :5], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(other[:, -1], one[:, -1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuting_names_permutes_labels(make_model, make_batch, variant):  # acceptance 16
    model, batch, names = make_model(variant, test_temperature=0.1), make_batch(), torch.randn(12, 32)
    base = torch.rand(12) > 0.5
    order = torch.randperm(12)
    plain = found(model, batch, model.make_class_table(names, base))
    mixed = found(model, batch, model.make_class_table(names[order], base[order]))
    for one, two in zip(plain, mixed, strict=True):
        torch.testing.assert_close(one.scores, two.scores, rtol=1e-5, atol=1e-6)
        assert torch.equal(one.labels.bincount(minlength=12), order[two.labels].bincount(minlength=12))


def test_pitfall_17_the_vocabulary_is_no_part_of_a_checkpoint(make_model):
    model, other = make_model("ensemble", classes=5), make_model("ensemble", classes=9)
    assert not [key for key in model.state_dict() if "class_embeddings" in key or "base_mask" in key]
    other.load_state_dict(model.state_dict(), strict=True)
    assert len(other.class_table) == 9


def test_pitfall_15_rows_are_normalised_when_set(make_model):
    model = make_model("text")
    names = torch.randn(7, 32)
    model.set_class_embeddings((F.normalize(names, dim=1) * 1.003).half())
    torch.testing.assert_close(model.class_embeddings.norm(dim=1), torch.ones(7))
    assert model.class_embeddings.dtype == torch.float32


def test_a_table_given_leaves_the_table_set_alone(make_model, make_batch):
    model = make_model("ensemble")
    before = model.class_table.embeddings.clone()
    found(model, make_batch(), model.make_class_table(torch.randn(50, 32)))
    assert torch.equal(model.class_table.embeddings, before)


@pytest.mark.parametrize(
    ("embeddings", "mask", "words"),
    [
        (torch.zeros(4, 31), None, "must be .K, 32."),
        (torch.zeros(32), None, "must be"),
        (torch.ones(4, 32), [True], "base_mask"),
    ],
)
def test_tables_that_do_not_fit_are_refused(make_model, embeddings, mask, words):
    with pytest.raises(InputError, match=words):
        make_model("text").set_class_embeddings(embeddings, mask)


def test_an_unset_vocabulary_is_named(make_batch, losses_of):
    from ovdet.vild.build import vild_tiny

    with pytest.raises(InputError, match="set_class_embeddings"):
        losses_of(vild_tiny("text"), make_batch())


def test_an_empty_vocabulary_finds_nothing(make_model, make_batch):
    results = found(make_model("ensemble"), make_batch(), make_model("ensemble").make_class_table(torch.zeros(0, 32)))
    assert [len(each) for each in results] == [0, 0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_autocast_trains_and_detects(make_model, make_batch, losses_of, variant):
    model = make_model(variant)
    batch = make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(model, copy.deepcopy(batch))
        sum(value for name, value in losses.items() if "loss" in name).backward()
        results = found(model, batch)
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(each.bboxes.dtype == torch.float32 and torch.isfinite(each.scores).all() for each in results)


def test_only_the_best_scored_proposals_are_distilled_boxes_and_rows_together(make_model, make_batch, make_proposals):
    model = make_model("ensemble")
    model.roi_head.config = replace(model.config, max_distill_rois=4)
    given = make_proposals(9)
    given.embeds[:, 0] = given.bboxes[:, 0]  # tags
    kept = model._best_given(given, 0)
    assert len(kept) == 4
    assert torch.equal(kept.embeds[:, 0], kept.bboxes[:, 0])
    assert set(kept.bboxes[:, 0].tolist()) == set(given.bboxes[given.scores.topk(4).indices, 0].tolist())


def test_rows_of_another_teacher_are_refused(make_model, make_batch, losses_of):
    batch = make_batch()
    batch["data_samples"][0].proposals = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 9, 9]]), scores=torch.ones(1), embeds=torch.randn(1, 16)
    )
    with pytest.raises(InputError, match=r"must be \(1, 32\).*another teacher"):
        losses_of(make_model("vild"), batch)


class TestTeacher:
    def test_it_is_no_part_of_the_student(self, make_model, tower):
        model = make_model("ensemble")
        keys, parameters = set(model.state_dict()), len(list(model.parameters()))
        model.set_teacher(tower)
        assert set(model.state_dict()) == keys
        assert len(list(model.parameters())) == parameters

    @pytest.mark.parametrize("kind", ["bare boxes", "none"])
    def test_it_embeds_what_brings_no_embeddings(self, make_model, make_batch, losses_of, tower, kind):
        model, batch = make_model("ensemble"), make_batch(proposals=3 if kind == "bare boxes" else None)
        for sample in batch["data_samples"]:
            if kind == "bare boxes":
                del sample.proposals.embeds
        seen = []
        model.roi_head.image_head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        model.set_teacher(tower)
        losses = losses_of(model, batch)
        assert losses["loss_distill"] > 0
        assert seen == [6] if kind == "bare boxes" else 0 < seen[0] <= 200

    def test_it_sees_the_picture_as_it_was(self, make_model, make_batch, tower):
        """Undoing the normalisation and the channel order gives the crops of the picture itself."""
        model, batch = make_model("ensemble"), make_batch(proposals=3)
        model.set_teacher(tower)
        for sample in batch["data_samples"]:
            del sample.proposals.embeds
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        taught = model._distillation(data["inputs"], data["data_samples"], [None, None])
        for image_bgr, sample, regions in zip(batch["inputs"], batch["data_samples"], taught, strict=True):
            rgb = image_bgr.flip(0).float()[None] / 255
            expected = tower.region_embed_crop(rgb, [sample.proposals.bboxes])[0]
            torch.testing.assert_close(regions.embeds, expected, rtol=1e-4, atol=1e-5)

    def test_without_one_bare_boxes_are_refused(self, make_model, make_batch, losses_of):
        batch = make_batch()
        del batch["data_samples"][1].proposals.embeds
        with pytest.raises(InputError, match="picture 1 brings proposals without embeds"):
            losses_of(make_model("vild"), batch)

    def test_another_width_is_refused(self, make_model, tower):
        with pytest.raises(InputError, match="embed_dim=32"):
            make_model("vild", embed_dim=16).set_teacher(tower)
