import json

import pytest
import torch

from ovdet.data.batches import collate_texts
from ovdet.data.karpathy import (
    CaptionedPicture,
    CaptionTest,
    CaptionTraining,
    karpathy_test,
    karpathy_training,
    read_caption_lists,
    read_karpathy,
)
from ovdet.data.sampling import Draw
from ovdet.errors import InputError


@pytest.fixture
def coco(tmp_path, red_picture):
    """Karpathy's file of three pictures, with the pictures."""
    rows = []
    for number, split in ((5, "train"), (6, "restval"), (7, "test")):
        name = f"COCO_val2014_{number:012d}.png"
        red_picture(f"val2014/{name}", (60, 40), (5, 5, 20, 20))
        said = [{"raw": f"Picture {number}, text {j}.", "tokens": [], "sentid": j} for j in range(2)]
        rows.append({"filepath": "val2014", "filename": name, "cocoid": number, "imgid": number, "split": split,
                     "sentences": said, "sentids": [0, 1]})  # fmt: skip
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": rows, "dataset": "coco"}))
    return tmp_path


def test_reading_the_official_file(coco):
    found = read_karpathy(coco / "dataset_coco.json", verify=False)
    assert found[2] == CaptionedPicture(
        "val2014/COCO_val2014_000000000007.png", ("Picture 7, text 0.", "Picture 7, text 1."), 7, "test"
    )
    with pytest.raises(InputError, match=r"\(Karpathy's coco\): there are 1 train, officially 82783"):
        read_karpathy(coco / "dataset_coco.json")


def test_reading_flickr(tmp_path):
    row = {"filename": "1.jpg", "imgid": 4, "split": "val", "sentences": [{"raw": "A."}]}
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": [row]}))
    assert read_karpathy(tmp_path / "dataset_flickr30k.json", verify=False) == [
        CaptionedPicture("1.jpg", ("A.",), 4, "val")
    ]
    with pytest.raises(InputError, match="Karpathy's flickr30k"):
        read_karpathy(tmp_path / "dataset_flickr30k.json")


def test_reading_lists(tmp_path):
    training = [{"image": "a/COCO_val2014_000000000009.jpg", "caption": c, "image_id": "coco_9"} for c in ("x", "y")]
    (tmp_path / "train.json").write_text(json.dumps(training))
    (tmp_path / "test.json").write_text(json.dumps([{"image": "b.jpg", "caption": ["p", "q", "r"]}]))
    found = read_caption_lists([tmp_path / "train.json", tmp_path / "test.json"])
    assert [one.captions for one in found] == [("x", "y"), ("p", "q", "r")]
    assert [one.image_id for one in found] == [9, 1]


def test_training_on_captions(coco):
    data = karpathy_training(str(coco / "dataset_coco.json"), str(coco), verify=False, side=32, prompt="a picture of ")
    assert len(data) == 4  # two of train, two of restval
    samples = [data[Draw(index, index)] for index in range(4)]
    assert [one["texts"][0] for one in samples[:2]] == [
        "a picture of picture 5 text 0",
        "a picture of picture 5 text 1",
    ]
    assert [one["image_id"] for one in samples] == [0, 0, 1, 1] and samples[0]["image"].shape == (3, 32, 32)
    assert torch.equal(data[Draw(0, 9)]["image"], data[Draw(0, 9)]["image"])
    assert not torch.equal(data[Draw(0, 9)]["image"], data[Draw(0, 10)]["image"])


def test_references_to_judge_captions_by(coco):
    file, more = str(coco / "dataset_coco.json"), dict(verify=False, side=32)
    plain, one, all_of_them = (karpathy_training(file, str(coco), references=n, **more) for n in (0, 1, 5))
    drawn = {one[Draw(0, number)]["references"][0] for number in range(20)}
    assert drawn == {"picture 5 text 0", "picture 5 text 1"} == set(all_of_them[0]["references"])
    assert "references" not in plain[0] and torch.equal(plain[0]["image"], all_of_them[0]["image"])
    assert collate_texts([one[0], one[2]])["references"][1][0].startswith("picture 6")


def test_testing_on_captions(coco):
    data = karpathy_test(str(coco / "dataset_coco.json"), str(coco), verify=False, side=32, max_words=2)
    sample = data[0]
    assert len(data) == 1 and sample["texts"] == ["picture 7", "picture 7"] and sample["image_id"] == 7
    assert data.metainfo["picture_of_text"] == [0, 0] and data.metainfo["dataset"] == "dataset_coco, test"
    batch = collate_texts([sample, sample])
    assert batch["references"] == [["Picture 7, text 0.", "Picture 7, text 1."]] * 2
    assert batch["is_image"].all() and batch["image_index"].tolist() == [0, 0, 1, 1]


def test_digests_tell_splits_apart(tmp_path):
    one, other = (CaptionTest([CaptionedPicture("a", (text,), 1)], tmp_path).metainfo for text in "xy")
    assert one["split_sha256"] != other["split_sha256"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ('{"annotations": []}', "holds no list|has no list"),
        ('{"images": [{"filename": "a", "split": "val"}]}', 'row 0 has no "sentences"'),
        ('{"images": [{"filename": 3, "split": "val", "sentences": []}]}', 'row 0 has 3 as "filename"'),
        ('{"images": [{"filename": "a", "split": "val", "sentences": [{}]}]}', r'images\[0\] has a sentence without'),
    ],
)  # fmt: skip
def test_mistakes_in_files(tmp_path, content, message):
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_karpathy(tmp_path / "f.json")


def test_mistakes(tmp_path):
    with pytest.raises(InputError, match="no caption to train on"):
        CaptionTraining([], tmp_path)
    with pytest.raises(InputError, match="no picture to test on"):
        CaptionTest([], tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*missing\.json"):
        read_karpathy(tmp_path / "missing.json")
