"""The threshold for what is absent, chosen on pictures with known answers."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ovdet.data.refcoco import read_refcoco
from ovdet.errors import InputError
from ovdet.results import Grounding
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.config import SwinSizes, TextSizes
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.weights import XVLMFacts, load_model, save_model


@pytest.fixture
def tool(load_tool):
    tool = load_tool("convert/grounder.py")
    tool.read_refcoco = partial(read_refcoco, verify=False)  # the official counts are of the official files
    return tool


@pytest.fixture
def refcoco(tmp_path):
    """Two pictures of validation and one of training, each with a thing of its own colour."""
    rows, boxes = [], []
    for number, (colour, split) in enumerate((("red", "val"), ("blue", "val"), ("the", "train"))):
        Image.new("RGB", (60, 40), colour if colour != "the" else "white").save(tmp_path / f"{number}.png")
        sentences = [{"raw": "x", "sent": f"the {colour} thing", "sent_id": number, "tokens": []}]
        rows.append({"ref_id": number, "ann_id": number, "category_id": 1, "image_id": number, "split": split,
                     "file_name": "", "sent_ids": [number], "sentences": sentences})  # fmt: skip
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [10, 5, 30, 20]})
    images = [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in range(3)]
    (tmp_path / "refcoco+").mkdir()
    (tmp_path / "refcoco+" / "refs(unc).p").write_bytes(pickle.dumps(rows, 2))
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "refcoco+" / "instances.json").write_text(json.dumps(content))
    return tmp_path


class Knowing(XVLMGrounder):
    """Says 0.8 of a sentence with the picture's colour, 0.3 of others; its boxes are right for the first picture."""

    def encode(self, image):
        return image

    def ground(self, picture, sentences, threshold=None):
        blue = bool(picture[0, 0, 2] > 0)
        box = np.float32([[10, 5, 40, 25 if not blue else 60]])
        scores = [0.8 if ("blue" if blue else "red") in text else 0.3 for text in sentences]
        return [Grounding(t, box, [s], picture.shape[:2], s) for t, s in zip(sentences, scores, strict=True)]


@pytest.fixture
def checkpoint(tmp_path):
    model = xvlm(
        "pretrain", SwinSizes(64, 2, 8, (2, 2), (1, 2), 0.0), TextSizes(9, 32, 4, 64, 40, 1, 1, 1, 0.0, 0.0), 16
    )
    facts = XVLMFacts(
        "xvlm", model.recipe["arguments"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "the", "thing"]
    )
    save_model(model, facts, tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


def test_pictures_of_refcoco_choose_the_threshold(tool, refcoco, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "XVLMGrounder", Knowing)
    out = tmp_path / "there.pth"
    tool.main([str(checkpoint), str(out), "--refcoco", str(refcoco), "--pictures", str(refcoco)])
    model, facts = load_model(out)
    assert facts.threshold == pytest.approx(0.8)
    said = capsys.readouterr().out
    assert (
        "of 2 expressions 100.0% are found, and 100.0% are missed" in said and "(plain): 50.0 %, packed 50.0 %" in said
    )
    before, _ = load_model(checkpoint)
    assert all((value == before.state_dict()[name]).all() for name, value in model.state_dict().items())


def test_the_best_threshold_is_between_the_two(tool):
    there, elsewhere = np.array([0.2, 0.6, 0.7, 0.9]), np.array([0.1, 0.3, 0.5, 0.8])
    assert tool.best_threshold(there, elsewhere) == (0.6, 0.75, 0.75)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--refcoco", "data"], "go together"),
        (["--scenes", "1"], "at least 2"),
    ],
)
def test_mistakes_are_told(tool, checkpoint, tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        tool.main([str(checkpoint), str(tmp_path / "out.pth"), *more])
    with pytest.raises(InputError, match="must end in"):
        tool.main([str(checkpoint), str(tmp_path / "out.bin")])
