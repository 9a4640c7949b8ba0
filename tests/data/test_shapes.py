import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ovdet.data.shapes import COLOURS, MIN_VISIBLE, NAMES, NOVEL, draw_scene, write_shapes
from ovdet.errors import InputError


def test_masks_are_what_was_drawn():
    for seed in range(20):
        scene = draw_scene(np.random.default_rng(seed), (96, 120))
        assert scene.masks.sum(axis=0).max() == 1
        ground = ~scene.masks.any(axis=0)
        spread = scene.image[ground].astype(float).mean(axis=0)
        assert np.ptp(spread) < 3  # the ground is grey
        for mask, label in zip(scene.masks, scene.labels, strict=True):
            colour = np.asarray(COLOURS[NAMES[label].split()[0]])
            assert np.abs(scene.image[mask].mean(axis=0) - colour).max() < 30


def test_forms_have_their_areas():
    share = {"circle": [], "square": [], "triangle": []}
    for seed in range(60):
        scene = draw_scene(np.random.default_rng(seed), (200, 200), max_shapes=1)
        rows, columns = np.nonzero(scene.masks[0])
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        share[NAMES[scene.labels[0]].split()[1]].append(scene.masks[0].sum() / box)
    assert np.mean(share["square"]) == 1
    assert np.mean(share["circle"]) == pytest.approx(np.pi / 4, abs=0.02)
    assert np.mean(share["triangle"]) == pytest.approx(0.5, abs=0.02)


def test_a_coco_folder_that_pycocotools_reads(tmp_path):
    coco = COCO(str(write_shapes(tmp_path / "set", images=6, seed=2, side=96)))
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == list(NAMES)
    assert {row["name"] for row in coco.dataset["categories"] if row["split"] == "novel"} == set(NOVEL)
    for picture in coco.loadImgs(coco.getImgIds()):
        with Image.open(tmp_path / "set" / "images" / picture["file_name"]) as image:
            assert image.size == (picture["width"], picture["height"])
    for row in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(row)
        left, top, width, height = (int(side) for side in row["bbox"])
        assert mask.sum() == row["area"] == mask[top : top + height, left : left + width].sum()
        assert mask[top].any() and mask[top + height - 1].any()
        assert mask[:, left].any() and mask[:, left + width - 1].any()


def test_every_class_occurs_and_equal_seeds_give_equal_files(tmp_path):
    paths = [write_shapes(tmp_path / name, images=60, seed=seed, side=64) for name, seed in (("a", 1), ("b", 1))]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    first = [(tmp_path / name / "images" / "000003.png").read_bytes() for name in "ab"]
    assert first[0] == first[1]
    assert {row["category_id"] for row in COCO(str(paths[0])).dataset["annotations"]} == set(range(1, len(NAMES) + 1))


def test_a_hidden_shape_is_not_left_in():
    for seed in range(50):
        scene = draw_scene(np.random.default_rng(seed), (64, 64), max_shapes=12)
        smallest = 64 // 6
        assert scene.masks.sum(axis=(1, 2)).min() >= MIN_VISIBLE * smallest * smallest / 2 * 0.8


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1"):
        write_shapes(tmp_path, images=0)
    write_shapes(tmp_path, images=1)
    with pytest.raises(InputError, match="exists already"):
        write_shapes(tmp_path, images=1)
