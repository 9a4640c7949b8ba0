"""mmdet's own detectors, built from the configs that its wheel ships, take a training step and predict."""

from __future__ import annotations

from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"


def without_downloads(config):
    """Drop every `init_cfg` that would fetch weights, in place."""
    if isinstance(config, dict):
        if isinstance(config.get("init_cfg"), dict) and config["init_cfg"].get("type") == "Pretrained":
            config.pop("init_cfg")
        for value in config.values():
            without_downloads(value)
    elif isinstance(config, list | tuple):
        for value in config:
            without_downloads(value)


def fewer_regions(model):
    """Make a two-stage model handle 16 regions a picture, and keep a few whatever their score."""
    model.train_cfg.rpn_proposal.max_per_img = model.test_cfg.rpn.max_per_img = 16
    stages = model.train_cfg.rcnn if isinstance(model.train_cfg.rcnn, list) else [model.train_cfg.rcnn]
    for stage in stages:
        stage.sampler.num = 16
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)


def fewer_queries(model):
    model.num_queries = 40
    model.encoder.num_layers = model.decoder.num_layers = 2


def any_score(model):
    model.test_cfg.update(score_thr=0.0, max_per_img=5)


DETECTORS = {
    "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py": fewer_queries,
    "dino/dino-4scale_r50_8xb2-12e_coco.py": fewer_queries,
    "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py": fewer_regions,
    "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py": fewer_regions,
    "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py": any_score,
    "rtmdet/rtmdet_tiny_8xb32-300e_coco.py": any_score,
    "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py": any_score,
    "dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py": fewer_regions,
    "dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py": fewer_regions,
}


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_all_modules()


def build(name, shrink):
    config = Config.fromfile(str(CONFIGS / name)).model
    without_downloads(config)
    if config.backbone.type == "ResNet":
        config.backbone.zero_init_residual = False  # it would stop the gradient of most layers at the first step
    shrink(config)
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()  # some of mmdet's parameters are uninitialised memory until then
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS, ids=lambda name: Path(name).stem)
def test_a_training_step_and_a_prediction(name, device):
    model = build(name, DETECTORS[name]).to(device).train()
    with_mask = "mask" in name or "-ins" in name
    pictures = [[3, 96, 96], [3, 96, 96] if "-ins" in name else [3, 80, 96]]
    batch = demo_mm_inputs(2, pictures, num_items=[3, 2], num_classes=80, with_mask=with_mask)
    for sample in batch["data_samples"]:
        sample.set_metainfo({"scale_factor": (1.0, 1.0)})

    losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    assert all(torch.as_tensor(value).isfinite() for value in logged.values()), logged
    trained = [weight for weight in model.backbone.parameters() if weight.requires_grad]
    assert len(trained) > 40
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in trained)
    assert sum(bool(weight.grad.any()) for weight in trained) > 0.9 * len(trained)

    model.eval()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(batch, training=False), mode="predict")
    for sample, (_, height, width) in zip(samples, pictures, strict=True):
        found = sample.pred_instances
        assert found.bboxes.shape == (len(found.scores), 4) and found.bboxes.isfinite().all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all() and (found.labels < 80).all()
        if with_mask:
            assert found.masks.shape == (len(found.scores), height, width)
    if "rtmdet" not in name:  # untrained, its boxes may all be inside out, and it drops those
        assert all(len(sample.pred_instances) for sample in samples)
