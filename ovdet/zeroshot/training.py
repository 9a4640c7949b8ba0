"""Teaching the proposer: which place answers for which thing, and what it costs to be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss, nms, roi_align

from ovdet.ops.boxes import clip_boxes, enlarge_boxes
from ovdet.vlm.contrastive.efficientnet_lite import MEAN, STD, EfficientNetLite
from ovdet.zeroshot.proposer import (
    MASK_SIDE,
    STRIDES,
    SURROUNDINGS,
    FrozenTrunk,
    Places,
    Proposer,
    Regions,
    apply_deltas,
    best_places,
    find_deltas,
)

SIZES = ((0.0, 64.0), (32.0, 128.0), (96.0, 256.0), (160.0, float("inf")))
"""Square roots of the areas, in pixels, of the things that each level answers for."""
CLEAR_IOU = 0.4
"""A region that overlaps a thing by less learns no box and no mask from it."""


class ProposerTraining(nn.Module):
    """The proposer with its frozen trunk, as a Runner trains it: the trunk is in no optimiser and no checkpoint.

    Args:
        trunk: frozen.
        proposer: learns.
        regions: boxes of each picture that the region head learns from; half of them are shaken things, the others
            what the places propose.
    """

    def __init__(self, trunk: FrozenTrunk, proposer: Proposer, regions: int = 10) -> None:
        super().__init__()
        self.proposer, self.count = proposer, regions
        self._trunk = [trunk]  # in a list, so that it is no part of this module

    @property
    def trunk(self) -> FrozenTrunk:
        """The frozen trunk."""
        return self._trunk[0]

    def train_step(self, data: Mapping[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        """One step of a Runner, on what `collate` gives."""
        with optim_wrapper.optim_context(self):
            losses = self.loss(data["images"], data["owners"], data["boxes_xyxy"])
        total = torch.stack(list(losses.values())).sum()
        optim_wrapper.update_params(total)
        return {name: value.detach() for name, value in losses.items()} | {"loss": total.detach()}

    def loss(self, images: Tensor, owners: Tensor, boxes_xyxy: list[Tensor]) -> dict[str, Tensor]:
        """All losses of a batch.

        Args:
            images: (B, 3, H, W) in [0, 1].
            owners: (B, H, W) integer: which thing a pixel belongs to, or -1.
            boxes_xyxy: B tensors (N_i, 4), pixels.
        """
        device = next(self.proposer.parameters()).device
        images, owners = images.to(device), owners.to(device)
        boxes_xyxy = [boxes.to(device) for boxes in boxes_xyxy]
        maps = self.proposer.pyramid(self.trunk.to(device)(images))
        places = self.proposer.places(maps)
        size_hw = (images.shape[2], images.shape[3])
        with torch.no_grad():
            chosen = [
                sample_regions(best_places(_of_one(places, index), size_hw, 100)[0][0], boxes, size_hw, self.count)
                for index, boxes in enumerate(boxes_xyxy)
            ]
        regions = self.proposer.regions(maps, chosen)
        return place_losses(places, owners, boxes_xyxy) | region_losses(regions, chosen, owners, boxes_xyxy)


def proposer_training(regions: int = 10) -> ProposerTraining:
    """A proposer to be trained on the trunk of `imagenet-words`.

    Raises:
        InputError: the classifier's weights are not installed.
    """
    classifier = EfficientNetLite().load().net
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ProposerTraining(FrozenTrunk(classifier, mean, std), Proposer(), regions)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples of equal size ("image" uint8, "owner", "boxes_xyxy") -> what `ProposerTraining` takes."""
    return {
        "images": torch.stack([sample["image"] for sample in samples]).float() / 255,
        "owners": torch.stack([sample["owner"] for sample in samples]).long(),
        "boxes_xyxy": [sample["boxes_xyxy"] for sample in samples],
    }


