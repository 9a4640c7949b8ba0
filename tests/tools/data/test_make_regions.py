import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet.data.grains import open_source
from ovdet.data.records import Share

SCRIPT = Path(__file__).parents[3] / "tools" / "data" / "make_regions.py"


@pytest.fixture
def main():
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture
def coco(tmp_path):
    """Three annotated pictures, one of which is damaged."""
    for number in range(3):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "2.jpg").write_bytes(b"no picture")
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 30} for n in range(3)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 10, 10]} for n in range(3)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path


def test_lines(main, coco, capsys):
    assert (
        main(["coco", str(coco / "coco.json"), "--prefix", "train/", "--out", str(coco / "out"), "--parts", "2"]) == 0
    )
    assert len(list((coco / "out").iterdir())) == 2 and "3 pictures" in capsys.readouterr().out
    rows = [record.fields for record in open_source([coco / "out"]).read(Share())]
    assert sorted(row["image_rpath"] for row in rows) == ["train/0.jpg", "train/1.jpg", "train/2.jpg"]
    assert rows[0]["elems"] == [{"caption": "cat", "bb": [1, 2, 10, 10]}]


def test_shards(main, coco, capsys):
    assert main(["coco", str(coco / "coco.json"), "--out", str(coco / "out"), "--shards", str(coco)]) == 0
    said = capsys.readouterr().out
    assert "1 shards" in said and "left out: 1 of 'damaged or missing picture'" in said
    records = list(open_source([coco / "out"]).read(Share()))
    assert [record.picture_bytes == (coco / f"{n}.jpg").read_bytes() for n, record in enumerate(records)] == [True] * 2


def test_captions(main, tmp_path, capsys):
    content = {
        "images": [{"id": 3, "file_name": "3.jpg"}],
        "annotations": [{"image_id": 3, "caption": "A dog."}, {"image_id": 3, "caption": "It sleeps."}],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    assert main(["captions", str(tmp_path / "captions.json"), "--out", str(tmp_path / "out"), "--prefix", "t/"]) == 0
    assert "1 pictures" in capsys.readouterr().out
    (record,) = open_source([tmp_path / "out"]).read(Share())
    assert record.fields == {"caption": ["A dog.", "It sleeps."], "image_rpath": "t/3.jpg", "image_id": 3}
    said = [{"filename": "b.jpg", "split": split, "imgid": 1, "sentences": [{"raw": split}]} for split in
            ("train", "val", "test")]  # fmt: skip
    (tmp_path / "splits.json").write_text(json.dumps({"images": said}))
    assert main(["karpathy", str(tmp_path / "splits.json"), "--out", str(tmp_path / "k")]) == 2
    assert "Karpathy's flickr30k" in capsys.readouterr().err, "these are not the official numbers"


def test_mistakes(main, coco, capsys):
    assert main(["vg-objects", "objects.json", "--out", str(coco / "out")]) == 2
    assert "vg-objects takes 2 files, got 1" in capsys.readouterr().err
    assert main(["refcoco", str(coco), "--out", str(coco / "out")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert main(["coco", str(coco / "coco.json"), "--out", str(coco / "out"), "--parts", "0"]) == 2
