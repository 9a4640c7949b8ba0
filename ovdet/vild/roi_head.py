"""Regions to losses in training, and to named boxes at test time (arXiv:2104.13921, figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules import DeltaXYWHBBoxCoder, MaxIoUAssigner, RandomSampler, SamplingResult
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ovdet.errors import InputError
from ovdet.vild import fusion
from ovdet.vild.config import ViLDConfig
from ovdet.vild.heads import BoxHead, ImageHead, cosine_logits
from ovdet.vild.losses import box_loss, classification_loss, distillation_loss
from ovdet.vild.select import select_detections


@dataclass(frozen=True)
class ClassTable:
    """The vocabulary, as the network sees it.

    Attributes:
        embeddings: (K, D) unit length.
        base_mask: (K,) bool, True for classes seen in training; None if nobody says.
    """

    embeddings: Tensor
    base_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class RegionParts:
    """What stands around the heads, and the side of a mask target.

    An extractor is called as `extractor(pyramid, rois)`, rois (N, 5) being picture, x1, y1, x2, y2; what it gives is
    what the heads take.
    """

    box_extractor: nn.Module
    mask_extractor: nn.Module
    assigner: MaxIoUAssigner
    sampler: RandomSampler
    coder: DeltaXYWHBBoxCoder
    mask_size: int = 28


class ViLDRoIHead(BaseModule):
    """Second stage. The image head, if there is one, sees distillation regions in training and all at test time.

    Args:
        parts: of mmdet.
        bbox_head: text branch; the only branch unless the variant is "ensemble".
        image_head: image branch of the ensemble, else None.
        mask_head: class-agnostic, or None for boxes only.
        config: losses and test settings.
    """

    def __init__(
        self,
        parts: RegionParts,
        bbox_head: BoxHead,
        image_head: ImageHead | None,
        mask_head: FCNMaskHead | None,
        config: ViLDConfig,
    ) -> None:
        super().__init__()
        if (image_head is not None) != (config.variant == "ensemble"):
            raise ValueError(f"variant {config.variant!r} and an image head {'given' if image_head else 'missing'}")
        if mask_head is not None and not mask_head.class_agnostic:
            raise ValueError("mask_head must be class-agnostic: novel classes have no channel of their own")
        self.config = config
        self.assigner, self.sampler, self.coder = parts.assigner, parts.sampler, parts.coder
        self.mask_size = parts.mask_size
        self.bbox_roi_extractor = parts.box_extractor  # no weights in either extractor
        self.mask_roi_extractor = parts.mask_extractor
        self.bbox_head = bbox_head
        self.image_head = image_head
        self.mask_head = mask_head

    @property
    def with_bbox(self) -> bool:
        """As mmdet asks."""
        return True

    @property
    def with_mask(self) -> bool:
        """As mmdet asks."""
        return self.mask_head is not None

    @property
    def with_shared_head(self) -> bool:
        """As mmdet asks."""
        return False

    # ---- training

    def loss(
        self,
        pyramid: Sequence[Tensor],
        proposals: list[InstanceData],
        data_samples: list[DetDataSample],
        distillation: list[InstanceData],
        table: ClassTable,
    ) -> dict[str, Tensor]:
        """Losses of the second stage.

        Args:
            pyramid: levels (B, C, h, w).
            proposals: of the RPN, one a picture.
            data_samples: with gt_instances.
            distillation: one a picture with bboxes (M, 4) and embeds (M, D); ignored by the variant "text".
            table: the training vocabulary; labels index it.

        Returns:
            loss_cls and acc (not "image"), loss_bbox, loss_distill (not "text"), loss_mask (with masks).
        """
        sampled = [self._sample(*pair) for pair in zip(proposals, data_samples, strict=True)]
        rois = bbox2roi([sample.priors for sample in sampled])  # (N, 5)
        distilled = bbox2roi([each.bboxes for each in distillation])  # (M, 5)
        if self.config.variant in ("image", "vild"):  # one head for both kinds of regions
            embeddings, deltas = self.bbox_head(self.bbox_roi_extractor(pyramid, torch.cat([rois, distilled])))
            embeddings, students = embeddings.split([len(rois), len(distilled)])
            deltas = deltas[: len(rois)]
        else:
            embeddings, deltas = self.bbox_head(self.bbox_roi_extractor(pyramid, rois))
            students = None
        losses = self._class_losses(embeddings, sampled, table) if self.config.learns_classes else {}
        losses["loss_bbox"] = self._box_loss(deltas, sampled)
        if self.image_head is not None:
            students = self.image_head(self.bbox_roi_extractor(pyramid, distilled))
        if students is not None:
            losses["loss_distill"] = self._distillation_loss(students, distillation, embeddings)
        if self.mask_head is not None:
            losses["loss_mask"] = self.mask_loss(pyramid, sampled, data_samples)
        return losses

    def _sample(self, proposals: InstanceData, data_sample: DetDataSample) -> SamplingResult:
        """Regions of one picture to learn from; the objects' own boxes are mixed in."""
        objects = data_sample.gt_instances
        priors = InstanceData(priors=proposals.bboxes.detach())
        assigned = self.assigner.assign(priors, objects, data_sample.get("ignored_instances"))
        return self.sampler.sample(assigned, priors, objects)

    def _class_losses(self, embeddings: Tensor, sampled: list[SamplingResult], table: ClassTable) -> dict[str, Tensor]:
        background = len(table)
        labels = torch.cat(
            [
                torch.cat(
                    [each.pos_gt_labels.long(), each.pos_gt_labels.new_full((len(each.neg_priors),), background).long()]
                )
                for each in sampled
            ]
        )  # (N,)
        base_mask = table.base_mask
        if base_mask is None:
            base_mask = torch.ones(background, dtype=torch.bool, device=labels.device)
        _refuse_novel_labels(labels, base_mask)
        logits = self._text_logits(embeddings, table, self.config.temperature)  # (N, K + 1)
        loss = classification_loss(logits, labels, base_mask)
        right = logits.detach().argmax(dim=1) == labels
        return {"loss_cls": loss, "acc": 100 * right.float().mean()}

    def _text_logits(self, embeddings: Tensor, table: ClassTable, temperature: float) -> Tensor:
        """Logits (N, K + 1), background last: cosines with the table, or a closed set's own rows, in its order."""
        if not self.config.closed_classes:
            return cosine_logits(embeddings, table.embeddings, self.bbox_head.bg_embedding, temperature)
        if len(table) != self.config.closed_classes:
            raise InputError(
                f"this model was trained on {self.config.closed_classes} names without text, and can score no other; "
                f"got {len(table)} names"
            )
        return self.bbox_head.classifier(embeddings).float()

    def _box_loss(self, deltas: Tensor, sampled: list[SamplingResult]) -> Tensor:
        targets = torch.cat([self.coder.encode(each.pos_priors, each.pos_gt_bboxes) for each in sampled])  # (P, 4)
        positive = torch.cat(
            [
                torch.cat([torch.ones(len(each.pos_priors)), torch.zeros(len(each.neg_priors))]).bool()
                for each in sampled
            ]
        ).to(deltas.device)  # (N,)
        return box_loss(deltas[positive], targets, len(deltas), self.config.box_beta)

    def _distillation_loss(self, students: Tensor, distillation: list[InstanceData], embeddings: Tensor) -> Tensor:
        teachers = torch.cat([each.embeds for each in distillation]).to(students)  # (M, D)
        loss = self.config.distill_weight * distillation_loss(students, teachers)
        if not len(students):  # the parameters are touched all the same: DDP waits for every gradient
            head = self.image_head if self.image_head is not None else self.bbox_head.proj
            loss = loss + 0 * embeddings.sum() + sum(0 * parameter.sum() for parameter in head.parameters())
        return loss

    def mask_loss(
        self, pyramid: Sequence[Tensor], sampled: list[SamplingResult], data_samples: list[DetDataSample]
    ) -> Tensor:
        """Loss of the masks in the positive regions of samples, B of each; see `loss`."""
        for index, sample in enumerate(data_samples):
            if "masks" not in sample.gt_instances:
                raise InputError(
                    f"training picture {index} ({sample.metainfo.get('img_path', 'no path')}) brings no masks; "
                    "load them with the annotations or build the model with with_mask=False"
                )
        if self.config.max_mask_regions is not None:
            sampled = [_first_objects(each, self.config.max_mask_regions) for each in sampled]
        rois = bbox2roi([each.pos_priors for each in sampled])  # (P, 5)
        predicted = self.mask_head(self.mask_roi_extractor(pyramid, rois)).float()  # (P, 1, 28, 28)
        objects = [sample.gt_instances for sample in data_samples]
        settings = ConfigDict(mask_size=self.mask_size)
        return self.mask_head.loss_and_target(predicted, sampled, objects, settings)["loss_mask"]["loss_mask"]

    # ---- test

    def predict(
        self,
        pyramid: Sequence[Tensor],
        proposals: list[InstanceData],
        sizes_hw: Sequence[tuple[int, int]],
        table: ClassTable,
        *,
        score_thr: float | None = None,
        max_dets: int | None = None,
    ) -> list[InstanceData]:
        """Detect every class of the table.

        Args:
            pyramid: levels (B, C, h, w).
            proposals: B with bboxes (N_i, 4), pixels of the network's input.
            sizes_hw: of the B pictures in the network's input, without padding.
            table: any number of classes, none included.
            score_thr: in place of the configured one.
            max_dets: in place of the configured one.

        Returns:
            B with bboxes (n, 4) in pixels of the network's input, scores (n,), labels (n,) and, with masks,
            mask_probabilities (n, 28, 28) over each box.
        """
        boxes_xyxy, embeddings, image_embeddings = self.regions(pyramid, proposals, sizes_hw)
        results = [
            self.choose(
                boxes, partial(self._score_rows, *vectors, table), len(table), score_thr=score_thr, max_dets=max_dets
            )
            for boxes, *vectors in zip(boxes_xyxy, embeddings, image_embeddings, strict=True)
        ]
        self.add_masks(pyramid, results)
        return results

    def regions(
        self, pyramid: Sequence[Tensor], proposals: list[InstanceData], sizes_hw: Sequence[tuple[int, int]]
    ) -> tuple[list[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """Refine proposals: B tensors each of boxes (N_i, 4), text embeddings and image embeddings (N_i, D)."""
        counts = [len(each) for each in proposals]
        rois = bbox2roi([each.bboxes for each in proposals])  # (N, 5)
        features = self.bbox_roi_extractor(pyramid, rois)
        embeddings, deltas = self.bbox_head(features)
        image_embeddings = self.image_head(features) if self.image_head is not None else embeddings
        boxes_xyxy = [
            self.coder.decode(priors, delta, max_shape=size_hw)
            for priors, delta, size_hw in zip(rois[:, 1:].split(counts), deltas.split(counts), sizes_hw, strict=True)
        ]
        return boxes_xyxy, embeddings.split(counts), image_embeddings.split(counts)

    def choose(
        self,
        boxes_xyxy: Tensor,
        score_rows: Callable[[slice], Tensor],
        classes: int,
        *,
        score_thr: float | None = None,
        max_dets: int | None = None,
    ) -> InstanceData:
        """The best detections of one picture, as configured: bboxes (n, 4), scores (n,) and labels (n,)."""
        positions, scores, labels = select_detections(
            boxes_xyxy,
            score_rows,
            classes,
            score_thr=self.config.score_thr if score_thr is None else score_thr,
            nms_iou=self.config.nms_iou,
            max_dets=max_dets or self.config.max_per_img,
        )
        return InstanceData(bboxes=boxes_xyxy[positions], scores=scores, labels=labels)

    def _score_rows(self, embeddings: Tensor, image_embeddings: Tensor, table: ClassTable, rows: slice) -> Tensor:
        """Scores (n, K) of some regions, from their embeddings (N, D) in the two branches."""
        settings = self.config
        names, temperature = table.embeddings, settings.test_temperature
        if settings.variant == "image":
            return fusion.image_log_probabilities(cosine_logits(embeddings[rows], names, None, temperature)).exp()
        logits = self._text_logits(embeddings[rows], table, temperature)
        if settings.closed_classes and table.base_mask is not None:  # nothing was learned of novel names
            logits = logits.masked_fill(torch.cat([~table.base_mask, table.base_mask.new_zeros(1)]), -torch.inf)
        text = fusion.text_log_probabilities(logits)
        if settings.variant != "ensemble":
            return text.exp()
        image = fusion.image_log_probabilities(cosine_logits(image_embeddings[rows], names, None, temperature))
        share = fusion.text_exponents(
            table.base_mask,
            len(table),
            settings.base_text_exponent,
            settings.novel_text_exponent,
            settings.free_text_exponent,
        )
        return fusion.fuse(text, image, share.to(text))

    def add_masks(self, pyramid: Sequence[Tensor], results: list[InstanceData]) -> None:
        """Add mask_probabilities (n, 28, 28) to the detections of each picture, if there is a mask head."""
        if self.mask_head is None:
            return
        rois = bbox2roi([each.bboxes for each in results])  # (n, 5)
        probabilities = self.mask_head(self.mask_roi_extractor(pyramid, rois)).float().sigmoid()[:, 0]
        for each, masks in zip(results, probabilities.split([len(each) for each in results]), strict=True):
            each.mask_probabilities = masks  # (n_i, 28, 28)


def _first_objects(sampled: SamplingResult, limit: int) -> SimpleNamespace:
    """What a mask head reads of the first regions that hold an object; the objects' own boxes come first."""
    return SimpleNamespace(
        pos_priors=sampled.pos_priors[:limit],
        pos_assigned_gt_inds=sampled.pos_assigned_gt_inds[:limit],
        pos_gt_labels=sampled.pos_gt_labels[:limit],
    )


def _refuse_novel_labels(labels: Tensor, base_mask: Tensor) -> None:
    """A novel label among the training objects would give an infinite loss; say what it is instead."""
    objects = labels[labels < len(base_mask)]
    if not len(base_mask) and len(labels) and labels.max() > 0:
        raise InputError("the model has no class embeddings; call set_class_embeddings before training")
    if len(labels) and int(labels.max()) > len(base_mask):
        raise InputError(
            f"an object is labelled {int(labels.max())}, but the class table has {len(base_mask)} classes; "
            "give set_class_embeddings the classes of the training set"
        )
    novel = objects[~base_mask[objects]]
    if len(novel):
        raise InputError(
            f"a training object has label {int(novel[0])}, which base_mask marks as novel; "
            "train on base annotations only"
        )
