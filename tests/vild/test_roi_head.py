from dataclasses import replace

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.vild.build import Architecture, assemble
from ovdet.vild.config import ViLDConfig
from ovdet.vild.heads import EncoderSizes
from ovdet.vild.roi_head import ClassTable

VARIANTS = ["text", "image", "vild", "ensemble"]


@pytest.fixture
def pyramid():
    return [torch.randn(1, 32, 32 // 2**level, 32 // 2**level) for level in range(5)]


@pytest.fixture
def proposals():
    boxes = torch.rand(30, 4) * 60
    boxes[:, 2:] += boxes[:, :2] + 5
    return [InstanceData(bboxes=boxes, scores=torch.rand(30))]


def table(names: torch.Tensor, base: list[bool] | None = None) -> ClassTable:
    return ClassTable(F.normalize(names, dim=1), None if base is None else torch.tensor(base))


@torch.no_grad()
def branches(head, pyramid, proposals):
    """Both branches by hand: unit embeddings (N, D) of text and image head, deltas (N, 4)."""
    features = head.bbox_roi_extractor(tuple(pyramid[:4]), bbox2roi([proposals[0].bboxes]))
    text, deltas = head.bbox_head(features)
    image = head.image_head(features) if head.image_head is not None else text
    return F.normalize(text, dim=1), F.normalize(image, dim=1), deltas


@pytest.mark.parametrize("variant", VARIANTS)
def test_pitfall_23_scores_are_the_published_formula(make_model, pyramid, proposals, variant):
    """Best score of each class, restated from the paper; no multiclass_nms that wants normalised scores."""
    model = make_model(variant, test_temperature=0.05, score_thr=0.0).eval()
    head, names, base = model.roi_head, torch.randn(6, 32), [True, True, False, True, False, False]
    text, image, _ = branches(head, pyramid, proposals)
    unit = F.normalize(names, dim=1)
    p_image = (image @ unit.T / 0.05).softmax(1)
    if variant == "image":
        expected = p_image
    else:
        background = F.normalize(head.bbox_head.bg_embedding.detach(), dim=0)
        expected = (text @ torch.cat([unit, background[None]]).T / 0.05).softmax(1)[:, :-1]
    if variant == "ensemble":
        product = expected * p_image
        expected = torch.where(torch.tensor(base), product * expected, product * p_image) ** (1 / 3)
    with torch.no_grad():
        found = head.predict(pyramid, proposals, [(128, 128)], table(names, base), max_dets=10_000)[0]
    best = torch.stack([found.scores[found.labels == k].max() for k in range(6)])
    torch.testing.assert_close(best, expected.max(0).values, rtol=1e-4, atol=1e-6)


def test_pitfall_4_the_background_vector_cannot_move_the_image_branch(make_model, pyramid, proposals):
    model = make_model("ensemble").eval()
    names = table(torch.randn(4, 32))
    image_only = model.roi_head._score_rows(torch.randn(9, 32), torch.randn(9, 32), names, slice(0, 9))
    torch.manual_seed(5)
    text, image = torch.randn(9, 32), torch.randn(9, 32)
    model.roi_head.config = replace(model.config, free_text_exponent=0.0)  # the image head alone
    before = model.roi_head._score_rows(text, image, names, slice(0, 9))
    torch.nn.init.normal_(model.roi_head.bbox_head.bg_embedding, mean=3.0)
    assert torch.equal(model.roi_head._score_rows(text, image, names, slice(0, 9)), before)
    torch.testing.assert_close(before.sum(1), torch.ones(9))
    assert not torch.equal(image_only, before)


def test_pitfall_24_the_image_branch_sees_distillation_regions_only(make_model, make_batch, losses_of):
    model = make_model("ensemble")
    seen = {"text": [], "image": []}
    model.roi_head.bbox_head.register_forward_hook(lambda _, inputs, __: seen["text"].append(len(inputs[0])))
    model.roi_head.image_head.register_forward_hook(lambda _, inputs, __: seen["image"].append(len(inputs[0])))
    losses_of(model, make_batch(proposals=6))
    assert seen == {"text": [2 * 64], "image": [2 * 6]}


@pytest.mark.parametrize("variant", ["vild", "image"])
def test_one_head_takes_both_kinds_of_regions_at_once(make_model, make_batch, losses_of, variant):
    """512 sampled plus 300 distilled in the paper: no class or box loss on the latter."""
    model = make_model(variant)
    seen = []
    model.roi_head.bbox_head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    losses_of(model, make_batch(proposals=6))
    assert seen == [2 * 64 + 2 * 6]


def test_all_branches_see_all_regions_at_test(make_model, pyramid, proposals):
    model = make_model("ensemble").eval()
    seen = []
    model.roi_head.image_head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    model.roi_head.predict(pyramid, proposals, [(128, 128)], table(torch.randn(3, 32)))
    assert seen == [30]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_distillation_loss_teaches_its_own_branch_only(make_model, make_batch, losses_of, variant):
    model = make_model(variant)
    losses = losses_of(model, make_batch())
    if variant == "text":
        assert "loss_distill" not in losses
        return
    losses["loss_distill"].backward()
    touched = {
        name: float(sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None))
        for name, part in (
            ("text", model.roi_head.bbox_head.proj),
            ("boxes", model.roi_head.bbox_head.fc_reg),
            ("image", model.roi_head.image_head or torch.nn.Module()),
            ("backbone", model.backbone),
        )
    }
    assert touched["backbone"] > 0
    assert touched["boxes"] == 0
    assert (touched["image"] > 0) == (variant == "ensemble")
    assert (touched["text"] > 0) == (variant != "ensemble")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("proposals", [None, 0, 1, 6])
def test_every_parameter_gets_a_gradient(make_model, make_batch, losses_of, variant, proposals):
    """DDP without find_unused_parameters waits for each of them, regions to distil or not."""
    model = make_model(variant)
    losses = losses_of(model, make_batch(proposals=proposals))
    sum(value for name, value in losses.items() if "loss" in name).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    if variant != "text":
        assert (losses["loss_distill"].item() == 0) == (not proposals)


@pytest.mark.parametrize("proposals", [None, 1])
def test_normalised_fcs_and_masks_train_without_objects(make_batch, losses_of, proposals):
    """The official form has batch norm in the fcs and the mask head, and pictures may bring no region for either."""
    sizes = EncoderSizes(in_channels=32, conv_channels=32, num_convs=1, fc_channels=16, num_fcs=2)
    architecture = Architecture(
        18, 16, 32, sizes, fc_norm=True, mask_norm=True, rpn_convs=2, rpn_beta=1 / 9, regions=16
    )
    model = assemble(architecture, ViLDConfig("ensemble", embed_dim=32))
    model.set_class_embeddings(torch.randn(4, 32))
    batch = make_batch(proposals=proposals, boxes=(), labels=())
    if proposals:
        batch["data_samples"][1].proposals = batch["data_samples"][1].proposals[:0]  # one region in all
    losses = losses_of(model, batch)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())


