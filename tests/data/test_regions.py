import json
from collections import Counter
from itertools import islice

import pytest
import torch

from ovdet.data.batches import fixed_texts
from ovdet.data.records import BrokenSamples, LineFiles, Record
from ovdet.data.regions import RegionTexts, element_boxes
from ovdet.errors import InputError

RED = (40, 10, 30, 25)
OTHERS = [(0, 0, 20, 20), (80, 60, 30, 20), (10, 50, 25, 25), (5, 30, 12, 8)]


@pytest.fixture
def make(tmp_path, red_picture):
    """Region data of one picture with a red rectangle, which is "the left thing", and other boxes."""
    red_picture("a.png", (120, 90), RED)

    def data(row=None, rows=(), **more):
        elements = [{"caption": "the left thing", "bb": [*RED]}]
        elements += [{"caption": [f"other {i}", f"another {i}"], "bb": [*box]} for i, box in enumerate(OTHERS)]
        row = {"elems": elements, "image_rpath": "a.png"} | (row or {})
        (tmp_path / "lines.jsonl").write_text("\n".join(json.dumps(one) for one in (row, *rows)))
        settings = {"side": 64, "augmentation": None, "picture_root": tmp_path, **more}
        return RegionTexts(LineFiles([tmp_path / "lines.jsonl"]), **settings)

    return data


def corners(box):
    x, y, width, height = box.tolist()
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def test_boxes_are_where_their_things_are(make, red_box):
    checked = 0
    for sample in islice(iter(make(side=192)), 60):
        for text, box in zip(sample["texts"], sample["boxes_cxcywh_norm"], strict=True):
            assert (box >= 0).all() and (box <= 1).all()
            if text == "the left thing":
                assert corners(box) == pytest.approx(red_box(sample["image"]), abs=0.03)
                checked += 1
    assert checked > 20


def test_one_region_is_whole_and_the_others_are_half_seen_at_least(make):
    sizes = {"the left thing": RED} | {
        f"{word} {i}": box for i, box in enumerate(OTHERS) for word in ("other", "another")
    }
    for sample in islice(iter(make(max_regions=9)), 60):
        scales = []
        for text, box in zip(sample["texts"], sample["boxes_cxcywh_norm"].tolist(), strict=True):
            scales.append((sizes[text][2] / box[2], sizes[text][3] / box[3], text))  # the crop's size if seen whole
        width, height = (min(one[axis] for one in scales) for axis in (0, 1))
        shares = [width * height / (one[0] * one[1]) for one in scales]
        assert max(shares) == pytest.approx(1) and min(shares) > 0.5 - 1e-6


def test_the_caption_takes_one_place(make):
    data = make({"caption": ["All of it.", "Everything"]}, max_regions=3)
    for sample in islice(iter(data), 30):
        assert sample["texts"][0] in ("all of it", "everything") and len(sample["texts"]) <= 3
        assert sample["boxes_cxcywh_norm"][0].tolist() == [0.5, 0.5, 1, 1]
        assert sample["is_image"].tolist() == [True] + [False] * (len(sample["texts"]) - 1)
        assert len(set(sample["texts"])) == len(sample["texts"])


def test_attributes_come_before_the_name(make):
    data = make({"elems": [{"caption": "dog", "attributes": ["big", "Brown"], "bb": [0, 0, 50, 50]}]})
    assert {sample["texts"][0] for sample in islice(iter(data), 20)} == {"big dog", "brown dog"}


def test_pieces_of_attribute_and_name_are_kept_together(make):
    row = {
        "caption": "all , of it",
        "elems": [{"caption": "t - shirt", "attributes": "strip ##ed", "bb": [0, 0, 50, 50]}],
    }
    texts = next(iter(make(row, tokenized=True)))["texts"]
    assert texts == ["all , of it", "striped t - shirt"]
    assert [text.word_pieces for text in texts] == [("all", ",", "of", "it"), ("strip", "##ed", "t", "-", "shirt")]


def test_all_texts_are_used_and_each_pass_differs(make):
    texts = Counter(text for sample in islice(iter(make()), 100) for text in sample["texts"])
    assert len(texts) == 9


@pytest.mark.parametrize("side_words", ["ignore", "keep", "swap"])
def test_mirrored_regions(make, side_words):
    said = Counter()
    for sample in islice(
        iter(make({"elems": [{"caption": "the left thing", "bb": [*RED]}]}, side_words=side_words)), 60
    ):
        said[sample["texts"][0]] += 1
    assert set(said) == ({"the left thing", "the right thing"} if side_words == "swap" else {"the left thing"})


def test_keeping_sides_means_not_mirroring(make, red_box):
    """The red thing's left end is bright in the original, so that mirroring shows."""
    from PIL import Image

    path = make().picture_root / "a.png"
    picture = Image.open(path).convert("RGB")
    picture.paste((255, 255, 255), (40, 10, 45, 35))
    picture.save(path)

    def mirrored(side_words):
        for sample in islice(iter(make(side_words=side_words, side=192)), 40):
            pixels = sample["image"].float()
            white, red = (pixels.amin(dim=0) > 220), (pixels[0] > 190) & (pixels[1] < 64)
            if white.any() and red.any():
                yield bool(white.nonzero()[:, 1].float().mean() > red.nonzero()[:, 1].float().mean())

    assert set(mirrored("keep")) == {False} and set(mirrored("ignore")) == {False, True}


def test_broken_records_are_named(make):
    rows = [
        {"elems": [], "image_rpath": "a.png"},
        {"elems": [{"caption": "x", "bb": [0, 0, 5]}], "image_rpath": "a.png"},
        {"elems": [{"caption": "x", "bb": [0, 0, 500, 5]}], "image_rpath": "a.png"},
        {"elems": [{"bb": [0, 0, 5, 5]}], "image_rpath": "a.png"},
    ]
    broken = BrokenSamples(tolerance=1.0)
    samples = list(islice(iter(make(rows=rows, broken=broken)), 10))
    assert len(samples) == 10 and broken.count >= 36
    assert {name.rpartition(":")[2] for name in broken.names} == {"2", "3", "4", "5"}


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (None, 'has no "elems"'),
        ([{"caption": "x"}], r"elems\[0\] has no box"),
        ([{"bb": [0, 0, 1, 1]}, {"bb": ["a", 0, 1, 1]}], r"elems\[1\] has no box"),
        ([{"bb": [0, 0, 0.9, 5]}], "no area or is outside"),
        ([{"bb": [0, 0, float("inf"), 5]}], "has no box"),
    ],
)
def test_boxes_are_checked(elements, message):
    with pytest.raises(InputError, match=message):
        element_boxes({"elems": elements})


def test_boxes_are_cut_to_whole_pixels():
    assert element_boxes({"elems": [{"bb": [1.9, 2.1, 3.99, 4.5]}]}).tolist() == [[1, 2, 3, 4]]


def test_regions_make_batches_of_a_fixed_size(make):
    data = iter(make({"caption": "all"}))
    batch = fixed_texts([next(data) for _ in range(8)], 20)
    assert (
        len(batch["texts"]) == 20 and batch["images"].shape == (8, 3, 64, 64) and batch["images"].dtype == torch.uint8
    )


def test_a_record_without_a_seen_element_still_has_its_picked_one(make):
    for number in range(30):
        sample = make().sample(Record("x", {"elems": [{"caption": "x", "bb": [*RED]}], "image_rpath": "a.png"}), number)
        assert sample["texts"] == ["x"]
