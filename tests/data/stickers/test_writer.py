import filecmp
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.stickers import writer
from ovdet.data.stickers.dataset import StickerScenes
from ovdet.data.stickers.writer import write_coco
from ovdet.errors import InputError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(writer, "BLOCK", 3)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_file_is_what_was_drawn(world, tmp_path):
    scenes = StickerScenes(world, 7, seed=4)
    coco = COCO(str(write_coco(tmp_path, scenes)))
    assert len(coco.getImgIds()) == 7 and len(coco.getCatIds()) == 6
    for index, row in enumerate(coco.loadImgs(sorted(coco.getImgIds()))):
        sample = scenes[index]
        picture = np.asarray(Image.open(tmp_path / "images" / row["file_name"]))
        assert np.array_equal(picture, sample["image"].numpy().transpose(1, 2, 0))
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=row["id"]))
        assert len(annotations) == len(sample["labels"])
        for place, annotation in enumerate(annotations):
            mask = coco.annToMask(annotation).astype(bool)
            assert np.array_equal(mask, sample["masks"][place].numpy())
            left, top, width, height = annotation["bbox"]
            assert [left, top, left + width, top + height] == sample["boxes_xyxy"][place].tolist()
            assert annotation["area"] == mask.sum()
            assert (
                coco.loadCats(annotation["category_id"])[0]["name"] == world.vocabulary.names[sample["labels"][place]]
            )
    assert not (tmp_path / ".parts").exists()


def test_texts_point_at_annotations(world, tmp_path):
    scenes = StickerScenes(world, 5, seed=8)
    coco = COCO(str(write_coco(tmp_path, scenes)))
    assert [row["text"] for row in lines(tmp_path / "captions.jsonl")] == [scenes[i]["caption"] for i in range(5)]
    for name in ("regions", "expressions"):
        rows = lines(tmp_path / f"{name}.jsonl")
        assert len(rows) == sum(len(scenes[i][name]) for i in range(5)) > 5
        for row in rows:
            boxes = np.array([annotation["bbox"] for annotation in coco.loadAnns(row["annotation_ids"])])
            assert {a["image_id"] for a in coco.loadAnns(row["annotation_ids"])} == {row["image_id"]}
            corner = boxes[:, :2].min(axis=0)
            assert row["bbox"] == [*corner, *((boxes[:, :2] + boxes[:, 2:]).max(axis=0) - corner)]


def test_base_scenes_annotate_base_names_only(make_world, tmp_path):
    world = make_world(objects=(1, 2))
    path = write_coco(tmp_path, StickerScenes(world, 30, base_only=True))
    content = json.loads(path.read_text())
    annotated = {row["image_id"] for row in content["annotations"]}
    assert {row["image_id"] for row in lines(tmp_path / "captions.jsonl")} == annotated
    assert len(annotated) < len(content["images"]) == 30  # pictures with novel things alone are there all the same
    split = {row["id"]: row["split"] for row in content["categories"]}
    assert sorted(split.values()) == ["base"] * 4 + ["novel"] * 2
    assert {split[row["category_id"]] for row in content["annotations"]} == {"base"}
    sides = json.loads((tmp_path / "splits.json").read_text())["shapes"]
    assert sides["novel"] == ["bar", "star"]
    assert content["info"]["licences"]["noto"] == "CC0-1.0"


def test_our_own_reader_takes_it(world, tmp_path):
    path = write_coco(tmp_path, StickerScenes(world, 6))
    data = OpenVocabularyDataset(str(path), data_prefix={"img": str(tmp_path / "images")}, base_only=True)
    assert data.metainfo["classes"] == world.vocabulary.names
    assert data.metainfo["base_mask"] == world.vocabulary.base_mask


def test_a_killed_run_goes_on(world, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    scenes = StickerScenes(world, 8, seed=2)
    write_coco(whole, scenes)
    calls = []
    real = writer._write_scene

    def failing(out, scenes, index):
        calls.append(index)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(out, scenes, index)

    monkeypatch.setattr(writer, "_write_scene", failing)
    with pytest.raises(KeyboardInterrupt):
        write_coco(broken, scenes)
    assert not (broken / "annotations.json").exists()
    with pytest.raises(InputError, match=r"unfinished data set of another seed \(2 instead of 3\)"):
        write_coco(broken, StickerScenes(world, 8, seed=3))
    calls.extend([None] * 9)
    write_coco(broken, scenes)
    assert calls[14:] == [3, 4, 5, 6, 7]  # the first block was kept
    names = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(broken).as_posix() for path in broken.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(whole, broken, names, shallow=False)[0] == names


def test_mistakes_are_told(world, tmp_path):
    write_coco(tmp_path / "set", StickerScenes(world, 1))
    with pytest.raises(InputError, match="exists already"):
        write_coco(tmp_path / "set", StickerScenes(world, 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        write_coco(tmp_path / "file", StickerScenes(world, 1))