def test_pictures_without_objects_train(make_model, make_batch, losses_of):
    losses = losses_of(make_model("ensemble"), make_batch(boxes=(), labels=()))
    assert losses["loss_bbox"].item() == losses["loss_mask"].item() == 0
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses["loss_cls"] > 0


def test_pitfall_3_training_is_blind_to_novel_embeddings(make_model, make_batch, losses_of):
    """The class loss with other vectors in the novel rows is the same; in a base row it is not."""
    losses = []
    names = torch.randn(5, 32)
    batch = make_batch()
    for row in (None, 4, 0):
        changed = names.clone()
        if row is not None:
            changed[row] = torch.randn(32)
        model = make_model("text")
        model.set_class_embeddings(changed, [True, True, True, False, False])
        torch.manual_seed(1)
        losses.append(losses_of(model, batch)["loss_cls"].item())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_novel_label_among_the_training_objects_is_refused(make_model, make_batch, losses_of):
    with pytest.raises(InputError, match="label 4, which base_mask marks as novel"):
        losses_of(make_model("text"), make_batch(labels=(4,)))


def test_a_label_beyond_the_table_is_refused(make_model, make_batch, losses_of):
    with pytest.raises(InputError, match="5 classes"):
        losses_of(make_model("text"), make_batch(labels=(9,)))


def test_missing_masks_are_named(make_model, make_batch, losses_of):
    batch = make_batch()
    del batch["data_samples"][0].gt_instances.masks
    model = make_model("text")
    model.data_preprocessor.pad_mask = False
    with pytest.raises(InputError, match=r"picture 0 .* brings no masks"):
        losses_of(model, batch)


def test_boxes_only(make_model, make_batch, losses_of):
    batch = make_batch()
    for sample in batch["data_samples"]:
        del sample.gt_instances.masks
    losses = losses_of(make_model("ensemble", with_mask=False), batch)
    assert "loss_mask" not in losses


def test_class_losses_by_hand(make_model, pyramid):
    """Softmax cross-entropy at the training temperature over sampled regions, background last."""
    model = make_model("text", temperature=0.02)
    embeddings = torch.randn(4, 32)
    sampled = type(
        "Sampled",
        (),
        {"pos_gt_labels": torch.tensor([2]), "neg_priors": torch.zeros(3, 4), "pos_priors": torch.zeros(1, 4)},
    )
    names = table(torch.randn(3, 32), [True, False, True])
    loss = model.roi_head._class_losses(embeddings, [sampled], names)["loss_cls"]
    background = F.normalize(model.roi_head.bbox_head.bg_embedding.detach(), dim=0)
    columns = torch.stack([names.embeddings[0], names.embeddings[2], background])
    expected = F.cross_entropy(F.normalize(embeddings, dim=1) @ columns.T / 0.02, torch.tensor([1, 2, 2, 2]))
    torch.testing.assert_close(loss, expected)
