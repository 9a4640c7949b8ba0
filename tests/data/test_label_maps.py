"""Tiny folders laid out like ADE20K and Pascal VOC."""

import numpy as np
import pytest
from PIL import Image

from ovdet.data.contexts import PictureContexts
from ovdet.data.davis import palette
from ovdet.data.label_maps import VOC_NAMES, ade20k, examples_of_classes, label_folders, names_digest, pascal_voc
from ovdet.data.segments import IGNORED, NOTHING
from ovdet.errors import InputError

SIZE_HW = (12, 16)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_indexed(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8), "L")
    image.putpalette(palette())
    image.save(path)


def labels_of(*rows):
    """Columns of labels, evenly."""
    return np.repeat(np.asarray(rows, np.uint8), SIZE_HW[1] // len(rows))[None].repeat(SIZE_HW[0], axis=0)


@pytest.fixture
def ade(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    lines += [f"{n}\t0.1\t9\t9\t1\t{name}" for n, name in enumerate(("wall", "building, edifice", "sky", "tree"), 1)]
    root.mkdir()
    (root / "objectInfo150.txt").write_text("\n".join(lines) + "\n")
    for part, rows in (("training", [(0, 1, 2, 4), (2, 2, 2, 2), (1, 4, 4, 0)]), ("validation", [(3, 3, 1, 1)])):
        for number, columns in enumerate(rows, 1):
            name = f"ADE_{part[:5]}_{number:08d}"
            write(root / "images" / part / f"{name}.jpg", np.full((*SIZE_HW, 3), 50 * number, np.uint8))
            write(root / "annotations" / part / f"{name}.png", labels_of(*columns))
    return root


def test_ade20k(ade):
    data = ade20k(ade)
    assert len(data) == 3 and data.class_names == ("wall", "building", "sky", "tree")
    assert [data.keys_of(index) for index in range(3)] == [(0, 1, 3), (1,), (0, 3)]
    picture = data[0]
    assert picture.key_map[0, ::4].tolist() == [IGNORED, 0, 1, 3] and picture.image.shape == (*SIZE_HW, 3)
    mask, judged = data.mask("ADE_train_00000003", 3)
    assert mask[0, ::4].tolist() == [False, True, True, False] and judged[0, ::4].tolist() == [True, True, True, False]
    assert ade20k(ade, "validation").names == ["ADE_valid_00000001"]


def test_examples_are_drawn_without_repeats_from_pictures_that_show_the_class(ade):
    data = ade20k(ade)
    chosen = examples_of_classes(data, 2, seed=1000)
    assert set(chosen) == {0, 1, 3}, "nobody shows the sky"
    assert sorted(chosen[0]) == ["ADE_train_00000001", "ADE_train_00000003"]
    assert chosen == examples_of_classes(data, 2, seed=1000)
    singles = {examples_of_classes(data, 1, seed)[0] for seed in range(1000, 1020)}
    assert len(singles) == 2


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    names = ["2007_000001", "2007_000002", "2008_000003"]
    for name, columns in zip(names, [(0, 1, 255, 20), (0, 0, 15, 15), (3, 0, 0, 0)], strict=True):
        write(root / "JPEGImages" / f"{name}.jpg", np.zeros((*SIZE_HW, 3), np.uint8))
        write(root / "SegmentationClassAug" / f"{name}.png", labels_of(*columns))
        write_indexed(root / "SegmentationClass" / f"{name}.png", labels_of(*columns))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2008_000003\n2007_000001\n")
    return root


def test_pascal_voc(voc):
    data = pascal_voc(voc)
    assert data.names == ["2008_000003", "2007_000001"] and data.class_names == VOC_NAMES and len(VOC_NAMES) == 20
    assert data.keys_of(1) == (0, 19) and VOC_NAMES[19] == "tvmonitor" and VOC_NAMES[14] == "person"
    assert data[1].key_map[0, ::4].tolist() == [NOTHING, 0, IGNORED, 19]
    assert len(pascal_voc(voc, part="")) == 3
    indexed = pascal_voc(voc, maps="SegmentationClass")
    assert np.array_equal(indexed[1].key_map, data[1].key_map)


def test_any_folders(voc):
    data = label_folders(
        voc / "JPEGImages", voc / "SegmentationClassAug", ["ground", "plane"], nothing=(0,), ignored=(255, 20)
    )
    assert data.keys_of(0) == (1,) and data[0].key_map[0, ::4].tolist() == [NOTHING, 1, IGNORED, IGNORED]


def test_names_may_differ_at_their_ends_and_lie_in_folders_of_cities(tmp_path):
    for city in ("aachen", "bonn"):
        write(tmp_path / "left" / city / f"{city}_1_leftImg8bit.png", np.zeros((*SIZE_HW, 3), np.uint8))
        write(tmp_path / "fine" / city / f"{city}_1_gtFine_labelTrainIds.png", labels_of(0, 7, 18, 255))
        write(tmp_path / "fine" / city / f"{city}_1_gtFine_color.png", np.zeros((*SIZE_HW, 3), np.uint8))
    ends = dict(images_end="_leftImg8bit", maps_end="_gtFine_labelTrainIds")
    data = label_folders(tmp_path / "left", tmp_path / "fine", 19, **ends)
    assert data.names == ["aachen/aachen_1", "bonn/bonn_1"] and len(data.class_names) == 19
    assert data[1].key_map[0, ::4].tolist() == [0, 7, 18, IGNORED]


def test_it_is_a_source_of_contexts(ade):
    rng = np.random.default_rng(0)
    contexts = PictureContexts(ade20k(ade), same_picture=0.0)
    for _ in range(10):
        first, second = contexts.draw(rng, 0, 2).pictures
        assert set(first.shown()) & set(second.shown())


def test_mistakes_are_told(ade, voc, tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        ade20k(ade, "test")
    with pytest.raises(InputError, match="cannot read the list"):
        pascal_voc(voc, "trainval")
    (ade / "images" / "training" / "ADE_train_00000002.jpg").unlink()
    with pytest.raises(InputError, match="has no picture ADE_train_00000002"):
        ade20k(ade)[1]
    with pytest.raises(InputError, match="no label picture nobody"):
        ade20k(ade).mask("nobody", 0)
    write(ade / "annotations" / "training" / "ADE_train_00000001.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match="its label picture 5 x 5"):
        ade20k(ade)[0]
    (ade / "objectInfo150.txt").write_text("nothing\n")
    with pytest.raises(InputError, match="has no rows of Idx"):
        ade20k(ade)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no label picture \(\.png\)"):
        label_folders(tmp_path / "empty", tmp_path / "empty", ["a"])


def test_digests_tell_orders_apart():
    assert names_digest(["a", "b"]) != names_digest(["b", "a"]) == names_digest(["b", "a"])
