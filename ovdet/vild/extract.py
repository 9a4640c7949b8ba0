"""What a teacher store is made with: the teacher's rows of a picture's boxes, and a trained RPN's boxes.

Both take pictures as they are on disk, (H, W, 3) uint8 RGB, one at a time, so that no row depends on what else is
extracted. Flips and resizes of training move the boxes only; the rows stay those of the picture on disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures.bbox import get_box_tensor

from ovdet.errors import InputError
from ovdet.ops.boxes import clip_boxes
from ovdet.vild.model import ViLDModel
from ovdet.vild.predict import prepare_picture
from ovdet.vild.weights import load_model
from ovdet.vlm.base import VLMBackbone

INTERPOLATION = "RoIAlign, as many samples as pixels; warped to a square"
"""How `VLMBackbone.region_embed_crop` cuts a region out."""


class RegionTeacher:
    """Rows of the regions of a picture: a tight and a wider crop, summed (arXiv:2104.13921, section 3.2).

    Args:
        backbone: of the zoo, on the device where it shall work.
        scales: of the crops.
        block: crops encoded at once.
        precision: torch.float32, or a type to autocast to.
    """

    def __init__(
        self,
        backbone: VLMBackbone,
        scales: Sequence[float] = (1.0, 1.5),
        block: int = 64,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.backbone = backbone.eval().requires_grad_(False)
        self.scales, self.block, self.precision = tuple(scales), block, precision

    @torch.no_grad()
    def __call__(self, image_rgb: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Picture (H, W, 3) uint8 and boxes (P, 4) in its pixels -> (P, D) float32 of unit length."""
        device = self.backbone.mean.device
        picture = torch.from_numpy(image_rgb).to(device).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        boxes = torch.from_numpy(np.ascontiguousarray(boxes_xyxy, dtype=np.float32)).to(device)
        autocasts = self.precision != torch.float32
        with torch.autocast(device.type, dtype=self.precision if autocasts else None, enabled=autocasts):
            rows = self.backbone.region_embed_crop(picture, [boxes], self.scales, self.block)[0]  # (P, D)
        found: np.ndarray = rows.float().cpu().numpy()
        return found

    def facts(self, name: str) -> dict[str, Any]:
        """What a store says of its teacher: the fields of `ovdet.data.teacher_store.facts.TeacherFacts`."""
        spec = self.backbone.spec
        return {
            "name": name,
            "fingerprint": self.backbone.fingerprint,
            "embed_dim": spec.embed_dim,
            "crop_scales": list(self.scales),
            "image_size": spec.image_size,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": INTERPOLATION,
            "precision": str(self.precision).removeprefix("torch."),
        }


@dataclass(frozen=True)
class RegionBoxes:
    """Boxes of one picture, best first.

    Attributes:
        boxes_xyxy: (P, 4) float32, pixels of the picture.
        scores: (P,) float32, objectness.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray


class BoxesOfRPN:
    """The best proposals of a trained detector's RPN, after its own non-maximum suppression (IoU 0.7 of the paper).

    Args:
        model: on the device where it shall work; its RPN should have been trained on base classes only.
        test_scale: long and short side in pixels that pictures are fitted into.
        limit: boxes of each picture (ViLD keeps 300).
        facts: what else the store's index shall say of the boxes.
        precision: torch.float32, or a type to autocast to.

    Attributes:
        facts: for the store's index.
        needs_picture: whether the boxes depend on the pixels.
    """

    needs_picture = True

    def __init__(
        self,
        model: ViLDModel,
        test_scale: Sequence[int],
        limit: int = 300,
        facts: Mapping[str, Any] | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.test_scale, self.limit, self.precision = model.eval(), list(test_scale), limit, precision
        settings = model.rpn_head.test_cfg
        if settings.max_per_img < limit:
            raise InputError(f"this RPN keeps {settings.max_per_img} boxes of a picture; ask for no more, got {limit}")
        self.facts = {
            "kind": "rpn",
            **(facts or {}),
            "limit": limit,
            "test_scale": self.test_scale,
            "nms_iou": settings.nms.iou_threshold,
            "precision": str(precision).removeprefix("torch."),
        }

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        *,
        limit: int = 300,
        device: str = "cpu",
        precision: torch.dtype = torch.float32,
        sha256: str | None = None,
    ) -> BoxesOfRPN:
        """Take the RPN of a checkpoint of tools/train.py; `sha256` of the file is noted.

        Raises:
            InputError: the file cannot be used, or its RPN keeps fewer boxes than the limit.
        """
        model, said = load_model(checkpoint, device)
        facts = {"checkpoint": Path(checkpoint).name, "sha256": sha256, "builder": said.builder}
        return cls(model, said.test_scale, limit, facts, precision)

    @torch.no_grad()
    def __call__(self, picture: Mapping[str, Any], image_rgb: np.ndarray) -> RegionBoxes:
        """The boxes of a picture (H, W, 3) uint8; what the data set says of it plays no part."""
        data, scale_xy = prepare_picture(self.model, image_rgb, self.test_scale)
        autocasts = self.precision != torch.float32
        device_type = data["inputs"].device.type
        with torch.autocast(device_type, dtype=self.precision if autocasts else None, enabled=autocasts):
            pyramid = self.model.extract_feat(data["inputs"])
            found = self.model.rpn_head.predict(pyramid, data["data_samples"], rescale=False)[0]
        boxes = get_box_tensor(found.bboxes).float()[: self.limit]
        boxes = clip_boxes(boxes / boxes.new_tensor(scale_xy * 2), image_rgb.shape[:2])  # (P, 4)
        return RegionBoxes(boxes.cpu().numpy(), found.scores.float()[: self.limit].cpu().numpy())
