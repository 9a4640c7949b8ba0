"""The desk of sentences: pictures of every kind, one look for many sentences, candidates, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ovdet import Detector, Grounder, InputError
from ovdet.errors import CapabilityError
from ovdet.grounder import load_grounder
from ovdet.xvlm import shipped
from ovdet.xvlm.build import xvlm_small
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.small import TowerTokens
from ovdet.xvlm.weights import XVLMFacts, save_model

SENTENCES = ["the red thing", "something blue", "a green one"]


@pytest.fixture
def grounder(blob_grounder, blob_detector):
    return Grounder(blob_grounder, detector=Detector(blob_detector))


def test_each_sentence_gets_an_answer_in_pixels_of_the_picture(grounder, picture):
    red, blue, green = grounder.ground(picture, SENTENCES)
    assert red.box_xyxy.tolist() == [5, 10, 35, 40] and blue.box_xyxy.tolist() == [50, 20, 70, 50]
    assert green.absent and [answer.expression for answer in (red, blue, green)] == SENTENCES
    assert red.source == str(picture) and red.model == "blobs" and red.size_hw == (60, 80)
    assert grounder.desk.encoded == 1  # one look for all of them
    one = grounder.ground(picture, "something blue")
    assert one.to_dict() == blue.to_dict()


def test_every_kind_of_picture_gives_the_same(grounder, picture):
    expected = [answer.boxes_xyxy.tolist() for answer in grounder.ground(picture, SENTENCES)]
    rgb = np.asarray(Image.open(picture))
    for given, color in ((str(picture), "rgb"), (Image.open(picture), "rgb"), (rgb, "rgb"), (rgb[..., ::-1], "bgr")):
        found = grounder.ground(given, SENTENCES, color=color)
        assert [answer.boxes_xyxy.tolist() for answer in found] == expected
    assert grounder.ground(rgb, SENTENCES)[0].source is None


def test_a_picture_looked_at_may_be_asked_again(grounder, picture):
    seen = grounder.look(picture)
    answers = [grounder.ground(seen, [text])[0] for text in SENTENCES]
    assert grounder.desk.encoded == 1 and answers[0].source == str(picture)
    np.testing.assert_allclose(grounder.match(seen, SENTENCES), grounder.match(picture, SENTENCES))
    assert grounder.match(seen, SENTENCES)[2] == 0 < grounder.match(seen, SENTENCES)[0]


def test_candidates_may_be_boxes_or_detections_or_the_detectors_own(grounder, paint, blob_detector):
    two_reds = paint((60, 80), ("red", (5, 5, 25, 25)), ("red", (50, 30, 70, 50)), ("blue", (30, 5, 45, 20)))
    every = grounder.ground(two_reds, ["a red thing", "green"], candidates="detect")
    assert sorted(every[0].boxes_xyxy.tolist()) == [[5, 5, 25, 25], [50, 30, 70, 50]] and every[1].absent
    boxes = np.array([[5, 5, 25, 25], [30, 5, 45, 20]])
    assert grounder.ground(two_reds, "red", candidates=boxes).boxes_xyxy.tolist() == [[5, 5, 25, 25]]
    found = Detector(blob_detector)(two_reds, ["blue"])
    assert grounder.ground(two_reds, "blue", candidates=found).boxes_xyxy.tolist() == [[30, 5, 45, 20]]
    assert grounder.ground(two_reds, "red", candidates=np.zeros((0, 4))).absent


def test_the_threshold_is_the_models_own_or_the_callers(grounder, picture):
    box = np.array([[0, 0, 80, 60]])  # a fifth of it is red
    assert grounder.ground(picture, "red", candidates=box).absent
    answer = grounder.ground(picture, "red", candidates=box, threshold=0.1)
    assert len(answer) == 1 and answer.score == pytest.approx(900 / 4800)


@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        (lambda g, p: g.ground(p, [" "]), InputError, "has no word"),
        (lambda g, p: g.ground(p, "red", threshold=1.5), InputError, "from 0 to 1"),
        (lambda g, p: g.ground(p, "red", candidates="all"), InputError, 'must be "detect"'),
        (lambda g, p: g.ground("gone.png", "red"), InputError, "no file"),
        (lambda g, p: Grounder("stikers"), InputError, "did you mean 'stickers'"),
        (lambda g, p: Grounder("clip"), InputError, "give a checkpoint, or one of stickers"),
        (lambda g, p: Grounder("gone.pth"), InputError, "there is no checkpoint gone.pth"),
        (lambda g, p: Grounder(g.desk, detector="stickers", device="tpu").detector, InputError, "no device 'tpu'"),
    ],
)
def test_mistakes_are_said(grounder, picture, call, error, reason):
    with pytest.raises(error, match=reason):
        call(grounder, picture)


def test_what_a_checkpoint_cannot_do_is_said_before_the_picture_is_read(grounder):
    grounder.desk.lacks = "match"
    for call in (
        lambda: grounder.ground("gone.png", "red", candidates="detect"),
        lambda: grounder.match("gone.png", ["red"]),
    ):
        with pytest.raises(CapabilityError, match="no match head"):
            call()


def test_a_detector_that_proposes_nothing_is_refused(blob_grounder):
    class Names:
        name = "names"

    grounder = Grounder(blob_grounder, detector=Detector(Names()))
    with pytest.raises(CapabilityError, match="names proposes no boxes; take a trained detector, such as 'stickers'"):
        grounder.ground(np.zeros((4, 4, 3), np.uint8), "red", candidates="detect")


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    model = xvlm_small(64, 32, 1, 1)
    return model, XVLMFacts("xvlm_small", model.recipe["arguments"], threshold=0.0)


def test_a_checkpoint_and_a_shipped_one_answer_alike(small, tmp_path, picture, monkeypatch):
    save_model(*small, tmp_path / "small.safetensors")
    grounder = Grounder(tmp_path / "small.safetensors", device="cpu")
    answers = grounder.ground(picture, ["a red cat", "the dog left of the pizza"])
    assert all(len(answer) == 1 and 0 < answer.confidence < 1 for answer in answers)
    one = replace(shipped.SHIPPED["stickers"], path=tmp_path / "small.safetensors")
    monkeypatch.setitem(shipped.SHIPPED, "stickers", one)
    again = Grounder(device="cpu").ground(picture, ["a red cat", "the dog left of the pizza"])
    assert again[0].model == "stickers"
    for mine, other in zip(answers, again, strict=True):
        np.testing.assert_allclose(mine.boxes_xyxy, other.boxes_xyxy)


def test_a_missing_shipped_file_is_told(tmp_path, monkeypatch):
    one = replace(shipped.SHIPPED["stickers"], path=tmp_path / "gone.safetensors")
    monkeypatch.setitem(shipped.SHIPPED, "stickers", one)
    with pytest.raises(InputError, match="'stickers' are missing from this installation"):
        load_grounder("stickers", "cpu")


def test_a_checkpoint_says_the_fingerprint_of_its_weights(small):
    model, facts = small
    one = XVLMGrounder(model, TowerTokens(), facts).fingerprint
    assert one == XVLMGrounder(model, TowerTokens(), replace(facts, threshold=0.5)).fingerprint
    bias = model.match_head[0].bias.data
    bias[0] += 1
    assert one != XVLMGrounder(model, TowerTokens(), facts).fingerprint
    bias[0] -= 1
