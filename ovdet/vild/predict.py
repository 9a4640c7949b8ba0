"""The desk of the room: pictures and names in, `Detections` out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import nms

from ovdet.errors import CapabilityError, InputError
from ovdet.ops.boxes import clip_boxes
from ovdet.ops.masks import encode_masks
from ovdet.results import Detections
from ovdet.vild.crops import CropNamedModel
from ovdet.vild.masks import paste_mask, paste_masks
from ovdet.vild.model import ViLDModel
from ovdet.vild.roi_head import ClassTable
from ovdet.vild.weights import CheckpointFacts, load_model, save_model
from ovdet.vlm.base import VLMBackbone
from ovdet.vlm.class_pictures import class_rows
from ovdet.vlm.crops import CropEncoder
from ovdet.vlm.prompts import class_embeddings as embed_names
from ovdet.vlm.prompts import clean_name


class ViLDDetector:
    """A trained ViLD with its text tower.

    The vocabulary is an argument of every call. Names that the model learned as base classes weigh the text head
    more in the fusion of an ensemble, all others the image head; a checkpoint that names no base classes gives
    all names the same weight.

    Args:
        model: built and loaded.
        text_tower: that made the class embeddings of its training.
        facts: what the checkpoint says about itself.
        name: shown in results.
    """

    def __init__(self, model: ViLDModel, text_tower: VLMBackbone, facts: CheckpointFacts, name: str = "vild") -> None:
        if text_tower.spec.embed_dim != model.config.embed_dim:
            raise InputError(
                f"text tower {text_tower.spec.name!r} embeds in {text_tower.spec.embed_dim} dimensions, the model in "
                f"{model.config.embed_dim}; give the tower that it was trained with"
            )
        self.model = model.eval()
        self.text_tower = text_tower.eval()
        self.facts = facts
        self.name = name
        self._base_names = {clean_name(each) for each in facts.base_names}
        if isinstance(model, CropNamedModel):  # the tower that embeds names looks at crops too
            model.set_teacher(self.text_tower)

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        text_tower: VLMBackbone | None = None,
    ) -> ViLDDetector:
        """Read a checkpoint of tools/train.py or tools/convert/vild.py.

        Args:
            checkpoint: file; nothing in it is run.
            device: of the detector and the tower.
            text_tower: in place of the zoo's entry that the checkpoint names.

        Raises:
            InputError: the file cannot be used, or names a tower that the zoo lacks or whose weights changed.
        """
        model, facts = load_model(checkpoint, device)
        if text_tower is None:
            from ovdet.vlm.zoo import create_vlm

            if "name" not in facts.text_tower:
                raise InputError(f"checkpoint '{checkpoint}' names no text tower; pass text_tower")
            text_tower = create_vlm(
                facts.text_tower["name"], weights=facts.text_tower.get("weights", "default"), device=str(device)
            )
        trained_with = facts.text_tower.get("fingerprint")
        if trained_with is not None and trained_with != text_tower.fingerprint:
            raise InputError(
                f"checkpoint '{checkpoint}' was trained with other weights of text tower {text_tower.spec.name!r}; "
                "its class embeddings would not fit"
            )
        return cls(model, text_tower.to(device), facts, name=f"vild:{Path(checkpoint).name}")

    def save(self, checkpoint: str | os.PathLike[str]) -> None:
        """Write a checkpoint that `load` reads: weights, builder, base classes and the name of the text tower."""
        recipe = self.model.recipe
        save_model(self.model, replace(self.facts, **recipe), checkpoint)

    def embed(self, names: Sequence[str]) -> Tensor:
        """Embed class names as in training: (K, D) unit length, row k for names[k]; cached on disk."""
        return embed_names(self.text_tower, names, templates=self.facts.templates)

    @torch.inference_mode()
    def embed_pictures(self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]) -> Tensor:
        """Rows of classes by example pictures, to stand among those of `embed`.

        Args:
            images: K pictures (H, W, 3) uint8 RGB.
            boxes_xyxy: K boxes (4,), pixels of their pictures: what is meant in each.

        Returns:
            (K, D) unit length.

        Raises:
            CapabilityError: the text tower that this detector was trained with sees no pictures, or keeps them apart
                from names and no known names bridge the gap.
        """
        tower, config = self.text_tower, self.model.config
        if "image" not in tower.spec.capabilities:
            raise CapabilityError(
                f"{tower.spec.name}, which {self.name} was trained with, sees no pictures; give words"
            )
        teacher = CropEncoder(tower, config.crop_scales, square=config.square_crops)
        rows = []
        for image, box in zip(images, boxes_xyxy, strict=True):
            picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(tower.mean) / 255
            rows.append(teacher.embed(picture, [image.shape[:2]], [torch.from_numpy(box)[None].to(picture)])[0])
        known = self.embed(self.facts.class_names) if self.facts.class_names else None
        return class_rows(tower, torch.cat(rows), known).cpu()

    def class_table(self, names: Sequence[str], class_embeddings: Tensor) -> ClassTable:
        """The vocabulary for the network: vectors, and which names were learned if the checkpoint says so."""
        if len(names) != len(class_embeddings):
            raise InputError(f"{len(names)} names but {len(class_embeddings)} class embeddings; embed these names")
        if self.model.config.closed_classes and list(names) != list(self.facts.class_names):
            raise InputError(
                f"{self.name} learned its {len(self.facts.class_names)} names without text and knows no others; "
                "leave the names to it, or take a detector of another variant"
            )
        mask = [clean_name(name) in self._base_names for name in names] if self._base_names else None
        return self.model.make_class_table(class_embeddings, mask)

    @torch.inference_mode()
    def predict(
        self,
        images: Sequence[np.ndarray],
        names: Sequence[str],
        class_embeddings: Tensor,
        *,
        score_threshold: float | None = None,
        max_dets: int = 100,
        masks: bool = True,
    ) -> list[Detections]:
        """Detect the named things. Pictures go through one by one, so none changes the result of another.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            names: K names; labels index them.
            class_embeddings: (K, D) of `embed(names)`.
            score_threshold: None is the checkpoint's own.
            max_dets: a picture.
            masks: with run-length masks, if the model has a mask head; None in the results otherwise.
        """
        threshold = self.facts.score_threshold if score_threshold is None else score_threshold
        table = self.class_table(names, class_embeddings)
        if isinstance(self.model, CropNamedModel) and self.model.rivals is None and self.facts.class_names:
            self.model.rivals = self.embed(self.facts.class_names)
        return [self._detect(image, tuple(names), table, threshold, max_dets, masks) for image in images]

    @torch.inference_mode()
    def propose(self, image: np.ndarray, *, max_boxes: int = 50, nms_iou: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
        """Boxes of whatever may be a thing, without names.

        Args:
            image: (H, W, 3) uint8 RGB.
            max_boxes: kept, best first.
            nms_iou: overlap above which the less likely of two boxes goes.

        Returns:
            boxes_xyxy (N, 4) in pixels of the picture, and objectness (N,) in [0, 1].
        """
        data, scale_xy = prepare_picture(self.model, image, self.facts.test_scale)
        found = self.model.propose(data["inputs"], data["data_samples"])[0]
        boxes_xyxy = clip_boxes(found.bboxes.float() / found.bboxes.new_tensor(scale_xy * 2), image.shape[:2])
        kept = nms(boxes_xyxy, found.scores.float(), nms_iou)[:max_boxes]
        return boxes_xyxy[kept].cpu().numpy(), found.scores[kept].float().cpu().numpy()

    @torch.inference_mode()
    def masks_of_boxes(self, image: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Cut out the thing in each box by the mask head.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes_xyxy: (N, 4), pixels of the picture.

        Returns:
            (N, H, W) bool, nothing outside of the boxes.

        Raises:
            CapabilityError: the model has no mask head.
        """
        if not self.model.with_mask:
            raise CapabilityError(f"{self.name} has no mask head and cannot turn boxes into masks")
        if not len(boxes_xyxy):
            return np.zeros((0, *image.shape[:2]), bool)
        data, scale_xy = prepare_picture(self.model, image, self.facts.test_scale)
        boxes = torch.from_numpy(boxes_xyxy).to(data["inputs"])  # (N, 4)
        asked = InstanceData(bboxes=boxes * boxes.new_tensor(scale_xy * 2))
        self.model.roi_head.add_masks(self.model.extract_feat(data["inputs"]), [asked])
        size_hw, cut = (image.shape[0], image.shape[1]), self.model.config.mask_threshold
        return paste_masks(asked.mask_probabilities, boxes, size_hw, cut).cpu().numpy()

    def _detect(
        self, image: np.ndarray, names: tuple[str, ...], table: ClassTable, threshold: float, max_dets: int, masks: bool
    ) -> Detections:
        data, scale_xy = prepare_picture(self.model, image, self.facts.test_scale)
        found = self.model.detect(
            data["inputs"], data["data_samples"], table, score_thr=threshold, max_dets=max(max_dets, 1)
        )[0][:max_dets]
        size_hw = (image.shape[0], image.shape[1])
        boxes_xyxy = clip_boxes(found.bboxes.float() / found.bboxes.new_tensor(scale_xy * 2), size_hw)  # (n, 4)
        rles = None
        if masks and self.model.with_mask:
            cut = self.model.config.mask_threshold
            rles = tuple(  # one at a time: 100 masks of a large photograph would fill the memory
                encode_masks(paste_mask(small, box, size_hw, cut).cpu().numpy()[None])[0]
                for small, box in zip(found.mask_probabilities, boxes_xyxy, strict=True)
            )
        scores, labels = found.scores.cpu().numpy().clip(0, 1), found.labels.cpu().numpy()
        return Detections(boxes_xyxy.cpu().numpy(), scores, labels, names, size_hw, rles, model=self.name)


