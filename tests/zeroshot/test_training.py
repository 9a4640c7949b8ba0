"""What the proposer is told: which place answers, what regions aim at; and that it learns."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from ovdet.zeroshot.proposer import STRIDES, Places, Proposer, Regions, find_deltas
from ovdet.zeroshot.training import (
    CLEAR_IOU,
    SIZES,
    ProposerTraining,
    assign,
    collate,
    paired_iou,
    place_losses,
    region_losses,
    sample_regions,
)


class Pooled(torch.nn.Module):
    """A trunk that sees colours alone: the picture at strides 8, 16 and 32."""

    def forward(self, images):
        return [torch.nn.functional.avg_pool2d(images, stride) for stride in STRIDES[:3]]


def scene(boxes, side=128):
    """A picture with coloured rectangles, later ones in front, as a sample."""
    image, owner = np.full((side, side, 3), 60, np.uint8), np.full((side, side), -1, np.int16)
    for index, (left, top, right, bottom) in enumerate(boxes):
        image[top:bottom, left:right] = (220, 40 + 80 * index, 200 - 90 * index)
        owner[top:bottom, left:right] = index
    return {
        "image": torch.from_numpy(image.transpose(2, 0, 1).copy()),
        "owner": torch.from_numpy(owner),
        "boxes_xyxy": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
    }


def every_place(side=128, batch=1):
    centres = [((np.stack(np.meshgrid(*[np.arange(side // s)] * 2), -1) + 0.5) * s).reshape(-1, 2) for s in STRIDES]
    strides = np.concatenate([np.full(len(part), float(s)) for part, s in zip(centres, STRIDES, strict=True)])
    centres = torch.tensor(np.concatenate(centres), dtype=torch.float32)
    boxes = torch.cat([centres - 10, centres + 10], dim=1).expand(batch, -1, -1)
    return Places(boxes, torch.zeros(batch, len(centres)), centres, torch.tensor(strides, dtype=torch.float32))


def test_places_answer_for_what_they_lie_on_if_it_is_of_their_size():
    batch = collate([scene([(0, 0, 50, 50), (30, 30, 122, 122)]), scene([])])
    places = every_place(batch=2)
    answering, wanted = assign(places, batch["owners"], batch["boxes_xyxy"])
    for index in range(2):
        for place, (x, y) in enumerate(places.centres.tolist()):
            owner = int(batch["owners"][index, int(y), int(x)])
            low, high = SIZES[STRIDES.index(int(places.strides[place]))]
            box = batch["boxes_xyxy"][index][owner] if owner >= 0 else None
            fits = box is not None and low <= float((box[2:] - box[:2]).prod().sqrt()) < high
            assert bool(answering[index, place]) == fits
            assert wanted[index, place].tolist() == (box.tolist() if fits else [0.0] * 4)
    assert answering[0].sum() > 20


def test_a_picture_without_things_teaches_that_there_is_nothing():
    batch = collate([scene([])])
    places = every_place()
    losses = place_losses(places, batch["owners"], batch["boxes_xyxy"])
    assert losses["loss_place_box"] == 0 and losses["loss_place_quality"] > 0
    rois = [torch.tensor([[0.0, 0.0, 40.0, 40.0]])]
    regions = Regions(torch.zeros(1, 4), torch.full((1,), -20.0), torch.zeros(1, 28, 28))
    of_regions = region_losses(regions, rois, batch["owners"], batch["boxes_xyxy"])
    assert of_regions["loss_region_box"] == 0 and of_regions["loss_region_mask"] == 0


def test_perfect_answers_cost_nothing_and_wrong_ones_do():
    box = torch.tensor([[24.0, 24.0, 88.0, 88.0]])
    batch = collate([scene([(24, 24, 88, 88)])])
    roi = torch.tensor([[20.0, 31.0, 90.0, 80.0]])
    centre = (roi[:, :2] + roi[:, 2:]) / 2
    half = (roi[:, 2:] - roi[:, :2]) * 0.75  # the window is half as large again
    y, x = ((torch.arange(28) + 0.5) / 28 * 2 - 1 for _ in range(2))
    inside_x = ((centre[0, 0] + x * half[0, 0]) - 56).abs() < 32
    inside_y = ((centre[0, 1] + y * half[0, 1]) - 56).abs() < 32
    masks = torch.where(inside_y[:, None] & inside_x[None], 20.0, -20.0)[None]
    right = region_losses(Regions(find_deltas(roi, box), torch.full((1,), 20.0), masks), [roi], batch["owners"], [box])
    assert all(float(value) < 0.05 for value in right.values()), right
    wrong = region_losses(Regions(torch.zeros(1, 4), torch.full((1,), -20.0), -masks), [roi], batch["owners"], [box])
    assert all(float(value) > 0.2 for value in wrong.values()), wrong


def test_paired_iou_is_the_diagonal_of_all_pairs():
    torch.manual_seed(0)
    corners = torch.rand(2, 30, 2) * 40
    first, second = (torch.cat([c, c + torch.rand(30, 2) * 40], dim=1) for c in corners)
    torch.testing.assert_close(paired_iou(first, second), box_iou(first, second).diagonal())


def test_regions_are_shaken_things_and_proposals_that_do_not_repeat():
    torch.manual_seed(0)
    things = torch.tensor([[20.0, 20.0, 60.0, 60.0]])
    proposed = torch.tensor([[0.0, 0.0, 30.0, 30.0]]).repeat(50, 1)
    chosen = sample_regions(proposed, things, (64, 64), 10)
    assert 8 <= len(chosen) <= 10 and chosen.min() >= 0 and chosen.max() <= 64
    assert (chosen == proposed[0]).all(dim=1).sum() == 1
    ious = box_iou(chosen, things)[:, 0]
    assert (ious > CLEAR_IOU).sum() >= 4 and ious.unique().numel() >= 8
    assert len(sample_regions(proposed[:1], things[:0], (64, 64), 10)) == 1


def test_it_learns_a_picture_by_heart():
    torch.manual_seed(0)
    model = ProposerTraining(Pooled(), Proposer(widths=(3, 3, 3), width=16, roi_width=8), regions=6)
    assert not any(name.startswith("trunk") for name in model.state_dict())
    batch = collate([scene([(16, 16, 72, 80), (80, 70, 120, 110)]), scene([(30, 30, 110, 120)])])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    totals = []
    for _ in range(60):
        losses = model.loss(batch["images"], batch["owners"], batch["boxes_xyxy"])
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])


@pytest.mark.parametrize("name", ["loss_place_quality", "loss_place_box", "loss_region_box", "loss_region_mask"])
def test_every_loss_reaches_the_weights(name):
    torch.manual_seed(0)
    model = ProposerTraining(Pooled(), Proposer(widths=(3, 3, 3), width=16, roi_width=8), regions=6)
    batch = collate([scene([(16, 16, 72, 80)])])
    model.loss(batch["images"], batch["owners"], batch["boxes_xyxy"])[name].backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
