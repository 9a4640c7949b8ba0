import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovdet.vlm.contrastive.sticker_clip import CROP_MARGIN
from ovdet.xvlm.closer import CloserLook, names_nothing, shipped_closer

SCENES = Path(__file__).parents[2] / "demo" / "stickers"


def test_boxes_are_cut_as_squares_and_compared(tower):
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    half = 16 / CROP_MARGIN  # so that the crop is 32 pixels wide, as the backbone takes it
    found = CloserLook(tower)(image, torch.tensor([[30 - half, 24 - 3, 30 + half, 24 + 3]]), ["a", "b"])
    expected = tower.encode_text(["a", "b"]) @ tower.encode_image(image[None, :, 8:40, 14:46] / 255)[0]
    torch.testing.assert_close(found[:, 0], expected, atol=1e-4, rtol=0)
    assert CloserLook(tower)(image, torch.zeros(0, 4), ["a"]).shape == (1, 0)


@pytest.mark.parametrize(
    ("sentence", "nothing"),
    [
        ("the largest thing", True),
        ("The red object, on the left", True),
        ("something above the dog", True),
        ("the dog", False),
        ("the dog to the left of the largest thing", False),
        ("left thing", False),
        ("", False),
    ],
)
def test_sentences_that_name_nothing_are_known(sentence, nothing):
    assert names_nothing(sentence) == nothing


def test_a_crop_tells_nothing_of_a_sentence_without_a_name(tower):
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    found = CloserLook(tower)(image, torch.tensor([[0.0, 0, 32, 32]]), ["the largest thing", "the dog"])
    assert found.isnan().tolist() == [[True], [False]]


@pytest.mark.slow
def test_the_shipped_one_knows_things_by_their_names():
    """Among all things of the demo, drawn by an artist that nothing learned from, most are nearest to their names."""
    right = total = 0
    scenes = json.loads((SCENES / "expected.json").read_text())
    names = [thing["name"] for things in scenes.values() for thing in things]
    for scene, things in scenes.items():
        image = torch.from_numpy(np.array(Image.open(SCENES / scene).convert("RGB"))).permute(2, 0, 1)
        boxes = torch.tensor([thing["box_xyxy"] for thing in things])
        best = shipped_closer()(image, boxes, [f"the {name}" for name in names]).argmax(0).tolist()
        right += sum(names[place] == thing["name"] for place, thing in zip(best, things, strict=True))
        total += len(things)
    assert total == 29 and right >= 18
