"""The detector: pyramid, class-agnostic proposals, regions named by a table of text embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.vild.config import ViLDConfig
from ovdet.vild.heads import Float32RPNHead
from ovdet.vild.masks import paste_masks
from ovdet.vild.roi_head import ClassTable, ViLDRoIHead
from ovdet.vlm.base import VLMBackbone
from ovdet.vlm.crops import CropEncoder


class ViLDModel(BaseDetector):
    """ViLD behind mmdet's contract: `forward(inputs, data_samples, mode)` with mode "loss", "predict" or "tensor".

    The vocabulary is a table of vectors, never strings. It is no part of a checkpoint: call
    `set_class_embeddings` before training and testing, or hand a table to `detect`.

    Args:
        data_preprocessor: normalises and pads; its mean and std are of RGB in 0..255.
        backbone: pictures to levels.
        neck: levels to a pyramid.
        rpn_head: class-agnostic proposals.
        roi_head: the second stage.
        proposal_settings: of the RPN's proposals in training; at test time the RPN has its own.
    """

    class_embeddings: Tensor
    base_mask: Tensor

    def __init__(
        self,
        data_preprocessor: nn.Module,
        backbone: nn.Module,
        neck: nn.Module,
        rpn_head: Float32RPNHead,
        roi_head: ViLDRoIHead,
        proposal_settings: ConfigDict,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = backbone
        self.neck = neck
        self.rpn_head = rpn_head
        self.roi_head = roi_head
        self.proposal_settings = proposal_settings
        self.recipe: dict[str, Any] = {}  # the builder's name and arguments; build.py fills it in
        self._teacher: CropEncoder | None = None
        self._base_known = False
        self.register_buffer("class_embeddings", torch.zeros(0, self.config.embed_dim), persistent=False)
        self.register_buffer("base_mask", torch.zeros(0, dtype=torch.bool), persistent=False)

    @property
    def config(self) -> ViLDConfig:
        """Losses and test settings."""
        return self.roi_head.config

    @property
    def class_table(self) -> ClassTable:
        """The vocabulary last set."""
        return ClassTable(self.class_embeddings, self.base_mask if self._base_known else None)

    def make_class_table(self, embeddings: Tensor, base_mask: Tensor | Sequence[bool] | None = None) -> ClassTable:
        """Check and normalise a vocabulary.

        Args:
            embeddings: (K, D) of any length and float type.
            base_mask: (K,) bool, True for classes that may be learned and were seen; None if nobody says, and
                then training masks nothing and fusion uses one exponent for all.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.config.embed_dim:
            raise InputError(
                f"class embeddings must be (K, {self.config.embed_dim}) for this model, got {tuple(embeddings.shape)}; "
                "embed the names with the text tower that it was trained with"
            )
        device = next(self.parameters()).device
        mask = None if base_mask is None else torch.as_tensor(base_mask, dtype=torch.bool, device=device)
        if mask is not None and mask.shape != (len(embeddings),):
            raise InputError(
                f"base_mask must be ({len(embeddings)},) like the class embeddings, got {tuple(mask.shape)}"
            )
        return ClassTable(F.normalize(embeddings.detach().to(device, torch.float32), dim=1), mask)

    def set_class_embeddings(self, embeddings: Tensor, base_mask: Tensor | Sequence[bool] | None = None) -> None:
        """Set the vocabulary that `loss` and `predict` use; arguments as in `make_class_table`."""
        table = self.make_class_table(embeddings, base_mask)
        self._base_known = table.base_mask is not None
        self.class_embeddings = table.embeddings
        self.base_mask = (
            table.base_mask
            if table.base_mask is not None
            else torch.ones_like(table.embeddings[:, 0], dtype=torch.bool)
        )

    def set_teacher(self, backbone: VLMBackbone | None) -> None:
        """Embed proposals on the fly with this backbone wherever a picture brings none; None takes it away."""
        if backbone is not None and backbone.spec.embed_dim != self.config.embed_dim:
            raise InputError(
                f"teacher {backbone.spec.name!r} embeds in {backbone.spec.embed_dim} dimensions, the model in "
                f"{self.config.embed_dim}; build the model with embed_dim={backbone.spec.embed_dim}"
            )
        config = self.config
        self._teacher = (
            CropEncoder(backbone, config.crop_scales, square=config.square_crops, half=config.half_teacher)
            if backbone is not None
            else None
        )

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), normalised -> levels of (B, C, h, w)."""
        return self.neck(self.backbone(batch_inputs))

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict[str, Any]:
        """Losses of both stages.

        Args:
            batch_inputs: (B, 3, H, W), normalised and padded.
            batch_data_samples: B with gt_instances (bboxes, labels, masks) and, for distillation, proposals
                (bboxes (M, 4) in pixels of the input, scores (M,), embeds (M, D)).
        """
        pyramid = self.extract_feat(batch_inputs)
        losses, proposals = self.rpn_head.loss_and_predict(
            pyramid, [_without_classes(sample) for sample in batch_data_samples], self.proposal_settings
        )
        distillation = self._distillation(batch_inputs, batch_data_samples, proposals)
        return losses | self.roi_head.loss(pyramid, proposals, batch_data_samples, distillation, self.class_table)

    @torch.no_grad()
    def detect(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], table: ClassTable, **limits: Any
    ) -> list[InstanceData]:
        """Detect the classes of a table, in pixels of the network's input.

        Args:
            batch_inputs: (B, 3, H, W), normalised and padded.
            batch_data_samples: B with the metainfo of mmdet; proposals in them are ignored.
            table: of `make_class_table`; the one last set plays no part.
            **limits: score_thr and max_dets of `ViLDRoIHead.predict`, which says what comes back.
        """
        pyramid = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(pyramid, batch_data_samples, rescale=False)
        sizes_hw = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        return self.roi_head.predict(pyramid, proposals, sizes_hw, table, **limits)

    @torch.no_grad()
    def propose(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> list[InstanceData]:
        """Boxes of whatever may be a thing: the RPN's, refined by the second stage; arguments as for `detect`.

        Returns:
            B with bboxes (N, 4) in pixels of the network's input and scores (N,), the RPN's objectness; none is
            suppressed.
        """
        pyramid = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(pyramid, batch_data_samples, rescale=False)
        sizes_hw = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        boxes_xyxy, _, _ = self.roi_head.regions(pyramid, proposals, sizes_hw)
        return [
            InstanceData(bboxes=boxes, scores=each.scores) for boxes, each in zip(boxes_xyxy, proposals, strict=True)
        ]

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Detect the vocabulary last set; boxes come from the model's own RPN, stored proposals are ignored.

        Returns:
            The data samples with pred_instances: bboxes (n, 4), scores (n,), labels (n,), best first, and masks
            (n, H, W) bool with a mask head; in pixels of the original picture, or of the input without `rescale`.
        """
        results = self.detect(batch_inputs, batch_data_samples, self.class_table)
        for sample, result in zip(batch_data_samples, results, strict=True):
            size_hw = sample.ori_shape[:2] if rescale else sample.img_shape[:2]
            if rescale:
                result.bboxes = result.bboxes / result.bboxes.new_tensor(sample.get("scale_factor", (1.0, 1.0))).repeat(
                    2
                )
            if self.with_mask:
                small = result.pop("mask_probabilities")
                result.masks = paste_masks(small, result.bboxes, tuple(size_hw), self.config.mask_threshold)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample] | None = None) -> tuple:
        """Outputs without post-processing: the RPN's scores and deltas of each level."""
        return self.rpn_head(self.extract_feat(batch_inputs))

    def _distillation(
        self, batch_inputs: Tensor, data_samples: list[DetDataSample], proposals: list[InstanceData]
    ) -> list[InstanceData]:
        """What to distil in each picture: the regions and embeddings it brings, or the teacher's on the fly."""
        if not self.config.distills:
            return [self._no_regions(batch_inputs) for _ in data_samples]
        regions = []
        untaught: list[int] = []
        for index, (sample, own) in enumerate(zip(data_samples, proposals, strict=True)):
            given = sample.get("proposals")
            if given is not None and "embeds" in given:
                regions.append(self._best_given(given, index))
            elif self._teacher is not None:
                boxes = own.bboxes[: self.config.teacher_boxes] if given is None else self._best_boxes(given)
                regions.append(InstanceData(bboxes=get_box_tensor(boxes).detach()))
                untaught.append(index)
            elif given is None or not len(given):
                regions.append(self._no_regions(batch_inputs))
            else:
                raise InputError(
                    f"training picture {index} brings proposals without embeds; store them or call set_teacher"
                )
        if untaught:
            boxes = [regions[index].bboxes for index in untaught]
            some = [data_samples[index] for index in untaught]
            for index, embeds in zip(untaught, self.teach(batch_inputs[untaught], some, boxes), strict=True):
                regions[index].embeds = embeds
        return regions

    def teach(self, batch_inputs: Tensor, data_samples: list[DetDataSample], boxes_xyxy: list[Tensor]) -> list[Tensor]:
        """The teacher's embeddings of boxes in the network's input: B tensors (M_i, 4) -> B tensors (M_i, D).

        Raises:
            InputError: there is no teacher.
        """
        if self._teacher is None:
            raise InputError("the model has no teacher; call set_teacher, or name one in the config's VocabularyHook")
        mean, std = self.data_preprocessor.mean, self.data_preprocessor.std  # (3, 1, 1), RGB in 0..255
        pictures = ((batch_inputs.float() * std + mean) / 255).clamp(0, 1)
        return self._teacher.embed(pictures, [tuple(each.img_shape[:2]) for each in data_samples], boxes_xyxy)

    def _best_given(self, given: InstanceData, index: int) -> InstanceData:
        boxes, embeds = get_box_tensor(given.bboxes), given.embeds
        if embeds.ndim != 2 or embeds.shape != (len(boxes), self.config.embed_dim):
            raise InputError(
                f"training picture {index}: proposals.embeds must be ({len(boxes)}, {self.config.embed_dim}), "
                f"got {tuple(embeds.shape)}; was the store made by another teacher?"
            )
        return InstanceData(bboxes=boxes, embeds=embeds)[self._best_positions(given)]

    def _best_boxes(self, given: InstanceData) -> Tensor:
        return get_box_tensor(given.bboxes)[self._best_positions(given)]

    def _best_positions(self, given: InstanceData) -> Tensor:
        """Positions of the best-scored, in the order given, boxes and rows alike."""
        count, most = len(given.bboxes), self.config.max_distill_rois
        if count <= most:
            return torch.arange(count)
        if "scores" not in given:
            return torch.arange(most)
        return given.scores.topk(most).indices.sort().values

    def _no_regions(self, like: Tensor) -> InstanceData:
        return InstanceData(
            bboxes=like.new_zeros(0, 4, dtype=torch.float32),
            embeds=like.new_zeros(0, self.config.embed_dim, dtype=torch.float32),
        )


def _without_classes(sample: DetDataSample) -> DetDataSample:
    """The same objects as one class, for the RPN; nothing is copied but the sample's shell."""
    objects = sample.gt_instances
    bare = DetDataSample(metainfo=sample.metainfo)
    bare.gt_instances = InstanceData(
        bboxes=objects.bboxes, labels=torch.zeros(len(objects.bboxes), dtype=torch.long, device=objects.bboxes.device)
    )
    if "ignored_instances" in sample:
        bare.ignored_instances = sample.ignored_instances
    return bare
