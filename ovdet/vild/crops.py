"""The paper's first baseline: proposals named by the teacher, run on each crop (arXiv:2104.13921, section 3.1).

Slow, since the teacher runs at test time; what distillation aims at.
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


class CropNamedModel(ViLDModel):
    """A trained detector's proposals, boxes and masks with the teacher's names; for tests only.

    A score is the geometric mean of the teacher's probability of the name and the proposal's objectness.
    """

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
        results = []
        for boxes, rows, found in zip(boxes_xyxy, embeddings, proposals, strict=True):
            scores = crop_scores(rows, found.scores, table, self.config.test_temperature)
            results.append(self.roi_head.choose(boxes, scores.__getitem__, len(table), **limits))
        self.roi_head.add_masks(pyramid, results)
        return results


def crop_scores(embeddings: Tensor, objectness: Tensor, table: ClassTable, temperature: float) -> Tensor:
    """Geometric mean of name and objectness: (N, D) and (N,) in [0, 1] -> (N, K)."""
    names = image_log_probabilities(cosine_logits(embeddings, table.embeddings, None, temperature))
    return (names.exp() * objectness[:, None]).sqrt()
