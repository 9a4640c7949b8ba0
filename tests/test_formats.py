"""Every format is read back by a reader of its own: pycocotools, supervision, the csv module."""

import contextlib
import csv
import io
import json
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ovdet.errors import InputError
from ovdet.formats import CSV_COLUMNS, FORMATS, Place, parse_formats
from ovdet.results import Detections

NAMES = ["cat", "hot air balloon", 'quoted, "котёнок" 🐈']
SIZE_HW = (60, 90)


def _result(seed: int, count: int, *, masks: bool = True, source: str = "folder/photo.jpg") -> Detections:
    rng = np.random.default_rng(seed)
    x1, y1 = rng.uniform(0, 60, count), rng.uniform(0, 30, count)
    boxes_xyxy = np.stack([x1, y1, x1 + rng.uniform(5, 30, count), y1 + rng.uniform(5, 30, count)], axis=1)
    return Detections(
        boxes_xyxy,
        rng.uniform(0, 1, count),
        rng.integers(0, len(NAMES), count),
        tuple(NAMES),
        SIZE_HW,
        rng.random((count, *SIZE_HW)) > 0.5 if masks else None,
        source=source,
        model="blobs",
    )


def _write(kind, folder, *results_places):
    with FORMATS[kind](folder, NAMES) as write:
        for result, place in results_places:
            write(result, place)


@pytest.mark.parametrize("masks", [True, False])
def test_coco_is_read_by_pycocotools(tmp_path, masks):
    results = [_result(0, 4, masks=masks), _result(1, 0, masks=masks), _result(2, 3, masks=masks, source="b.png")]
    _write("coco", tmp_path, *((result, Place(f"p{index}")) for index, result in enumerate(results)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "results.coco.json"))
    assert {row["id"]: row["name"] for row in coco.loadCats(coco.getCatIds())} == dict(enumerate(NAMES, start=1))
    assert [row["file_name"] for row in coco.loadImgs([1, 2, 3])] == ["folder/photo.jpg", "folder/photo.jpg", "b.png"]
    for image_id, result in enumerate(results, start=1):
        rows = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        assert [row["category_id"] - 1 for row in rows] == result.labels.tolist()
        np.testing.assert_array_equal([row["score"] for row in rows], result.scores)
        for row, box_xyxy, index in zip(rows, result.boxes_xyxy, range(len(result)), strict=True):
            x, y, width, height = row["bbox"]
            np.testing.assert_allclose([x, y, x + width, y + height], box_xyxy, rtol=1e-5)
            if masks:
                np.testing.assert_array_equal(coco.annToMask(row), result.mask(index))
                assert row["area"] == result.mask(index).sum()
            else:
                assert row["area"] == pytest.approx(width * height)
    with contextlib.redirect_stdout(io.StringIO()):
        again = coco.loadRes(json.loads((tmp_path / "results.coco.json").read_text())["annotations"])
    assert len(again.anns) == 7
    assert os.listdir(tmp_path) == ["results.coco.json"]


@pytest.mark.parametrize("kind", ["coco", "csv", "yolo"])
def test_no_result_at_all_is_a_valid_file(tmp_path, kind):
    _write(kind, tmp_path)
    if kind == "coco":
        assert json.loads((tmp_path / "results.coco.json").read_text())["images"] == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_yolo_is_read_by_supervision(tmp_path):
    supervision = pytest.importorskip("supervision")
    results = {"one": _result(3, 5, masks=False), "none": _result(4, 0, masks=False)}
    (tmp_path / "images").mkdir()
    for stem in results:
        Image.new("RGB", SIZE_HW[::-1]).save(tmp_path / f"images/{stem}.png")
    _write("yolo", tmp_path, *((result, Place(stem)) for stem, result in results.items()))
    dataset = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    assert dataset.classes == NAMES == (tmp_path / "classes.txt").read_text(encoding="utf-8").splitlines()
    seen = 0
    for path, _, found in dataset:
        result = results[os.path.splitext(os.path.basename(path))[0]]
        assert found.class_id.tolist() == result.labels.tolist()
        np.testing.assert_allclose(found.xyxy, result.boxes_xyxy, atol=0.01)
        seen += 1
    assert seen == 2


def test_yolo_scores_only_when_asked_for(tmp_path):
    result = _result(5, 3, masks=False)
    _write("yolo", tmp_path / "a", (result, Place("p")))
    _write("yolo-score", tmp_path / "b", (result, Place("p")))
    plain = [line.split() for line in (tmp_path / "a/labels/p.txt").read_text().splitlines()]
    scored = [line.split() for line in (tmp_path / "b/labels/p.txt").read_text().splitlines()]
    assert [len(line) for line in plain] == [5] * 3 and [line[:5] for line in scored] == plain
    np.testing.assert_allclose([float(line[5]) for line in scored], result.scores, atol=1e-6)


def test_csv(tmp_path):
    result, other = _result(6, 3), _result(7, 2, source="clip.mp4")
    _write("csv", tmp_path, (result, Place("photo")), (other, Place("clip", 12, 0.48)))
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS and [row["name"] for row in rows] == result.names + other.names
    boxes = [[float(row[edge]) for edge in ("x1", "y1", "x2", "y2")] for row in rows]
    np.testing.assert_allclose(boxes, np.concatenate([result.boxes_xyxy, other.boxes_xyxy]), atol=1e-3)
    assert [(row["source"], row["frame"], row["time_s"]) for row in rows[2:4]] == [
        ("folder/photo.jpg", "", ""),
        ("clip.mp4", "12", "0.48"),
    ]


def test_frames_stay_apart(tmp_path):
    frames = [(_result(index, 1, source="clip.mp4"), Place("clip", index, index / 25)) for index in range(3)]
    _write("yolo", tmp_path, *frames)
    _write("coco", tmp_path, *frames)
    assert sorted(os.listdir(tmp_path / "labels")) == [f"clip_00000{index}.txt" for index in range(3)]
    images = json.loads((tmp_path / "results.coco.json").read_text())["images"]
    assert [(image["file_name"], image["frame"], image["time_s"]) for image in images] == [
        ("clip.mp4", index, index / 25) for index in range(3)
    ]


@pytest.mark.parametrize("kind", ["coco", "csv"])
def test_after_an_error_the_old_file_stands(tmp_path, kind):
    _write(kind, tmp_path, (_result(8, 2), Place("p")))
    (name,) = os.listdir(tmp_path)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(RuntimeError), FORMATS[kind](tmp_path, NAMES) as write:
        write(_result(9, 2), Place("p"))
        raise RuntimeError
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("kind", ["coco", "csv"])
def test_memory_does_not_grow_with_the_number_of_results(tmp_path, kind):
    result = _result(10, 20)
    peaks = []
    for count in (50, 500):
        tracemalloc.start()
        with FORMATS[kind](tmp_path, NAMES) as write:
            for index in range(count):
                write(result, Place("clip", index, index / 25))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert peaks[1] < peaks[0] + written / 10


def test_choice_of_formats():
    assert parse_formats("coco, YOLO,csv,coco") == ["coco", "yolo", "csv"]
    for text, sentence in (("voc", "unknown format 'voc'"), (" ,", "no format"), ("yolo,yolo-score", "same files")):
        with pytest.raises(InputError, match=sentence):
            parse_formats(text)


def test_yolo_cannot_hold_a_name_with_a_line_break(tmp_path):
    with pytest.raises(InputError, match="line break"), FORMATS["yolo"](tmp_path, ["a\nb"]):
        pass
