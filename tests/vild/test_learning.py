"""It learns: two pictures by heart, and (acceptance 17 in small) names that had no label. Under a minute each.

Objects are two-coloured squares. Nine colour pairs are the classes, three of them novel: on the training pictures
they are there, without labels. The teacher is a fixed random projection of a crop's thumbnail, and a class vector
the mean of its crops.
"""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch.nn import functional as F
from torchvision.ops import box_iou

from ovdet.vild.build import Architecture, assemble
from ovdet.vild.config import ViLDConfig
from ovdet.vild.heads import EncoderSizes, cosine_logits

COLOURS = ((210, 40, 40), (40, 190, 60), (50, 70, 220))
NOVEL = (0, 4, 8)
BASE = torch.tensor([label not in NOVEL for label in range(9)])


def draw(generator):
    """One picture (96, 96, 3) RGB, its boxes (3, 4) and labels (3,)."""
    image = np.full((96, 96, 3), 120, np.uint8) + generator.integers(0, 15, (96, 96, 3)).astype(np.uint8)
    boxes, labels = [], []
    for cell in generator.permutation(4)[:3]:
        side = int(generator.integers(26, 40))
        x, y = (int(48 * part + generator.integers(2, 46 - side)) for part in (cell % 2, cell // 2))
        label = int(generator.integers(9))
        image[y : y + side, x : x + side] = COLOURS[label % 3]
        image[y : y + side // 2, x : x + side] = COLOURS[label // 3]
        boxes.append([x, y, x + side, y + side])
        labels.append(label)
    return image, torch.tensor(boxes).float(), torch.tensor(labels)


def batch(pictures) -> dict:
    """As a data loader gives it: labels of base objects only, embeddings of all."""
    inputs, samples = [], []
    for image, boxes, labels, embeds in pictures:
        sample = DetDataSample(metainfo=dict(img_shape=(96, 96), ori_shape=(96, 96), scale_factor=(1.0, 1.0)))
        learned = BASE[labels]
        sample.gt_instances = InstanceData(bboxes=boxes[learned], labels=labels[learned])
        sample.proposals = InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)), embeds=embeds)
        inputs.append(torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1))
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def light_model(names, *, regions: int, with_mask: bool):
    """An ensemble that makes a step in a quarter of a second."""
    sizes = EncoderSizes(in_channels=32, conv_channels=32, num_convs=2, fc_channels=64, num_fcs=1)
    architecture = Architecture(
        depth=18, base_channels=16, channels=32, region=sizes, norm="gn", regions=regions, proposals=3 * regions
    )
    model = assemble(architecture, ViLDConfig("ensemble", embed_dim=32, distill_weight=2.0), with_mask)
    model.init_weights()
    model.set_class_embeddings(names, BASE)
    return model


def train(model, next_batch, steps: int) -> list[dict[str, float]]:
    """AdamW with a falling rate; the losses of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    history = []
    model.train()
    for _ in range(steps):
        data = model.data_preprocessor(copy.deepcopy(next_batch()), True)
        loss, logs = model.parse_losses(model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        history.append({name: value.item() for name, value in logs.items()})
    return history


def _filled(box) -> np.ndarray:
    """(96, 96) uint8, 1 inside the box."""
    x1, y1, x2, y2 = (int(edge) for edge in box)
    mask = np.zeros((96, 96), np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


@torch.no_grad()
def right_names(model, pictures) -> dict[str, tuple[float, float]]:
    """Share of the objects, base and novel, that the image head, which saw no label, and the fused score name right."""
    model.eval()
    hits = {"image": [], "fused": []}
    for picture in pictures:
        pyramid = model.extract_feat(model.data_preprocessor(batch([picture]), False)["inputs"])
        features = model.roi_head.bbox_roi_extractor(pyramid[:4], bbox2roi([picture[1]]))
        text, image = model.roi_head.bbox_head(features)[0], model.roi_head.image_head(features)
        scores = model.roi_head._score_rows(text, image, model.class_table, slice(None))
        hits["fused"].append(scores.argmax(1) == picture[2])
        hits["image"].append(cosine_logits(image, model.class_embeddings, None, 0.01).argmax(1) == picture[2])
    learned = BASE[torch.cat([picture[2] for picture in pictures])]
    return {
        name: tuple(torch.cat(hit)[which].float().mean().item() for which in (learned, ~learned))
        for name, hit in hits.items()
    }


@pytest.mark.slow
def test_two_pictures_are_learned_by_heart(tower):
    """Each object is found by name, box and mask, and every loss has fallen."""
    generator = np.random.default_rng(1)
    names = tower.encode_text([str(label) for label in range(9)])
    pictures = []
    for _ in range(2):
        image, boxes, labels = draw(generator)
        boxes, labels = boxes[:1], torch.tensor([1 + len(pictures)])  # the other objects are background
        embeds = names[labels]  # a teacher of the same mind as the text tower
        pictures.append((image, boxes, labels, embeds))
    model = light_model(names, regions=64, with_mask=True)
    data = batch(pictures)
    for sample, picture in zip(data["data_samples"], pictures, strict=True):
        sample.gt_instances.masks = BitmapMasks([_filled(picture[1][0])], 96, 96)
    history = train(model, lambda: data, steps=100)
    for name in ("loss_cls", "loss_rpn_cls", "loss_distill", "loss_mask"):
        assert history[-1][name] < 0.5 * history[0][name], (name, history[0][name], history[-1][name])
    model.eval()
    for result, (_, boxes, labels, _) in zip(model.test_step(copy.deepcopy(data)), pictures, strict=True):
        best = result.pred_instances[0]
        assert best.labels.item() == labels.item()
        assert box_iou(best.bboxes, boxes).item() > 0.5
        truth = torch.from_numpy(_filled(boxes[0])).bool()
        assert (best.masks[0] & truth).sum() / (best.masks[0] | truth).sum() > 0.5


@pytest.mark.slow
def test_distillation_names_what_had_no_label(tower):
    generator = np.random.default_rng(0)

    def embedded(picture):
        image = torch.from_numpy(picture[0]).permute(2, 0, 1)[None].float() / 255
        return *picture, tower.region_embed_crop(image, [picture[1]])[0]

    training = [embedded(draw(generator)) for _ in range(64)]
    unseen = [embedded(draw(generator)) for _ in range(40)]
    embeds, labels = (torch.cat([picture[index] for picture in training]) for index in (3, 2))
    names = torch.stack([F.normalize(embeds[labels == label].mean(0), dim=0) for label in range(9)])
    model = light_model(names, regions=24, with_mask=False)
    train(model, lambda: batch([training[index] for index in generator.integers(0, 64, 4)]), steps=100)
    right = right_names(model, unseen)
    assert min(right["image"]) > 0.9, right
    assert min(right["fused"]) > 0.9, right
