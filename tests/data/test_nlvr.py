import json

import pytest
import torch

from ovdet.data.nlvr import Pair, PairData, collate_pairs, nlvr2_pairs, read_nlvr2, read_pair_lists
from ovdet.data.sampling import Draw
from ovdet.errors import InputError


@pytest.fixture
def file(tmp_path):
    rows = [
        {"identifier": "train-10171-0-0", "sentence": "Two dogs.", "label": "True", "directory": 38},
        {"identifier": "train-10171-0-1", "sentence": "A cat.", "label": "False", "directory": 38},
    ]
    (tmp_path / "train.json").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path / "train.json"


def test_official_files(file, tmp_path):
    first, second = read_nlvr2(file, verify=False)
    names = ("images/train/38/train-10171-0-img0.png", "images/train/38/train-10171-0-img1.png")
    assert first == Pair("Two dogs.", names, True, "train-10171-0-0") and second.label is False
    with pytest.raises(InputError, match="2 sentences of train, officially 86373"):
        read_nlvr2(file)
    row = {"identifier": "dev-850-0-1", "sentence": "x", "label": "True"}
    (tmp_path / "tiny.json").write_text(json.dumps(row))
    assert read_nlvr2(tmp_path / "tiny.json")[0].file_names[0] == "dev/dev-850-0-img0.png"


def test_lists(tmp_path):
    rows = [
        {"sentence": "s", "images": ["a.png", "b.png"], "label": "True"},
        {"sentence": "t", "images": ["c", "d"], "label": False},
    ]
    (tmp_path / "l.json").write_text(json.dumps(rows))
    assert [(one.file_names, one.label) for one in read_pair_lists([tmp_path / "l.json"])] == [
        (("a.png", "b.png"), True),
        (("c", "d"), False),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence": "s", "images": ["a"], "label": "True"}, "row 0 needs two images"),
        ({"sentence": "s", "images": ["a", "b"], "label": "yes"}, "the label True or False"),
        ({"sentence": "s", "label": "True"}, 'row 0 has no "images"'),
    ],
)
def test_mistakes_in_lists(tmp_path, row, message):
    (tmp_path / "l.json").write_text(json.dumps([row]))
    with pytest.raises(InputError, match=message):
        read_pair_lists([tmp_path / "l.json"])


def test_mistakes_in_official_files(tmp_path):
    (tmp_path / "a.json").write_text('{"identifier": "x", "sentence": "s", "label": "True"}')
    with pytest.raises(InputError, match="or identifier 'x'"):
        read_nlvr2(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{}\n{")
    with pytest.raises(InputError, match=r"a\.json:2 is not valid JSON"):
        read_nlvr2(tmp_path / "a.json")


@pytest.fixture
def pairs(red_picture):
    red_picture("a.png", (60, 40), (0, 0, 30, 40))
    red_picture("b.png", (40, 60), (0, 0, 40, 60))
    return [Pair("The left, RED one.", ("a.png", "b.png"), True), Pair("x", ("b.png", "a.png"), False)]


def test_batches(pairs, tmp_path):
    data = PairData(pairs, tmp_path, side=32, name="tiny")
    batch = collate_pairs([data[0], data[1]])
    assert batch["texts"] == ["the left red one", "x"] and batch["label"].tolist() == [1, 0]
    assert torch.equal(batch["first"][0], batch["second"][1]) and batch["first"].shape == (2, 3, 32, 32)
    assert data.metainfo["sentences"] == 2 and data.metainfo["dataset"] == "tiny"


def test_training_changes_each_picture_on_its_own(pairs, tmp_path):
    data = PairData(pairs, tmp_path, side=32, training=True)
    assert torch.equal(data[Draw(0, 3)]["images"], data[Draw(0, 3)]["images"])
    assert len({data[Draw(0, n)]["images"][0].numpy().tobytes() for n in range(8)}) > 4


def test_sides_cannot_be_swapped(pairs, tmp_path):
    with pytest.raises(InputError, match="mirrored one by one"):
        PairData(pairs, tmp_path, side_words="swap")
    with pytest.raises(InputError, match="no sentence"):
        PairData([], tmp_path)


def test_as_a_config_names_it(file):
    assert nlvr2_pairs(str(file), "x", verify=False).metainfo["dataset"] == "NLVR2 train"
