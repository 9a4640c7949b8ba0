import copy
import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from ovdet.data.captions import CaptionedPictures, SplitText, choose_text
from ovdet.data.records import BrokenSamples, LineFiles
from ovdet.errors import InputError


@pytest.fixture
def lines(tmp_path, red_picture):
    """A picture that is red on its left half, with captions; and three broken lines."""
    red_picture("a.png", (60, 40), (0, 0, 30, 40))
    rows = [
        {"caption": ["The LEFT half, red!", "A red half."], "image_rpath": "a.png"},
        {"caption": "a thing", "image_rpath": "missing.png"},
        {"caption": 7, "image_rpath": "a.png"},
        {"caption": "?!", "image_rpath": "a.png"},
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\nno json\n")
    return tmp_path


def data_of(lines, **more):
    source = LineFiles([lines / "lines.jsonl"])
    return CaptionedPictures(source, side=32, picture_root=lines, **{"augmentation": None, **more})


def test_samples_have_one_cleaned_caption(lines):
    broken = BrokenSamples(tolerance=1.0)
    samples = list(islice(iter(data_of(lines, broken=broken)), 40))
    assert Counter(text for one in samples for text in one["texts"]).keys() == {"the left half red", "a red half"}
    for one in samples:
        assert one["image"].shape == (3, 32, 32) and one["image"].dtype == torch.uint8
        assert one["boxes_cxcywh_norm"].tolist() == [[0.5, 0.5, 1, 1]] and one["is_image"].tolist() == [True]
    assert broken.good == 40 and 39 * 4 <= broken.count <= 40 * 4
    reasons = "".join(broken.names)
    assert all(f"lines.jsonl:{number}" in reasons for number in (2, 3, 4, 5)) and "lines.jsonl:1," not in reasons


def test_mostly_broken_data_is_refused(lines):
    with pytest.raises(InputError, match="samples are broken"):
        list(islice(iter(data_of(lines)), 100))


def test_equal_seeds_give_equal_samples(lines):
    def draw(seed):
        return list(islice(iter(data_of(lines, seed=seed, broken=BrokenSamples(tolerance=1.0))), 6))

    first, again, other = draw(3), draw(3), draw(4)
    assert all(
        torch.equal(a["image"], b["image"]) and a["texts"] == b["texts"] for a, b in zip(first, again, strict=True)
    )
    assert not all(torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("side_words", "true"), [("swap", True), ("keep", True), ("ignore", False)])
def test_the_side_that_is_told_is_the_red_one(lines, side_words, true):
    told = Counter()
    data = data_of(lines, side_words=side_words, scale=(1.0, 1.0), broken=BrokenSamples(tolerance=1.0))
    for one in islice(iter(data), 60):
        red = (one["image"][0].float() - one["image"][1].float()).mean(dim=0)  # (W,)
        side = "left" if red[:16].mean() > red[16:].mean() else "right"
        if one["texts"][0].startswith("the"):
            told[one["texts"][0].split()[1] == side] += 1
    assert (set(told) == {True}) if true else (told[True] and told[False])


def test_pieces_are_kept_beside_the_joined_text(tmp_path, red_picture):
    red_picture("a.png", (60, 40), (0, 0, 30, 40))
    (tmp_path / "t.jsonl").write_text(json.dumps({"desc": "a dog ##gy , run", "image_rpath": "a.png"}))
    data = CaptionedPictures(
        LineFiles([tmp_path / "t.jsonl"]), side=16, picture_root=tmp_path, caption_key="desc", tokenized=True
    )
    (text,) = next(iter(data))["texts"]
    assert text == "a doggy , run" and text.word_pieces == ("a", "dog", "##gy", ",", "run")


def test_split_texts_need_a_piece_and_survive_a_copy():
    copied = copy.deepcopy(SplitText(" a  dog ##gy "))
    assert copied == "a doggy" and copied.word_pieces == ("a", "dog", "##gy")
    with pytest.raises(InputError, match="no word piece"):
        SplitText("  ")


@pytest.mark.parametrize("said", [None, [], 7, [3]])
def test_what_is_no_text(said):
    with pytest.raises(InputError, match='"caption" is no text'):
        choose_text(np.random.default_rng(0), {"caption": said}, "caption")
