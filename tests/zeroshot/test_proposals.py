"""Boxes between picture and views, boxes at points, and masks painted into the picture."""

import numpy as np
import pytest
import torch

from ovdet.zeroshot.proposals import ProposalFinder, boxes_at, paint_mask
from ovdet.zeroshot.proposer import STRIDES, Proposer


class Pooled(torch.nn.Module):
    """A trunk that sees colours alone."""

    mean = torch.zeros(1, 3, 1, 1)

    def forward(self, images):
        return [torch.nn.functional.avg_pool2d(images, stride) for stride in STRIDES[:3]]


@pytest.fixture(scope="module")
def finder():
    torch.manual_seed(0)
    return ProposalFinder(Pooled(), Proposer(widths=(3, 3, 3), width=16, roi_width=8))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)


def test_views_and_pictures_agree(finder, image):
    view = finder.view(image, (128, 192))
    boxes = torch.tensor([[30.0, 20.0, 150.0, 100.0]])
    torch.testing.assert_close(view.to_view(boxes), torch.tensor([[19.2, 12.8, 96.0, 64.0]]))
    torch.testing.assert_close(view.to_picture(view.to_view(boxes)), boxes)


def test_boxes_at_points_are_those_of_the_cells_below_them(finder, image):
    view = finder.view(image, (128, 192))
    points = torch.tensor([[151.0, 101.0], [0.0, 0.0], [299.9, 199.9]])
    boxes = boxes_at(view, points)
    assert boxes.shape == (3, 4, 4)
    for point, answers in zip(points, boxes, strict=True):
        for stride, answer in zip(STRIDES, answers, strict=True):
            own = torch.nonzero(view.places.strides == stride)[:, 0]
            away = (view.places.centres[own] - point * torch.tensor(view.scale_xy)).abs().amax(dim=1)
            place = own[away.argmin()]
            wanted = view.to_picture(view.places.boxes_xyxy[0, place][None].clone())[0]
            limits = torch.tensor([300.0, 200.0, 300.0, 200.0])
            torch.testing.assert_close(answer, wanted.clamp(min=0).minimum(limits), atol=1e-2, rtol=1e-4)


def test_proposals_are_in_the_picture_best_first_and_apart(finder, image):
    views = [finder.view(image, size) for size in ((128, 192), (256, 384))]
    boxes, quality = finder.propose(views, count=30, overlap=0.5)
    assert 1 <= len(boxes) <= 30 and (quality.diff() <= 0).all()
    assert boxes.min() >= 0 and (boxes[:, 2] <= 300.01).all() and (boxes[:, 3] <= 200.01).all()


def test_a_closer_look_keeps_the_order_and_asks_the_fitting_view(finder, image):
    views = [finder.view(image, size) for size in ((128, 192), (256, 384))]
    boxes = torch.tensor([[10.0, 10.0, 280.0, 190.0], [20.0, 20.0, 60.0, 50.0], [5.0, 5.0, 290.0, 195.0]])
    both, alone = finder.look_closer(views, boxes), finder.look_closer(views[:1], boxes)
    torch.testing.assert_close(both.masks[0], alone.masks[0])  # large: the small view, with or without the other
    torch.testing.assert_close(both.masks[2], alone.masks[2])
    assert not torch.allclose(both.masks[1], alone.masks[1])
    torch.testing.assert_close(both.boxes_xyxy, boxes, atol=1e-3, rtol=1e-4)  # untaught: as they came
    torch.testing.assert_close(both.windows_xyxy[1], torch.tensor([10.0, 12.5, 70.0, 57.5]))
    picked = both[torch.tensor([1])]
    torch.testing.assert_close(picked.masks[0], both.masks[1])
    assert len(finder.look_closer(views, boxes[:0]).quality) == 0


def test_a_mask_is_painted_where_its_window_lies():
    mask = torch.zeros(28, 28)
    mask[7:21, 7:21] = 1.0  # the middle half of the window
    painted = paint_mask(mask, torch.tensor([10.0, 20.0, 66.0, 76.0]), (100, 90))
    wanted = np.zeros((100, 90), bool)
    wanted[34:62, 24:52] = True
    assert (painted != wanted).mean() < 0.02 and painted[48, 38] and not painted[30, 38]
    beyond = paint_mask(torch.ones(28, 28), torch.tensor([-20.0, -20.0, 40.0, 200.0]), (100, 90))
    assert beyond[:, :39].all() and not beyond[:, 41:].any()
    assert not paint_mask(torch.ones(28, 28), torch.tensor([200.0, 200.0, 240.0, 240.0]), (100, 90)).any()
