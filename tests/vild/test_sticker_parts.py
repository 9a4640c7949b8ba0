import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.layers.trunk import CompactTrunk
from ovdet.vild.sticker_parts import (
    Pyramid,
    RegionNamer,
    Regions,
    StickerBoxHead,
    StickerTrunk,
    read_projection,
    read_trunk,
)
from ovdet.vlm.contrastive.sticker_clip import CROP_MARGIN


class Classifier(nn.Module):
    """What a checkpoint of crops holds: a trunk and a projection."""

    def __init__(self):
        super().__init__()
        self.trunk = CompactTrunk()
        self.image_head = nn.Linear(256, 16)


@pytest.fixture
def classifier():
    model = Classifier()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if trained
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.fixture
def checkpoint(classifier, tmp_path):
    path = tmp_path / "crops.pth"
    state = {f"task.clip.{name}": value for name, value in classifier.state_dict().items()}
    torch.save({"state_dict": {**state, "task.clip.log_scale": torch.ones(())}}, path)
    return str(path)


def pyramid_of(trunk, images):
    fine, coarse, _ = trunk(images)
    return Pyramid(shapes=fine[:, :64], fine=fine[:, 64:], coarse=coarse, proposals=coarse)


def test_the_trunk_comes_out_of_a_checkpoint_whatever_stands_before_it(classifier, checkpoint):
    backbone = StickerTrunk(checkpoint=checkpoint)
    backbone.init_weights()
    images = torch.randn(1, 3, 64, 64)
    for mine, its in zip(backbone.eval()(images), classifier.trunk(images), strict=True):
        torch.testing.assert_close(mine, its)
    assert read_projection(checkpoint, nn.Linear(256, 16))["bias"].shape == (16,)


def test_a_crop_is_named_by_a_detector_as_by_the_classifier(classifier, checkpoint):
    """A region whose square is a whole picture of 64 pixels: the same vector."""
    namer = RegionNamer(CompactTrunk(), 16, checkpoint=checkpoint, with_projection=True, samples=1)
    namer.init_weights()
    images = torch.randn(2, 3, 64, 64)
    half = 32 / CROP_MARGIN
    rois = torch.tensor([[k, 32 - half, 32 - half, 32 + half, 32 + half] for k in (0.0, 1.0)])
    with torch.no_grad():
        got = namer.eval()(Regions(pyramid_of(classifier.trunk, images), rois))
        expected = classifier.image_head(classifier.trunk(images)[-1].mean(dim=(2, 3)))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_what_is_frozen_stays_and_the_rest_learns():
    backbone = StickerTrunk(frozen_stages=2, freeze_norm=True).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 64))).backward()
    grads = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    assert all(
        (grad is None) == name.startswith(("trunk.stages.0.", "trunk.stages.1.")) for name, grad in grads.items()
    )
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_statistics_move_where_they_may():
    backbone = StickerTrunk(frozen_stages=1, freeze_norm=False).train()
    backbone(torch.randn(2, 3, 64, 64))
    moved = {
        name for name, value in backbone.named_buffers() if name.endswith("running_mean") and value.abs().sum() > 0
    }
    assert moved and not any(name.startswith("trunk.stages.0.") for name in moved)


def test_the_detail_starts_at_nothing_and_learns():
    trunk = CompactTrunk().eval()
    namer = RegionNamer(trunk, 8).train()
    pyramid = pyramid_of(trunk, torch.randn(1, 3, 128, 128))
    rois = torch.tensor([[0.0, 10, 20, 90, 70]])
    other = pyramid._replace(fine=torch.randn_like(pyramid.fine))
    torch.testing.assert_close(namer(Regions(pyramid, rois)), namer(Regions(other, rois)))
    namer(Regions(pyramid, rois)).square().sum().backward()
    assert namer.detail.weight.grad.abs().sum() > 0


def test_no_region_still_touches_every_weight():
    trunk = CompactTrunk().eval()
    namer = RegionNamer(trunk, 8)
    vectors = namer(Regions(pyramid_of(trunk, torch.randn(1, 3, 64, 64)), torch.zeros(0, 5)))
    assert vectors.shape == (0, 8)
    vectors.sum().backward()
    assert all(parameter.grad is not None for parameter in namer.parameters())


def test_a_box_head_of_a_closed_set_has_rows_and_no_background_vector():
    trunk = CompactTrunk().eval()
    head = StickerBoxHead(RegionNamer(trunk, 8), with_background=False, closed_classes=5).eval()
    pyramid = pyramid_of(trunk, torch.randn(2, 3, 64, 64))
    vectors, deltas = head(Regions(pyramid, torch.tensor([[1.0, 3, 3, 40, 50], [0, 3, 3, 40, 50]])))
    assert vectors.shape == (2, 8) and deltas.shape == (2, 4)
    assert head.classifier(vectors).shape == (2, 6) and head.bg_embedding is None
    assert not torch.equal(F.normalize(vectors)[0], F.normalize(vectors)[1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {}, "holds 0"),
        (lambda state: {**state, "other.trunk.x": torch.ones(1)}, "holds 2"),
        (lambda state: {k: v for k, v in state.items() if "stages.4.0.0" not in k}, "lacks stages.4.0.0.weight"),
        (lambda state: {**state, "trunk.stages.0.0.weight": torch.ones(1, 3, 3, 3)}, "is (1, 3, 3, 3), not"),
        (lambda state: {**state, "trunk.more": torch.ones(1)}, "has more"),
    ],
)
def test_what_is_no_trunk_is_told_in_one_sentence(classifier, tmp_path, change, told):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": change(classifier.state_dict())}, path)
    with pytest.raises(InputError) as caught:
        read_trunk(str(path))
    assert told in str(caught.value) and "trunk_checkpoint" in str(caught.value)


def test_frozen_stages_are_counted():
    with pytest.raises(InputError, match=r"0\.\.5, got 6"):
        StickerTrunk(frozen_stages=6)
