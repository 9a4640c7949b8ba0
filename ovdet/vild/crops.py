"""The paper's first baseline: proposals named by the teacher, run on each crop (arXiv:2104.13921, section 3.1).

Slow where the teacher is large, since it runs at test time; what distillation aims at. The teacher of the sticker world
is small enough for every day.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ovdet.vild.fusion import image_log_probabilities
from ovdet.vild.heads import cosine_logits
from ovdet.vild.model import ViLDModel
from ovdet.vild.roi_head import ClassTable

SAME_MEANING = 0.85
"""Cosine of names from which on they are taken for synonyms, by eye: puppy and dog have 0.89, tea and teapot 0.77."""


class CropNamedModel(ViLDModel):
    """A trained detector's proposals, boxes and masks with the teacher's names; not for training.

    A score is the geometric mean of the teacher's probability of the name and the proposal's objectness.

    Attributes:
        rivals: (M, D) embeddings of further names that may be there without being asked for: they take part in the
            probabilities, so that what is none of few names asked for is not forced to be one; none by default.
    """

    rivals: Tensor | None = None

    needs_teacher = True
    """Tells `VocabularyHook` to hand over the teacher before tests too."""

    @torch.no_grad()
    def detect(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], table: ClassTable, **limits: Any
    ) -> list[InstanceData]:
        """As `ViLDModel.detect`."""
        pyramid = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(pyramid, batch_data_samples, rescale=False)
        sizes_hw = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        boxes_xyxy, _, _ = self.roi_head.regions(pyramid, proposals, sizes_hw)
        embeddings = self.teach(batch_inputs, batch_data_samples, boxes_xyxy)
        rivals = None if self.rivals is None else true_rivals(self.rivals.to(table.embeddings), table.embeddings)
        results = []
        for boxes, rows, found in zip(boxes_xyxy, embeddings, proposals, strict=True):
            scores = crop_scores(rows, found.scores, table, self.config.test_temperature, rivals)
            results.append(self.roi_head.choose(boxes, scores.__getitem__, len(table), **limits))
        self.roi_head.add_masks(pyramid, results)
        return results


def crop_scores(
    embeddings: Tensor, objectness: Tensor, table: ClassTable, temperature: float, rivals: Tensor | None = None
) -> Tensor:
    """Geometric mean of name and objectness: (N, D) and (N,) in [0, 1] -> (N, K); rivals (M, D) only share in it."""
    names = table.embeddings if rivals is None else torch.cat([table.embeddings, rivals])
    shares = image_log_probabilities(cosine_logits(embeddings, names, None, temperature))[:, : len(table)]
    return (shares.exp() * objectness[:, None]).sqrt()


def true_rivals(rivals: Tensor, asked: Tensor) -> Tensor:
    """Those of (M, D) names that mean something else than each of (K, D): "dog" is no rival of "puppy"."""
    if not len(asked):
        return rivals
    return rivals[(rivals @ asked.T).amax(dim=1) < SAME_MEANING]
