"""The desk of the untrained detector: pictures and names in, `Detections` out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ovdet.errors import InputError
from ovdet.ops.masks import Rle, encode_masks
from ovdet.results import Detections
from ovdet.vlm.base import VLMBackbone
from ovdet.vlm.class_pictures import class_rows
from ovdet.vlm.prompts import class_embeddings
from ovdet.zeroshot.closer import look_closer
from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.maps import look, name_maps
from ovdet.zeroshot.masks import cut_out_box, outline, snap_to_edges, to_picture, work_size
from ovdet.zeroshot.matching import make_matcher
from ovdet.zeroshot.proposals import ProposalFinder
from ovdet.zeroshot.regions import Region, find_regions

logger = logging.getLogger(__name__)
LEAST_KNOWN = 0.3
"""Relevance of the nearest class below which the user is told that a name or picture is unknown."""
_warned: set[tuple[str, str]] = set()
"""Backbones and names of which the user has been told, once a process, that one does not know the other."""


class ZeroShotDetector:
    """Finds things by name with a backbone that was never trained to find.

    Every name is judged alone, against the backbone's own background, so the score of a name does not depend on
    which other names are asked; two names for one thing give two boxes. A picture's result does not depend on
    what else is in the batch.
    """

    def __init__(
        self,
        backbone: VLMBackbone,
        config: ZeroShotConfig | None = None,
        device: str | torch.device = "cpu",
        finder: ProposalFinder | None = None,
    ) -> None:
        """Take a built backbone with text and dense maps.

        Args:
            backbone: such as `ImageNetWords` or `OpenClipBackbone`.
            config: the rules; the defaults were calibrated for `ImageNetWords`.
            device: where the backbone runs.
            finder: of things without names, on the same trunk and device, that corrects the boxes; see `load_finder`.

        Raises:
            InputError: the backbone cannot give dense maps or text vectors.
        """
        lacking = {"text", "dense"} - backbone.spec.capabilities
        if lacking:
            raise InputError(f"{backbone.spec.name} cannot find things: it gives no {' and no '.join(sorted(lacking))}")
        self.backbone = backbone.to(device).eval()
        self.config = config or ZeroShotConfig()
        self.finder = finder
        self.name = backbone.spec.name

    @property
    def score_threshold(self) -> float:
        """The calibrated default."""
        return self.config.score_threshold if self.finder is None else self.config.closer_threshold

    def embed(self, names: Sequence[str]) -> Tensor:
        """Class embeddings (K, D) of K names, cached on disk; warns once of names that the backbone does not know."""
        own = hasattr(self.backbone, "match")
        embeddings = class_embeddings(self.backbone, names, templates="name" if own else "plain")
        knows = getattr(self.backbone, "knows", None)
        if knows is not None:
            for name, known in zip(names, knows(embeddings).tolist(), strict=True):
                if known < LEAST_KNOWN and (self.name, name) not in _warned:
                    _warned.add((self.name, name))
                    logger.warning("%s knows no class like %r and will hardly find it", self.name, name)
        return embeddings

    @torch.inference_mode()
    def embed_pictures(self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]) -> Tensor:
        """Rows of classes by example pictures, to stand among those of `embed`.

        Args:
            images: K pictures (H, W, 3) uint8 RGB.
            boxes_xyxy: K boxes (4,), pixels of their pictures: what is meant in each.

        Returns:
            (K, D).

        Raises:
            CapabilityError: this backbone keeps pictures and names too far apart.
        """
        rows = []
        for image, box in zip(images, boxes_xyxy, strict=True):
            picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.backbone.mean) / 255
            rows += self.backbone.region_embed_crop(picture, [torch.from_numpy(box)[None].to(picture)])
        embeddings = class_rows(self.backbone, torch.cat(rows)).cpu()
        knows = getattr(self.backbone, "knows", None)
        for number, known in enumerate(knows(embeddings).tolist() if knows is not None else [], start=1):
            if known < LEAST_KNOWN:
                logger.warning("%s knows no class like class picture %d and will hardly find it", self.name, number)
        return embeddings

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
        """Find every named thing.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes.
            names: K names; the result's labels index them.
            class_embeddings: (K, D) of `embed(names)`.
            score_threshold: lowest score kept; None takes the calibrated default.
            max_dets: most detections a picture, best first.
            masks: whether to add masks.

        Returns:
            One `Detections` a picture.

        Raises:
            InputError: a picture is no (H, W, 3) uint8 array, or names and embeddings differ in number.
        """
        if len(names) != len(class_embeddings):
            raise InputError(f"{len(names)} names but {len(class_embeddings)} class embeddings; embed these names")
        threshold = self.score_threshold if score_threshold is None else score_threshold
        return [
            self._predict_one(_checked(image, index), names, class_embeddings, threshold, max_dets, masks)
            for index, image in enumerate(images)
        ]

    def masks_of_boxes(self, image: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Cut out the thing in each box, (N, 4) in pixels -> (N, H, W) bool, by the picture's colours alone."""
        image, work_hw = _checked(image, 0), work_size((image.shape[0], image.shape[1]))
        work_image = cv2.resize(image, work_hw[::-1], interpolation=cv2.INTER_AREA)
        scale = np.array([work_hw[1] / image.shape[1], work_hw[0] / image.shape[0]] * 2)
        masks = [cut_out_box(work_image, box * scale) for box in boxes_xyxy]
        full = [to_picture(mask, (image.shape[0], image.shape[1]))[1] for mask in masks]
        return np.array(full, bool).reshape(-1, *image.shape[:2])

    def _predict_one(
        self,
        image: np.ndarray,
        names: Sequence[str],
        embeddings: Tensor,
        threshold: float,
        max_dets: int,
        with_masks: bool,
    ) -> Detections:
        size_hw = (image.shape[0], image.shape[1])
        matcher = make_matcher(self.backbone, embeddings)
        looks = look(self.backbone, image, self.config)
        least = max(threshold, 1e-6)
        if self.finder is not None:  # a score is a geometric mean with a number below 1
            least = max(threshold ** (1 + self.config.closer_weight), 1e-6)
        found = [
            (region, index)
            for index, maps in name_maps(looks, matcher, size_hw, self.config, least)
            for region in find_regions(maps, self.config, least)
        ]
        found.sort(key=lambda pair: (-pair[0].score, names[pair[1]], pair[0].box))
        if self.finder is None:
            answers = self._snapped(image, found[:max_dets], with_masks)
        else:
            things = look_closer(self.finder, image, found, self.config, threshold)[:max_dets]
            answers = [
                (thing.box_xyxy, thing.score, thing.label, _encode(thing.mask(size_hw)) if with_masks else None)
                for thing in things
            ]
        boxes, scores, labels, rles = zip(*answers, strict=True) if answers else ((), (), (), ())
        return Detections(
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            np.array(scores, dtype=np.float32),
            np.array(labels, dtype=np.int64),
            tuple(names),
            size_hw,
            tuple(rle for rle in rles if rle is not None) if with_masks else None,
            None,
            self.name,
        )

    def _snapped(
        self, image: np.ndarray, found: Sequence[tuple[Region, int]], with_masks: bool
    ) -> list[tuple[tuple[float, float, float, float], float, int, Rle | None]]:
        """Box, score, label and mask of each region, its outline moved to the picture's edges."""
        size_hw = (image.shape[0], image.shape[1])
        work_hw = work_size(size_hw)
        work_image = cv2.resize(image, work_hw[::-1], interpolation=cv2.INTER_AREA)
        answers = []
        for region, index in found:
            rough = outline(region, work_hw)
            box_xyxy, mask = to_picture(snap_to_edges(work_image, region, rough, self.config), size_hw)
            answers.append((box_xyxy, min(1.0, region.score), index, _encode(mask) if with_masks else None))
        return answers


def _encode(mask: np.ndarray) -> Rle:
    return encode_masks(mask[None])[0]


def _checked(image: np.ndarray, index: int) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(f"picture {index} must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    return image