def assign(places: Places, owners: Tensor, boxes_xyxy: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Which places answer for a thing: those that lie on its visible pixels, on the levels for its size.

    Args:
        places: of B pictures.
        owners: (B, H, W) integer.
        boxes_xyxy: B tensors (N_i, 4).

    Returns:
        (B, L) bool, and the box (B, L, 4) that each such place is to say (zeros elsewhere).
    """
    x, y = places.centres.long().unbind(1)
    inside = (x < owners.shape[2]) & (y < owners.shape[1])
    owner = owners[:, y.clamp(max=owners.shape[1] - 1), x.clamp(max=owners.shape[2] - 1)]  # (B, L)
    low, high = (
        sum(
            torch.where(places.strides == stride, bounds[k], 0.0) for stride, bounds in zip(STRIDES, SIZES, strict=True)
        )
        for k in (0, 1)
    )
    answering, wanted = torch.zeros_like(owner, dtype=torch.bool), torch.zeros_like(places.boxes_xyxy)
    for index, boxes in enumerate(boxes_xyxy):
        if not len(boxes):
            continue
        of_place = boxes[owner[index].clamp(min=0)]  # (L, 4)
        size = (of_place[:, 2:] - of_place[:, :2]).prod(dim=1).sqrt()
        answering[index] = (owner[index] >= 0) & inside & (size >= low) & (size < high)
        wanted[index] = of_place * answering[index][:, None]
    return answering, wanted


def place_losses(places: Places, owners: Tensor, boxes_xyxy: list[Tensor]) -> dict[str, Tensor]:
    """GIoU of the boxes, and quality focal loss (arXiv:2006.04388, beta 2) of the expected IoUs."""
    answering, wanted = assign(places, owners, boxes_xyxy)
    said, wanted = places.boxes_xyxy[answering], wanted[answering]
    target = torch.zeros_like(places.quality)
    if len(said):
        target[answering] = paired_iou(said.detach(), wanted)
    away = (places.quality.detach().sigmoid() - target).square()
    quality = away * F.binary_cross_entropy_with_logits(places.quality, target, reduction="none")
    reach = generalized_box_iou_loss(said, wanted, reduction="sum")
    count = max(1, int(answering.sum()))
    return {"loss_place_quality": 2 * quality.sum() / count, "loss_place_box": reach / count}


def region_losses(
    regions: Regions, chosen: list[Tensor], owners: Tensor, boxes_xyxy: list[Tensor]
) -> dict[str, Tensor]:
    """Smooth L1 of the corrections, cross-entropy of expected IoU and mask."""
    rois, things, picture, overlap, number = _match(chosen, boxes_xyxy)
    clear = overlap >= CLEAR_IOU
    wanted = find_deltas(rois, things)
    box = F.smooth_l1_loss(regions.deltas[clear], wanted[clear].clamp(-15, 15), reduction="sum", beta=1.0)
    reached = paired_iou(apply_deltas(rois, regions.deltas.detach()), things)
    quality = F.binary_cross_entropy_with_logits(regions.quality, reached)
    drawn = regions.masks[clear]
    owned = (owners[picture[clear]] == number[clear][:, None, None]).float()[:, None]  # (M, 1, H, W)
    windows = enlarge_boxes(rois[clear], SURROUNDINGS)
    index = torch.arange(len(windows), device=windows.device).float()[:, None]
    shape = roi_align(owned, torch.cat([index, windows], dim=1), MASK_SIDE, 1.0, 2, aligned=True)[:, 0]
    mask = F.binary_cross_entropy_with_logits(drawn, (shape >= 0.5).float(), reduction="sum") / MASK_SIDE**2
    count = max(1, int(clear.sum()))
    return {"loss_region_box": box / (2 * count), "loss_region_quality": quality, "loss_region_mask": 2 * mask / count}


def sample_regions(proposed: Tensor, things: Tensor, size_hw: tuple[int, int], count: int) -> Tensor:
    """Boxes to learn from: shaken things, and the surest proposals that do not repeat each other.

    Args:
        proposed: (P, 4), best first.
        things: (N, 4).
        size_hw: of the picture; boxes are clipped to it.
        count: of the boxes wanted.

    Returns:
        (count or fewer, 4), no side below 4 pixels.
    """
    ranks = torch.arange(len(proposed), 0, -1, device=proposed.device).float()
    own = proposed[nms(proposed, ranks, 0.6)][: count // 2]
    chosen = own
    if len(things):
        picked = things[torch.randint(len(things), (count - len(own),), device=things.device)]
        size = picked[:, 2:] - picked[:, :2]
        centre = (picked[:, :2] + picked[:, 2:]) / 2 + torch.randn_like(size) * 0.15 * size
        half = size * (torch.randn_like(size) * 0.3).exp() / 2
        chosen = torch.cat([own, torch.cat([centre - half, centre + half], dim=1)])
    chosen = clip_boxes(chosen, size_hw)
    return chosen[(chosen[:, 2:] - chosen[:, :2]).amin(dim=1) >= 4]


def paired_iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """IoU of each box with its partner, (N, 4) and (N, 4) -> (N,)."""
    low, high = first_xyxy[:, :2].maximum(second_xyxy[:, :2]), first_xyxy[:, 2:].minimum(second_xyxy[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (first_xyxy, second_xyxy)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-6)


def _match(chosen: list[Tensor], boxes_xyxy: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All regions, the thing that each overlaps most, its picture, that IoU, and the thing's number in its picture."""
    things, pictures, overlaps, numbers = [], [], [], []
    for index, (rois, boxes) in enumerate(zip(chosen, boxes_xyxy, strict=True)):
        if len(boxes):
            overlap, number = box_iou(rois, boxes).max(dim=1)
            things.append(boxes[number])
        else:
            overlap, number = rois.new_zeros(len(rois)), torch.full((len(rois),), -2, device=rois.device)
            things.append(rois)
        pictures.append(torch.full((len(rois),), index, device=rois.device))
        overlaps.append(overlap)
        numbers.append(number)
    return torch.cat(chosen), torch.cat(things), torch.cat(pictures), torch.cat(overlaps), torch.cat(numbers)


def _of_one(places: Places, index: int) -> Places:
    return places._replace(
        boxes_xyxy=places.boxes_xyxy[index : index + 1].detach(), quality=places.quality[index : index + 1].detach()
    )
