"""Tiny folders laid out like the data sets of the few-shot protocols; rules and draws against their plain statement."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from ovdet.data.coco_segments import CocoSegments
from ovdet.data.episodes import Episodes
from ovdet.data.fewshot import (
    CocoClasses,
    FssPictures,
    class_episodes,
    coco_20i,
    coco_fold,
    fss_1000,
    lvis_92i,
    pascal_5i,
    pascal_fold,
)
from ovdet.data.label_maps import VOC_NAMES, pascal_voc
from ovdet.errors import InputError


def test_the_folds_are_the_published_ones():
    assert [VOC_NAMES[key] for key in pascal_fold(0)] == ["aeroplane", "bicycle", "bird", "boat", "bottle"]
    assert [VOC_NAMES[key] for key in pascal_fold(2)] == ["diningtable", "dog", "horse", "motorbike", "person"]
    assert VOC_NAMES[pascal_fold(3)[-1]] == "tvmonitor"
    # 80 categories in the order of their ids: 0 person, 1 bicycle, 4 airplane, 79 toothbrush
    assert coco_fold(0)[:3] == (0, 4, 8) and coco_fold(1)[0] == 1 and coco_fold(3)[-1] == 79
    assert sorted(key for fold in range(4) for key in coco_fold(fold)) == list(range(80))
    for fold, test in ((4, pascal_fold), (-1, coco_fold)):
        with pytest.raises(InputError, match="has the folds 0 to 3"):
            test(fold)


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"2007_00{number:04d}" for number in range(8)]
    for number, name in enumerate(names):
        labels = np.zeros((8, 9), np.uint8)
        labels[:3], labels[3:5, :4] = 6 + number % 2, 8 + number % 3  # bus, car; cat, chair, cow: fold 1
        labels[7] = 255
        Image.fromarray(np.full((8, 9, 3), 20 * number, np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(labels).save(root / "SegmentationClassAug" / f"{name}.png")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names[::-1]) + "\n")
    return root, names


def hsnet_draws(classwise, queries, shots):
    """What HSNet's test set does: one global generator, queries in turn, examples until there are enough."""
    np.random.seed(0)
    for query, label in queries:
        supports = []
        while True:
            name = np.random.choice(classwise[label], 1, replace=False)[0]
            if name != query:
                supports.append(str(name))
            if len(supports) == shots:
                break
        yield label, query, tuple(supports)


@pytest.mark.parametrize("shots", [1, 5])
def test_pascal_5i_with_hsnets_list(voc, tmp_path, shots):
    root, names = voc
    lines = [(name, 6 + number % 2 - 1) for number, name in enumerate(names)] + [(names[2], 9), (names[5], 9)]
    (tmp_path / "fold1.txt").write_text("".join(f"{name}__{key + 1:02d}\n" for name, key in lines))
    found = pascal_5i(pascal_voc(root, part=""), 1, shots, tmp_path / "fold1.txt")
    assert len(found.episodes) == 1000 and found.names[5] == "bus" and len(found.names) == 5
    classwise = {key: [name for name, own in lines if own == key] for key in (5, 6, 9)}
    wanted = list(hsnet_draws(classwise, [lines[index % 10] for index in range(1000)], shots))
    assert [(one.label, one.query, one.supports) for one in found.episodes] == wanted
    assert found.stamp["pictures"] == "fold1.txt" and found.stamp["queries"] == 10


def test_pascal_5i_by_rule(voc):
    root, names = voc
    found = pascal_5i(pascal_voc(root, part="val"), 1, 1, count=30)
    assert found.episodes[0].query == found.episodes[1].query == names[-1]
    assert [one.label for one in found.episodes[:2]] == [6, 8] and found.stamp["queries"] == 16
    assert found.episodes[16].query == found.episodes[0].query
    pixels = Episodes(found, pascal_voc(root, part="val"))[0]
    assert pixels.truth[0].all() and not pixels.truth[3:].any() and not pixels.judged[7].any()
    with pytest.raises(InputError, match="no picture shows"):
        pascal_5i(pascal_voc(root, part="val"), 0, 1)


def test_pascals_lists_are_checked(voc, tmp_path):
    root, names = voc
    for line in ("2007_000001", "2007_000001__x", f"{names[0]}__01"):
        (tmp_path / "fold1.txt").write_text(line + "\n")
        with pytest.raises(InputError, match="is not NAME__LABEL"):
            pascal_5i(pascal_voc(root, part=""), 1, 1, tmp_path / "fold1.txt")