def prepare_picture(model: ViLDModel, image: np.ndarray, test_scale: Sequence[int]) -> tuple[dict, tuple[float, float]]:
    """Resize, normalise and pad one picture for a model; also the scale in x and y from the picture to the input.

    Args:
        model: whose preprocessor is used.
        image: (H, W, 3) uint8 RGB.
        test_scale: long and short side in pixels that the picture is fitted into; empty for its own size.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"a picture must be an (H, W, 3) uint8 RGB array, got {got}")
    size_hw = (image.shape[0], image.shape[1])
    height, width = fitted_size(size_hw, test_scale)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    bgr = torch.from_numpy(np.ascontiguousarray(resized[:, :, ::-1].transpose(2, 0, 1)))  # (3, H, W)
    scale_xy = (width / size_hw[1], height / size_hw[0])
    sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=size_hw, scale_factor=scale_xy))
    return model.data_preprocessor({"inputs": [bgr], "data_samples": [sample]}), scale_xy


def fitted_size(size_hw: tuple[int, int], test_scale: Sequence[int]) -> tuple[int, int]:
    """Largest size of the same shape whose long and short sides fit into test_scale; at least one pixel a side.

    An empty `test_scale` leaves a picture as it is.
    """
    if min(size_hw) < 1:
        raise InputError(f"a picture of {size_hw[1]}x{size_hw[0]} pixels has nothing in it")
    if not test_scale:
        return size_hw
    scale = min(max(test_scale) / max(size_hw), min(test_scale) / min(size_hw))
    height, width = (max(int(side * scale + 0.5), 1) for side in size_hw)
    return height, width
