"""Transforms that mmdet lacks: proposals with scores and embeddings that follow every crop, flip and resize.

mmdet's geometry (Resize, RandomResize, RandomCrop, RandomFlip) is used as it is; each step records what it did as a
3 x 3 matrix. `TransformProposals` comes after them, takes the product to the boxes, and drops rows of boxes, scores
and embeddings together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs
from mmengine.structures import InstanceData

from ovdet.data.proposals import ProposalSource
from ovdet.data.teacher_store.reader import TeacherStore, open_proposals
from ovdet.errors import InputError


class LoadPicture(BaseTransform):
    """Read `img_path` as (H, W, 3) uint8 BGR, turned by its EXIF tag unless the annotations were made without that.

    Raises:
        InputError: the file is missing or no picture, or its size is not the annotation file's.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add img, img_shape and ori_shape."""
        path = results["img_path"]
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the picture {path}: {error.strerror or error}") from error
        stated_hw = (results["height"], results["width"])
        for flag in ("color", "color_ignore_orientation"):
            image = mmcv.imfrombytes(content, flag=flag) if content else None  # (H, W, 3)
            if image is None:
                raise InputError(f"the picture {path} is damaged or no picture")
            if image.shape[:2] == stated_hw:
                results.update(img=image, img_shape=stated_hw, ori_shape=stated_hw)
                return results
        height, width = image.shape[:2]
        raise InputError(
            f"the picture {path} is {width} x {height} pixels, but its annotation file says "
            f"{stated_hw[1]} x {stated_hw[0]}"
        )


class LoadProposals(BaseTransform):
    """Add a picture's proposals: boxes of the original picture, scores and (if stored) teacher embeddings.

    A `TeacherStore` refuses a picture that it does not have; a `ProposalSource` has no proposals for it.

    Args:
        source: where they come from: a teacher store or its folder, a `ProposalSource` or the path of its file; None
            adds nothing, for pictures whose regions the model is to embed on the fly.
        limit: of rows, best first as stored (ViLD: 300).
    """

    def __init__(self, source: ProposalSource | TeacherStore | str | Path | None, limit: int = 300) -> None:
        self.source = None if source is None else open_proposals(source)
        self.limit = limit

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add proposals (P, 4), proposal_scores (P,) and proposal_embeds (P, D)."""
        if self.source is None:
            return results
        if isinstance(self.source, TeacherStore) and "height" in results:
            found = self.source.proposals(results["img_id"], (results["height"], results["width"]))
        else:
            found = self.source[results["img_id"]]
        results["proposals"] = found.boxes_xyxy[: self.limit].astype(np.float32)
        results["proposal_scores"] = found.scores[: self.limit].astype(np.float32)
        if found.embeddings is not None:
            results["proposal_embeds"] = found.embeddings[: self.limit]
        return results


class TransformProposals(BaseTransform):
    """Move proposals into the frame of the augmented picture; drop together what is left outside of it.

    Embeddings stay as they are: they are of the picture on disk, whatever the student is shown of it. Pictures without
    proposals pass.

    Args:
        min_side: boxes with a side below so many pixels after clipping go.
    """

    def __init__(self, min_side: float = 1.0) -> None:
        self.min_side = min_side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change proposals, proposal_scores and proposal_embeds by the recorded homography_matrix."""
        if "proposals" not in results:
            return results
        matrix = np.asarray(results.get("homography_matrix", np.eye(3)), dtype=np.float64)
        boxes_xyxy = move_boxes(results["proposals"], matrix)
        height, width = results["img_shape"][:2]
        boxes_xyxy = boxes_xyxy.clip(0, [width, height, width, height])
        keep = ((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) >= self.min_side).all(axis=1)  # (P,)
        results["proposals"] = boxes_xyxy[keep].astype(np.float32)
        for key in ("proposal_scores", "proposal_embeds"):
            if key in results:
                results[key] = results[key][keep]
        return results


def move_boxes(boxes_xyxy: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Boxes under a map that keeps axes parallel (scale, flip, shift): (N, 4) and (3, 3) in, (N, 4) out.

    Raises:
        ValueError: the map rotates, shears or is projective; a box would not stay the same region.
    """
    if abs(matrix[0, 1]) + abs(matrix[1, 0]) + abs(matrix[2, 0]) + abs(matrix[2, 1]) > 1e-9:
        raise ValueError(
            "proposals can follow scale, flip and shift only; leave rotation and shear out of the pipeline"
        )
    corners = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 2, 2)  # (N, 2 corners, xy)
    moved = (corners * np.diag(matrix)[:2] + matrix[:2, 2]) / matrix[2, 2]  # (N, 2, 2)
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)  # (N, 4)


class PackDetection(PackDetInputs):
    """mmdet's packing, and `data_samples.proposals` with bboxes, scores and embeds."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack inputs (3, H, W) uint8 BGR and data_samples."""
        rest: Mapping[str, Any] = {key: value for key, value in results.items() if key != "proposals"}
        packed: dict[str, Any] = super().transform(dict(rest))
        if "proposals" in results:
            proposals = InstanceData(bboxes=torch.from_numpy(results["proposals"]))
            proposals.scores = torch.from_numpy(results["proposal_scores"])
            if "proposal_embeds" in results:
                proposals.embeds = torch.from_numpy(np.asarray(results["proposal_embeds"], dtype=np.float32))
            packed["data_samples"].proposals = proposals
        return packed
