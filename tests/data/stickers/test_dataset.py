import pickle
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ovdet.data.stickers.dataset import SceneCrops, StickerCrops, StickerScenes, scene_generator
from ovdet.errors import InputError

FIELDS = ("image", "boxes_xyxy", "labels", "masks", "colours")


def test_a_sample_depends_on_seed_and_index_alone(world):
    first, second = StickerScenes(world, 20, seed=5), StickerScenes(world, 9, seed=5)
    first[0], first[7]
    for field in FIELDS:
        assert torch.equal(first[4][field], second[4][field]), field
    assert first[4]["caption"] == second[4]["caption"] and first[4]["expressions"] == second[4]["expressions"]
    assert not torch.equal(first[4]["image"], StickerScenes(world, 20, seed=6)[4]["image"])
    assert not torch.equal(first[4]["image"], StickerScenes(world, 20, seed=5, stream="evaluation")[4]["image"])


def test_worker_processes_give_the_same(world):
    scenes = StickerScenes(world, 6, seed=1)
    loader = DataLoader(scenes, batch_size=None, num_workers=2)
    for index, sample in enumerate(loader):
        for field in FIELDS:
            assert torch.equal(sample[field], scenes[index][field]), field


def test_another_interpreter_gives_the_same(world, tmp_path):
    """Hash seeds, import order and memory differ; pixels do not."""
    program = tmp_path / "program.py"
    program.write_text(
        "import pickle, sys, zlib\n"
        "world = pickle.load(open(sys.argv[1], 'rb'))\n"
        "from ovdet.data.stickers.dataset import StickerCrops, StickerScenes\n"
        "one = StickerScenes(world, 5, seed=3)[2]\n"
        "print(zlib.crc32(one['image'].numpy().tobytes()), one['caption'], [e.text for e in one['expressions']])\n"
        "print(zlib.crc32(StickerCrops(world, 5, seed=3)[2]['image'].numpy().tobytes()))\n"
    )
    (tmp_path / "world.pkl").write_bytes(pickle.dumps(world))
    command = [sys.executable, str(program), str(tmp_path / "world.pkl")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    one = StickerScenes(world, 5, seed=3)[2]
    picture = zlib.crc32(one["image"].numpy().tobytes())
    assert out[0] == f"{picture} {one['caption']} {[e.text for e in one['expressions']]}"
    assert out[1] == str(zlib.crc32(StickerCrops(world, 5, seed=3)[2]["image"].numpy().tobytes()))


def test_novel_things_are_drawn_but_not_given_away(world):
    base, whole = StickerScenes(world, 30, base_only=True), StickerScenes(world, 30)
    novel = {index for index, flag in enumerate(world.vocabulary.base_mask) if not flag}
    names = [world.vocabulary.names[label] for label in novel]
    hidden = 0
    for index in range(30):
        some, everything = base[index], whole[index]
        assert torch.equal(some["image"], everything["image"])
        keep = torch.tensor([int(label) not in novel for label in everything["labels"]])
        hidden += int((~keep).sum())
        for field in ("boxes_xyxy", "labels", "masks", "colours"):
            assert torch.equal(some[field], everything[field][keep]), field
        assert len(some["styles"]) == len(some["labels"])
        said = [some["caption"], *(one.text for one in (*some["regions"], *some["expressions"]))]
        assert not any(name in text.split() or f"{name}s" in text.split() for text in said for name in names)
        for one in (*some["regions"], *some["expressions"]):
            left, top = some["boxes_xyxy"][list(one.things)][:, :2].amin(dim=0).tolist()
            right, bottom = some["boxes_xyxy"][list(one.things)][:, 2:].amax(dim=0).tolist()
            assert one.box_xyxy == (left, top, right, bottom)
    assert hidden > 10


def test_texts_can_be_left_out(world):
    assert "caption" not in StickerScenes(world, 1, texts=False)[0]


def test_mistakes_are_told(world):
    with pytest.raises(InputError, match="no stream 'test'"):
        StickerScenes(world, 5, stream="test")
    with pytest.raises(InputError, match="length must be at least 1"):
        StickerScenes(world, 0)
    with pytest.raises(InputError, match="must not be negative"):
        scene_generator("train", -1, 0)
    with pytest.raises(IndexError):
        StickerScenes(world, 5)[5]
    with pytest.raises(InputError, match="labels must be drawn"):
        StickerCrops(world, 5, labels=[99])
    with pytest.raises(InputError, match="side at least 16"):
        StickerCrops(world, 5, side=8)
    with pytest.raises(IndexError):
        StickerCrops(world, 5)[7]


def test_crops_show_every_name_in_turn(world):
    crops = StickerCrops(world, 24, seed=2)
    labels = [crops[index]["label"] for index in range(24)]
    for start in range(0, 24, 6):
        assert sorted(labels[start : start + 6]) == list(range(6))
    assert labels[:6] != labels[6:12] or labels[6:12] != labels[12:18]
    some = StickerCrops(world, 8, labels=[1, 4])
    assert {some[index]["label"] for index in range(8)} == {1, 4}


def test_crops_look_like_their_text(world):
    crops = StickerCrops(world, 40, seed=9)
    coloured = 0
    for index in range(40):
        sample = crops[index]
        assert sample["image"].shape == (3, 64, 64) and sample["image"].dtype == torch.uint8
        assert sample["text"].endswith(world.vocabulary.names[sample["label"]])
        coloured += bool(sample["colour"]) and sample["colour"] in sample["text"]
    assert coloured > 5
    assert torch.equal(crops[3]["image"], StickerCrops(world, 9, seed=9)[3]["image"])
    assert np.ptp(crops[3]["image"].numpy().astype(int)) > 20


def test_crops_of_a_scene_are_its_boxes_made_square(world):
    """Cut by hand where nothing is shaken: a square whose side is the crop's, so that no pixel is interpolated."""
    scenes, compared = StickerScenes(world, 40, seed=4, stream="validation"), 0
    for number in range(40):
        scene = scenes.scene(number)
        height, width = scene.image.shape[:2]
        for label, (x1, y1, x2, y2) in zip(scene.labels, scene.boxes_xyxy.astype(int), strict=True):
            side = int(max(x2 - x1, y2 - y1))
            left, top = x1 - (side - (x2 - x1)) // 2, y1 - (side - (y2 - y1)) // 2
            even = side % 2 == (x2 - x1) % 2 == (y2 - y1) % 2
            within = min(left, top) > 0 and left + side < width and top + side < height
            if not even or not within or side < 16 or (scene.labels == label).sum() > 1:
                continue
            crops = SceneCrops(world, 4, stream="validation", side=side, labels=[label], margin=(1, 1), shake=0)
            sample = crops[number * SceneCrops.PER_SCENE]
            by_hand = torch.from_numpy(scene.image[top : top + side, left : left + side].transpose(2, 0, 1).copy())
            assert sample["label"] == label
            assert torch.equal(sample["image"], by_hand)
            compared += 1
    assert compared > 3


def test_crops_of_scenes_are_repeatable_and_keep_to_their_names(world):
    first, second = SceneCrops(world, seed=3, labels=[1, 4]), SceneCrops(world, seed=3, labels=[1, 4])
    second[41]
    shown = [first[index] for index in range(48)]
    assert {sample["label"] for sample in shown if sample} == {1, 4}
    assert shown[9] is None or torch.equal(shown[9]["image"], second[9]["image"])
    assert any(sample is None for sample in shown) or len(world.labels) == 2
    sample = next(sample for sample in shown if sample)
    assert sample["image"].shape == (3, 64, 64) and sample["image"].dtype == torch.uint8