def write_coco(folder, categories, pictures_of, crowds=()):
    """COCO file: category number -> numbers of the pictures that show it."""
    numbers = sorted({number for own in pictures_of.values() for number in own})
    rows = []
    for category, own in pictures_of.items():
        for number in own:
            box = [category % 5, 2, category % 5 + 4, 2, category % 5 + 4, 7, category % 5, 7]
            rows.append(dict(id=len(rows), image_id=number, category_id=categories[category]["id"], bbox=[0, 0, 4, 5]))
            rows[-1] |= dict(segmentation=[box], iscrowd=int((category, number) in crowds))
    images = [dict(id=number, file_name=f"COCO_val2014_{number:012d}.jpg", height=10, width=12) for number in numbers]
    for row in images:
        Image.fromarray(np.full((10, 12, 3), row["id"], np.uint8)).save(folder / row["file_name"])
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return CocoSegments(folder / "instances.json", folder)


@pytest.fixture
def coco(tmp_path):
    """Eighty categories, ids with gaps as in COCO; category k is in pictures k, k + 1 and k + 2 of 30."""
    categories = [dict(id=key + 1 + key // 9, name=f"c{key}") for key in range(80)]
    shown = {key: [1 + (key + step) % 30 for step in range(3)] for key in range(80)}
    return write_coco(tmp_path, categories, shown), tmp_path


def test_coco_20i_draws_class_query_and_examples_in_turn(coco):
    data, _ = coco
    classwise = {key: [name for i, name in enumerate(data.names) if key in data.keys_of(i)] for key in range(80)}
    for fold, shots in ((0, 1), (3, 5)):
        found = coco_20i(data, fold, shots, count=60)
        np.random.seed(0)
        class_ids = [fold + 4 * v for v in range(20)]
        for episode in found.episodes:
            label = np.random.choice(class_ids, 1, replace=False)[0]
            query = np.random.choice(classwise[label], 1, replace=False)[0]
            supports = []
            while len(supports) < shots:
                name = np.random.choice(classwise[label], 1, replace=False)[0]
                if name != query:
                    supports.append(name)
            assert (episode.label, episode.query, list(episode.supports)) == (label, query, supports)


@pytest.mark.parametrize("suffix", ["json", "pkl"])
def test_coco_20i_with_hsnets_lists(coco, suffix):
    data, folder = coco
    lists = {key: [f"val2014/{data.names[key % 5]}", f"val2014/{data.names[7]}"] for key in range(80)}
    path = folder / f"fold0.{suffix}"
    path.write_bytes(json.dumps(lists).encode() if suffix == "json" else pickle.dumps(lists))
    found = coco_20i(data, 0, 1, path, count=20)
    assert {one.query for one in found.episodes} <= {data.names[index] for index in (0, 1, 2, 3, 4, 7)}
    assert found.stamp["pictures"] == path.name
    lists[0] = ["val2014/absent.jpg"]
    path.write_bytes(json.dumps(lists).encode() if suffix == "json" else pickle.dumps(lists))
    with pytest.raises(InputError, match=r"class 0 lists absent\.jpg"):
        coco_20i(data, 0, 1, path)
    path.write_bytes(b"[1, 2")
    with pytest.raises(InputError):
        coco_20i(data, 0, 1, path)


def test_crowds_are_part_of_the_class_or_not_judged(tmp_path):
    categories = [dict(id=1, name="dog")]
    data = write_coco(tmp_path, categories, {0: [1, 2, 3]}, crowds={(0, 2)})
    name = data.names[1]
    assert CocoClasses(data).mask(name, 0)[0].sum() == 20 and CocoClasses(data).mask(name, 0)[1].all()
    truth, judged = CocoClasses(data, "ignore").mask(name, 0)
    assert not truth.any() and (~judged).sum() == 20
    found = class_episodes(data, [0], 1, count=5)
    assert {one.query for one in found.episodes} == {data.names[0], data.names[2]}, "a crowd alone is no example"
    assert Episodes(found, CocoClasses(data))[0].truth.sum() == 20


def test_lvis_92i_takes_every_tenth_of_the_categories_with_enough_pictures(tmp_path):
    categories = [dict(id=key + 1, name=f"c{key}") for key in range(36)]
    shown = {key: list(range(1, 2 + key % 3 + (key > 20) * 4)) for key in range(36)}  # 1, 2, 3 or 5, 6, 7 pictures
    data = write_coco(tmp_path, categories, shown)
    eligible = [key for key in range(36) if len(shown[key]) > 1]
    assert len(eligible) == 29
    for fold in (0, 7):
        found = lvis_92i(data, fold, 1, count=10)
        classes = [eligible[fold], eligible[fold + 10]]  # 29 // 10 = 2 of each fold
        assert list(found.names) == classes
        assert [one.label for one in found.episodes] == [classes[index % 2] for index in range(10)]
        assert all(one.query not in one.supports for one in found.episodes)
    five = lvis_92i(data, 0, 5, count=4)
    assert list(five.names) == [next(key for key in range(36) if len(shown[key]) > 5)]
    with pytest.raises(InputError, match="has the folds 0 to 9"):
        lvis_92i(data, 10, 1)
    with pytest.raises(InputError, match="at least 10 categories"):
        lvis_92i(data, 0, 6)


def test_lvis_92i_sizes():
    """920 to 929 categories with enough pictures make ten folds of 92, and 2,300 episodes are 25 of each class."""

    class Segments:
        class_names = tuple(f"c{key}" for key in range(925))
        names = ("a.jpg", "b.jpg")

        def keys_of(self, index):
            return range(925)

    folds = [lvis_92i(Segments(), fold, 1) for fold in range(10)]
    assert {len(fold.names) for fold in folds} == {92} and len(folds[0].episodes) == 2300
    labels = [one.label for one in folds[3].episodes]
    assert set(np.unique(labels, return_counts=True)[1]) == {25} and list(folds[3].names)[:2] == [3, 13]


@pytest.fixture
def fss(tmp_path):
    for place, name in enumerate(("zebra", "abacus")):
        (tmp_path / name).mkdir()
        for number in range(1, 11):
            Image.fromarray(np.full((6, 6, 3), number, np.uint8)).save(tmp_path / name / f"{number}.jpg")
            mask = np.full((6, 6), 127, np.uint8)
            mask[:number] = 128
            picture = Image.fromarray(mask) if place else Image.fromarray(np.stack([mask] * 3, axis=2))
            picture.save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("shots", [1, 5])
def test_fss_1000_asks_for_every_picture_once(fss, tmp_path, shots):
    (tmp_path / "test.txt").write_text("zebra\nabacus\n")
    found = fss_1000(fss, tmp_path / "test.txt", shots)
    assert found.names == {760: "abacus", 761: "zebra"} and len(found.episodes) == 20
    np.random.seed(0)
    order = [1, 10, 2, 3, 4, 5, 6, 7, 8, 9]  # of file names with their suffix
    queries = [(name, number) for name in ("abacus", "zebra") for number in order]
    for episode, (name, number) in zip(found.episodes, queries, strict=True):
        assert episode.query == f"{name}/{number}"
        wanted = []
        while len(wanted) < shots:
            drawn = np.random.choice(range(1, 11), 1, replace=False)[0]
            if drawn != number:
                wanted.append(f"{name}/{drawn}")
        assert list(episode.supports) == wanted
    pixels = Episodes(found, FssPictures(fss))
    assert pixels[1].query.mean() == pytest.approx(10, abs=1) and pixels[0].truth.sum() == 6
    assert pixels[10].truth.sum() == 6, "a mask stored in colour"


def test_mistakes_in_fss_are_told(fss):
    with pytest.raises(InputError, match="no part 'dev'"):
        fss_1000(fss, ["zebra"], 1, "dev")
    (fss / "zebra" / "3.jpg").unlink()
    with pytest.raises(InputError, match=r"should have the pictures 1\.jpg to 10\.jpg"):
        fss_1000(fss, ["zebra"], 1)


def test_coco_20i_wants_all_categories(tmp_path):
    data = write_coco(tmp_path, [dict(id=1, name="dog")], {0: [1, 2]})
    with pytest.raises(InputError, match="wants all 80 categories"):
        coco_20i(data, 0, 1)
    few = write_coco(tmp_path, [dict(id=1, name="dog")], {0: [1]})
    with pytest.raises(InputError, match="fewer than two pictures"):
        class_episodes(few, [0], 1)
