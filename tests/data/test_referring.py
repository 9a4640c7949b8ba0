import hashlib
import json

import numpy as np
import pytest
import torch

from ovdet.data.batches import collate_texts
from ovdet.data.refcoco import Referral
from ovdet.data.referring import ReferralTest, ReferralTraining
from ovdet.data.sampling import Draw
from ovdet.errors import InputError

RED = (40, 10, 30, 25)


def referral(text, image_id, box, sent_id, split="train"):
    return Referral(text, box, f"{image_id}.png", (90, 120), image_id, sent_id // 2, sent_id, split)


@pytest.fixture
def referrals(red_picture):
    for image_id in (7, 3):
        red_picture(f"{image_id}.png", (120, 90), RED)
    return [
        referral("The left, red one", 7, RED, 1, "val"),
        referral("red thing", 7, (0.5, 0.5, 10.25, 20), 2, "testA"),
        referral("another", 3, RED, 3, "testB"),
    ]


def corners(box):
    x, y, width, height = box.tolist()
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def test_training_follows_the_box(referrals, tmp_path, red_box):
    data = ReferralTraining(referrals[2:], tmp_path, side=192, augmentation=lambda rng, picture: picture)
    mirrored = set()
    for number in range(30):
        sample = data[Draw(0, number)]
        assert corners(sample["boxes_cxcywh_norm"][0]) == pytest.approx(red_box(sample["image"]), abs=0.03)
        assert sample["texts"] == ["another"] and sample["is_image"].tolist() == [False] and sample["image_id"] == 3
        mirrored.add(sample["image"].numpy().tobytes())
    assert len(mirrored) == 30


def test_sides_are_kept_or_swapped(referrals, tmp_path):
    said = {}
    for side_words in ("keep", "swap", "ignore"):
        data = ReferralTraining(referrals[:1], tmp_path, side=32, side_words=side_words)
        said[side_words] = {data[Draw(0, number)]["texts"][0] for number in range(25)}
    assert said["keep"] == said["ignore"] == {"the left red one"}
    assert said["swap"] == {"the left red one", "the right red one"}


def test_a_draw_decides_the_sample(referrals, tmp_path):
    data = ReferralTraining(referrals, tmp_path, side=32, seed=1)
    first, again, other = data[Draw(2, 5)], data[Draw(2, 5)], data[Draw(2, 6)]
    assert torch.equal(first["image"], again["image"]) and not torch.equal(first["image"], other["image"])


def test_weak_training_sees_the_whole_picture_and_no_box(referrals, tmp_path):
    data = ReferralTraining(referrals, tmp_path, side=32, whole=True, augmentation=lambda rng, picture: picture)
    sample = data[0]
    assert sample["boxes_cxcywh_norm"].tolist() == [[0.5, 0.5, 1, 1]] and sample["is_image"].tolist() == [True]
    assert len({data[Draw(2, n)]["image"].numpy().tobytes() for n in range(20)}) == 2  # mirrored or not


def test_tests_take_all_sentences_of_a_picture_at_once(referrals, tmp_path, red_box):
    (tmp_path / "dets.json").write_text(json.dumps({"7": [[1, 2, 3, 4]]}))
    data = ReferralTest(referrals, tmp_path, side=240, name="tiny", detector_boxes=tmp_path / "dets.json")
    assert len(data) == 2 and data.metainfo["sentences"] == 3 and data.metainfo["dataset"] == "tiny"
    boxes_digest = hashlib.sha256(b'{"7": [[1, 2, 3, 4]]}').hexdigest()
    assert data.metainfo["candidates_sha256"] == boxes_digest, "the boxes decide the score"
    assert "candidates_sha256" not in ReferralTest(referrals, tmp_path).metainfo
    first, second = data[0], data[1]
    assert first["texts"] == ["another"] and second["texts"] == ["the left red one", "red thing"]
    assert second["tags"] == [("val",), ("testA",)] and second["size_hw"] == (90, 120)
    assert second["boxes_xyxy"].tolist() == [[40, 10, 70, 35], [0.5, 0.5, 10.75, 20.5]]
    assert corners(second["boxes_cxcywh_norm"][0]) == pytest.approx(red_box(second["image"]), abs=0.01)
    assert second["things_xyxy"].tolist() == [[1, 2, 4, 6]] and first["things_xyxy"].shape == (0, 4)
    batch = collate_texts([first, second])
    assert batch["image_index"].tolist() == [0, 1, 1] and batch["tags"][2] == ("testA",)
    assert np.allclose(batch["boxes_cxcywh_norm"][2] * torch.tensor([120, 90, 120, 90]), [5.625, 10.5, 10.25, 20])


def test_mistakes(referrals, tmp_path):
    with pytest.raises(InputError, match="no sentence to train on"):
        ReferralTraining([], tmp_path)
    with pytest.raises(InputError, match="no sentence to test on"):
        ReferralTest([], tmp_path)
    with pytest.raises(InputError, match=r"the picture .*7\.png is not there"):
        ReferralTest(referrals, tmp_path / "elsewhere")[1]
