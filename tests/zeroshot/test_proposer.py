"""The proposer's parts against closed forms and the classifier itself."""

import pytest
import timm
import torch
from torch.nn import functional as F

from ovdet.zeroshot.proposer import (
    MASK_SIDE,
    STRIDES,
    TAPS,
    FrozenTrunk,
    Places,
    Proposer,
    apply_deltas,
    best_places,
    find_deltas,
)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return net.eval()


@pytest.fixture(scope="module")
def trunk(classifier):
    return FrozenTrunk(classifier, torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.25))


@pytest.fixture(scope="module")
def proposer():
    torch.manual_seed(0)
    return Proposer(width=16, roi_width=16).eval()


def test_the_folded_trunk_is_the_classifier(classifier, trunk):
    images = torch.rand(2, 3, 64, 96)
    x, wanted = (images - 0.5) / 0.25, []
    with torch.no_grad():
        x = classifier.bn1(classifier.conv_stem(x))
        for index, block in enumerate(classifier.blocks):
            x = block(x)
            if index in TAPS:
                wanted.append(x)
    levels = trunk(images)
    for level, expected, stride in zip(levels, wanted, STRIDES[:3], strict=True):
        assert level.shape[-2:] == (64 // stride, 96 // stride)
        torch.testing.assert_close(level, expected, atol=1e-3, rtol=1e-3)


def test_the_trunk_never_trains(trunk):
    trunk.train()
    assert not trunk.training and not any(parameter.requires_grad for parameter in trunk.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in trunk.modules())


def test_every_place_has_a_box_about_itself(trunk, proposer):
    with torch.no_grad():
        places = proposer.places(proposer.pyramid(trunk(torch.rand(2, 3, 64, 96))))
    count = sum((64 // stride) * (96 // stride) for stride in STRIDES[:3]) + 1 * 2
    assert places.boxes_xyxy.shape == (2, count, 4) and places.quality.shape == (2, count)
    assert (places.boxes_xyxy[..., :2] < places.centres).all() and (places.boxes_xyxy[..., 2:] > places.centres).all()
    assert places.centres[0].tolist() == [4.0, 4.0] and places.centres[1].tolist() == [12.0, 4.0]  # x first
    assert [int((places.strides == stride).sum()) for stride in STRIDES] == [96, 24, 6, 2]


def test_the_reach_of_a_place_is_in_strides(trunk, proposer):
    maps = proposer.pyramid(trunk(torch.rand(1, 3, 64, 64)))
    with torch.no_grad():
        proposer.reach.weight.zero_()
        proposer.reach.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
        places = proposer.places(maps)
    reach = F.softplus(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    for boxes, centre, stride in zip(places.boxes_xyxy[0], places.centres, places.strides, strict=True):
        wanted = torch.cat([centre - reach[:2] * stride, centre + reach[2:] * stride])
        torch.testing.assert_close(boxes, wanted)


def test_deltas_undo_each_other():
    torch.manual_seed(0)
    corner = torch.rand(20, 2) * 50
    boxes = torch.cat([corner, corner + 15 + torch.rand(20, 2) * 40], dim=1)
    wanted = torch.cat([corner + 3, corner + 23 + torch.rand(20, 2) * 35], dim=1)
    torch.testing.assert_close(apply_deltas(boxes, find_deltas(boxes, wanted)), wanted, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(apply_deltas(boxes, torch.zeros(20, 4)), boxes)
    # a tenth of a shift is one hundredth of the width; ten of size are 2 in the logarithm, cut at a factor of 4
    moved = apply_deltas(torch.tensor([[0.0, 0.0, 100.0, 50.0]]), torch.tensor([[0.1, 0.0, 0.0, 10.0]]))
    torch.testing.assert_close(moved, torch.tensor([[1.0, 25 - 100.0, 101.0, 25 + 100.0]]), atol=0.5, rtol=0)


def test_an_untaught_region_head_leaves_boxes_alone(trunk, proposer):
    maps = proposer.pyramid(trunk(torch.rand(2, 3, 64, 64)))
    boxes = [torch.tensor([[5.0, 5.0, 40.0, 60.0], [0.0, 0.0, 64.0, 64.0]]), torch.zeros(0, 4)]
    with torch.no_grad():
        regions = proposer.regions(maps, boxes)
    assert regions.masks.shape == (2, MASK_SIDE, MASK_SIDE) and regions.quality.shape == (2,)
    torch.testing.assert_close(apply_deltas(boxes[0], regions.deltas), boxes[0])


def test_the_region_head_sees_one_picture_and_the_surroundings_alone(proposer):
    torch.manual_seed(1)
    level = torch.rand(2, 16, 32, 32)  # 256 pixels
    box = torch.tensor([[96.0, 96.0, 128.0, 128.0]])
    changed = level.clone()
    changed[0, :, 20:, 20:] = 5.0  # from pixel 160 on: beyond the window, which ends at 136
    changed[1] = 5.0
    with torch.no_grad():
        torch.nn.init.normal_(proposer.region.box.weight)
        before, after = proposer.region(level, [box, box[:0]]), proposer.region(changed, [box, box[:0]])
        changed[0, :, 16, 16] = 9.0  # pixel 132: in the window though not in the box
        near = proposer.region(changed, [box, box[:0]])
    torch.testing.assert_close(before, after)
    assert not torch.allclose(after.masks, near.masks)


def test_the_surest_places_come_first_and_are_clipped():
    boxes = torch.tensor([[[-5.0, 2.0, 20.0, 30.0], [1.0, 1.0, 5.0, 5.0], [0.0, 0.0, 99.0, 9.0]]])
    places = Places(boxes, torch.tensor([[0.0, 2.0, 1.0]]), torch.zeros(3, 2), torch.ones(3))
    (answer, quality), = best_places(places, (24, 32), 2)  # fmt: skip
    assert answer.tolist() == [[1.0, 1.0, 5.0, 5.0], [0.0, 0.0, 32.0, 9.0]]
    torch.testing.assert_close(quality, torch.tensor([2.0, 1.0]).sigmoid())
