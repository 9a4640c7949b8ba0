"""A tower without weights to download, generated pictures, and batches as mmdet packs them."""

from __future__ import annotations

import ovdet  # noqa: F401  mmdet imports after it

# isort: split
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from PIL import Image
from torch import Tensor

from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.metrics.detection import class_precision, summarise
from ovdet.ops.masks import encode_masks
from ovdet.results import Detections
from ovdet.vild.build import vild_tiny
from ovdet.vild.model import ViLDModel

WIDTH = 32


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    MMLogger.get_current_instance().setLevel("WARNING")  # init_weights reports every weight


@pytest.fixture
def make_model() -> Callable[..., ViLDModel]:
    """A tiny model with 5 classes, the last two of them novel."""

    def make(variant: str = "ensemble", classes: int = 5, **arguments) -> ViLDModel:
        torch.manual_seed(0)
        model = vild_tiny(variant, **arguments)
        model.init_weights()
        model.set_class_embeddings(
            torch.randn(classes, model.config.embed_dim), [k < classes - 2 for k in range(classes)]
        )
        return model

    return make


def _sample(
    size_hw: tuple[int, int], boxes: Sequence[Sequence[int]], labels: Sequence[int], proposals: InstanceData | None
) -> DetDataSample:
    sample = DetDataSample(metainfo=dict(img_shape=size_hw, ori_shape=size_hw, scale_factor=(1.0, 1.0), img_id=0))
    masks = np.zeros((len(boxes), *size_hw), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        masks=BitmapMasks(masks, *size_hw),
    )
    if proposals is not None:
        sample.proposals = proposals
    return sample


@pytest.fixture
def make_proposals() -> Callable[..., InstanceData]:
    def make(count: int, width: int = WIDTH) -> InstanceData:
        boxes = torch.rand(count, 4) * 40
        boxes[:, 2:] += boxes[:, :2] + 4
        return InstanceData(bboxes=boxes, scores=torch.rand(count), embeds=torch.randn(count, width))

    return make


@pytest.fixture
def make_batch(make_proposals) -> Callable[..., dict]:
    """Two pictures of different sizes, one with an object and one without; as a data loader gives them."""

    def make(proposals: int | None = 6, boxes: Sequence = ([10, 10, 50, 60],), labels: Sequence[int] = (1,)) -> dict:
        sizes = [(96, 128), (80, 100)]
        objects = [(boxes, labels), ((), ())]
        given = [None if proposals is None else make_proposals(proposals) for _ in sizes]
        return {
            "inputs": [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in sizes],
            "data_samples": [_sample(s, *o, p) for s, o, p in zip(sizes, objects, given, strict=True)],
        }

    return make


@pytest.fixture
def losses_of() -> Callable[[ViLDModel, dict], dict[str, Tensor]]:
    """The training losses of a batch, each as one scalar."""

    def run(model: ViLDModel, batch: dict) -> dict[str, Tensor]:
        model.train()
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
        return {name: sum(value) if isinstance(value, list) else value for name, value in losses.items()}

    return run


def _figures_on_fixed_scenes(
    split: str, detect: Callable[[np.ndarray, tuple[str, ...]], Detections]
) -> dict[str, float]:
    """AP50 in percent, box_base, mask_novel and so on, on 100 scenes that no training saw, all names as candidates.

    They are evaluation scenes of seed 77 (tools/data/pack_scenes.py); the results of docs/results.md are on others.
    """
    vocabulary = load_vocabulary(split)
    rows = []
    with zipfile.ZipFile(Path(__file__).with_name(f"sticker_scenes_{split.replace('-', '_')}.zip")) as archive:
        content = json.loads(archive.read("annotations.json"))
        assert [row["name"] for row in content["categories"]] == list(vocabulary.names)
        for row in content["images"]:
            with archive.open(f"images/{row['file_name']}") as stream:
                found = detect(np.asarray(Image.open(stream).convert("RGB")), vocabulary.names)
            masks = encode_masks(found.masks)
            for (x1, y1, x2, y2), label, score, mask in zip(
                found.boxes_xyxy.tolist(), found.labels.tolist(), found.scores.tolist(), masks, strict=True
            ):
                category = content["categories"][label]["id"]
                box = [x1, y1, x2 - x1, y2 - y1]
                rows.append(dict(image_id=row["id"], category_id=category, bbox=box, score=score, segmentation=mask))
    groups = ["base" if base else "novel" for base in vocabulary.base_mask]
    ids = [row["id"] for row in content["categories"]]
    numbers = {}
    for kind, iou_type in (("box", "bbox"), ("mask", "segm")):
        summary = summarise(class_precision(content, rows, ids, iou_type=iou_type), groups)
        numbers |= {f"{kind}_{group}": summary[f"AP50_{group}"] for group in ("base", "novel", "all")}
    return numbers


@pytest.fixture(scope="session")
def figures_on_fixed_scenes():
    """Split and detector to figures; see `_figures_on_fixed_scenes`."""
    return _figures_on_fixed_scenes
