import pytest
import torch
from mmdet.models.losses import L1Loss, SmoothL1Loss
from mmengine.registry import DefaultScope
from torch import nn

from ovdet.errors import InputError
from ovdet.vild.build import BUILDERS, vild_detpro_r50_fpn, vild_r50_fpn, vild_tiny

VARIANTS = ["text", "image", "vild", "ensemble"]


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def official():
    return vild_r50_fpn("ensemble")


@pytest.fixture(scope="module")
def detpro():
    return vild_detpro_r50_fpn("ensemble")


def test_the_official_form(official):
    head = official.roi_head.bbox_head
    assert (len(head.shared_convs), len(head.shared_fcs)) == (4, 2)
    assert all(isinstance(block.norm, nn.BatchNorm1d) for block in head.shared_fcs)
    assert official.backbone.style == "pytorch"
    assert not official.backbone.norm_eval
    assert official.backbone.bn1.momentum == 0.003
    assert isinstance(official.rpn_head.loss_bbox, SmoothL1Loss)
    assert official.config.temperature == official.config.test_temperature == 0.01


def test_detpros_form(detpro):
    head = detpro.roi_head.bbox_head
    assert (len(head.shared_convs), len(head.shared_fcs)) == (4, 1)
    assert not hasattr(head.shared_fcs[0], "norm")
    assert detpro.backbone.style == "caffe"
    assert detpro.backbone.norm_eval
    assert isinstance(detpro.rpn_head.loss_bbox, L1Loss)
    assert (detpro.config.temperature, detpro.config.test_temperature) == (0.01, 0.007)
    assert detpro.config.box_beta == 0


def test_the_image_branch_is_all_that_an_ensemble_adds(detpro):  # acceptance 1
    assert count(detpro.roi_head.image_head) == 15_732_224
    assert count(detpro) - count(vild_detpro_r50_fpn("vild")) == 15_732_224


def test_region_sampling_is_the_published_one(detpro):
    sampler, assigner, proposals = detpro.roi_head.sampler, detpro.roi_head.assigner, detpro.proposal_settings
    assert (sampler.num, sampler.pos_fraction, sampler.add_gt_as_proposals) == (512, 0.25, True)
    assert (assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.match_low_quality) == (0.5, 0.5, False)
    assert (proposals.nms_pre, proposals.max_per_img, proposals.nms.iou_threshold) == (2000, 1000, 0.7)
    assert (detpro.rpn_head.test_cfg.nms_pre, detpro.rpn_head.test_cfg.max_per_img) == (1000, 1000)
    assert (detpro.config.score_thr, detpro.config.nms_iou, detpro.config.max_per_img) == (1e-4, 0.5, 300)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pitfall_16_nothing_knows_a_class(variant):
    """Boxes, masks and proposals have one output for all classes, so no shape changes with the vocabulary."""
    model = vild_tiny(variant)
    assert model.rpn_head.rpn_cls.out_channels == 3  # anchors of a place, one class
    assert model.roi_head.bbox_head.fc_reg.out_features == 4
    assert model.roi_head.mask_head.conv_logits.out_channels == 1
    assert model.roi_head.mask_head.class_agnostic


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_what_learns_is_there(variant):
    head = vild_tiny(variant).roi_head
    assert (head.image_head is not None) == (variant == "ensemble")
    assert (head.bbox_head.bg_embedding is None) == (variant == "image")  # DDP would wait for its gradient


@pytest.mark.parametrize("name", BUILDERS)
def test_a_recipe_builds_the_same_model(name, official, detpro):
    built = {"vild_r50_fpn": official, "vild_detpro_r50_fpn": detpro}
    arguments = {"norm": "gn"} if name == "vild_tiny" else {}
    model = built[name] if name in built else BUILDERS[name]("vild", embed_dim=48, with_mask=False, **arguments)
    assert model.recipe["builder"] == name
    again = BUILDERS[name](**model.recipe["arguments"])
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert again.config == model.config


def test_group_norm_leaves_no_batch_statistics():
    assert not list(vild_tiny("ensemble", norm="gn").named_buffers(prefix="")) or not [
        name for name, _ in vild_tiny("ensemble", norm="gn").named_buffers() if "running" in name
    ]


@pytest.mark.parametrize("arguments", [{"variant": "clip"}, {"norm": "layer"}, {"temperature": 0.0}])
def test_nonsense_is_refused(arguments):
    with pytest.raises(InputError):
        vild_tiny(**arguments)


def test_a_foreign_default_scope_does_not_matter():
    with DefaultScope.overwrite_default_scope("mmengine"):  # what a Runner without a default_scope leaves behind
        model = vild_tiny("text")
        assert DefaultScope.get_current_instance().scope_name == "mmengine"
    assert model.recipe["arguments"]["variant"] == "text"


def test_sizes_scale_down():
    assert sum(p.numel() for p in vild_tiny().parameters()) < 1_200_000
    assert vild_tiny(num_fcs=2).roi_head.bbox_head.sizes.num_fcs == 2
    assert torch.is_tensor(vild_tiny().class_embeddings)
