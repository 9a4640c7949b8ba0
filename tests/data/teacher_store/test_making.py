"""The extraction, with a teacher whose row tells picture and box: mean colour of the crop and the box itself."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.proposals import Proposals
from ovdet.data.shapes import write_shapes
from ovdet.data.teacher_store.folder import StoreBuilder, finish
from ovdet.data.teacher_store.making import DatasetRows, Estimate, Plan, estimate, make, refuse_small_disk
from ovdet.data.teacher_store.reader import TeacherStore
from ovdet.data.teacher_store.sources import BoxesOfAnnotations
from ovdet.errors import InputError

PICTURES = 7


def embed(image_rgb, boxes_xyxy):
    rows = [[*image_rgb[int(y1) : int(y2), int(x1) : int(x2)].reshape(-1, 3).mean(axis=0) / 255, x1, y1, x2, y2, 1]
            for x1, y1, x2, y2 in boxes_xyxy]  # fmt: skip
    return np.asarray(rows, np.float32).reshape(-1, 8) / 256


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, images=PICTURES, side=64)
    return folder


@pytest.fixture
def rows(shapes):
    return DatasetRows(
        OpenVocabularyDataset("annotations.json", str(shapes), dict(img="images"), base_only=False, test_mode=True)
    )


@pytest.fixture
def plan(rows, facts, tmp_path):
    builder = StoreBuilder(tmp_path / "store", facts(), rows.keys_of_pictures, block=2)
    return Plan(builder, rows, BoxesOfAnnotations("all"), embed)


def test_every_row_is_of_its_own_picture_and_box(plan, rows, shapes):
    assert make(plan, progress=False) == 4
    finish(plan.builder.folder)
    store = TeacherStore(plan.builder.folder)
    assert len(store) == len(rows) == PICTURES
    for image_id in rows:
        found, row = store[image_id], rows[image_id]
        np.testing.assert_array_equal(found.boxes_xyxy, [one["bbox"] for one in row["instances"]])
        picture = np.asarray(Image.open(row["img_path"]).convert("RGB"))
        np.testing.assert_allclose(found.embeddings, embed(picture, found.boxes_xyxy), atol=5e-4)
        store.proposals(image_id, picture.shape[:2])


def test_boxes_are_cut_at_the_border_before_the_teacher_sees_them(plan):
    class Beyond(BoxesOfAnnotations):
        def __call__(self, picture, image_rgb=None):
            return Proposals(np.asarray([[-9, 3, 500, 40]], np.float32), np.ones(1, np.float32))

    make(replace(plan, propose=Beyond("all")), progress=False)
    finish(plan.builder.folder)
    for image_id, row in plan.infos.items():
        found = TeacherStore(plan.builder.folder)[image_id]
        assert found.boxes_xyxy.tolist() == [[0, 3, row["width"], 40]]
        assert found.embeddings[0, 5] == pytest.approx(row["width"] / 256)


def test_a_run_that_was_stopped_goes_on_after_the_last_whole_block(plan):
    calls = []

    def stops(image_rgb, boxes_xyxy):
        calls.append(len(boxes_xyxy))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return embed(image_rgb, boxes_xyxy)

    with pytest.raises(KeyboardInterrupt):
        make(replace(plan, embed=stops), progress=False)
    assert plan.builder.pending() == [1, 2, 3]
    assert make(plan, progress=False) == 3
    assert make(plan, progress=False) == 0
    finish(plan.builder.folder)
    TeacherStore(plan.builder.folder).verify()


def test_processes_that_read_change_nothing(plan, tmp_path):
    make(plan, progress=False)
    other = StoreBuilder(tmp_path / "other", plan.builder.facts, plan.builder.pictures, block=2)
    make(replace(plan, builder=other, workers=2), progress=False)
    for path in (tmp_path / "store" / "blocks").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / "blocks" / path.name).read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named(plan, shapes, tmp_path, workers):
    for row in plan.infos.values():
        broken = dict(row, img_path=str(tmp_path / "gone.png"))
    infos = {**plan.infos, broken["img_id"]: broken}
    with pytest.raises(InputError, match=r"^cannot read the picture .*gone\.png: No such file"):
        make(replace(plan, infos=infos, workers=workers), progress=False)
    assert len(plan.builder.pending()) == 1, "what was whole before stays"


def test_the_size_is_known_beforehand(plan):
    """To the byte but for headers and records, where the boxes are known; nothing is written for it."""
    told = estimate(plan)
    assert not plan.builder.folder.exists()
    make(plan, progress=False)
    finish(plan.builder.folder)
    store = TeacherStore(plan.builder.folder)
    assert (told.pictures, told.pictures_to_do, told.rows) == (PICTURES, PICTURES, store.rows)
    assert store.nbytes - told.nbytes == 4 * 2 * 128
    assert told.measured_on == PICTURES - 1 and told.seconds > 0
    assert f"about {store.rows} rows of 8 halves" in str(told)


def test_the_time_is_that_of_what_is_left(plan, monkeypatch):
    """A teacher of exactly 1 s a row: as many seconds as rows that this machine has still to make."""
    clock = [0.0]
    monkeypatch.setattr("ovdet.data.teacher_store.making.time.perf_counter", lambda: clock[0])

    def takes_its_time(image_rgb, boxes_xyxy):
        clock[0] += len(boxes_xyxy)
        return embed(image_rgb, boxes_xyxy)

    make(replace(plan, shard=(1, 4)), progress=False)
    left = sum(len(plan.infos[key.image_id]["instances"]) for key in plan.builder.pictures[2:])
    told = estimate(replace(plan, embed=takes_its_time))
    assert told.seconds == pytest.approx(left) and told.rows_per_second == pytest.approx(1)
    assert told.pictures_to_do == PICTURES - 2


def test_boxes_that_need_the_picture_are_counted_by_measuring(plan):
    class Three:
        needs_picture = True

        def __call__(self, picture, image_rgb):
            assert image_rgb.shape == (picture["height"], picture["width"], 3)
            return Proposals(np.tile(np.asarray([[0, 0, 9, 9]], np.float32), (3, 1)), np.ones(3, np.float32))

    told = estimate(replace(plan, propose=Three()))
    assert told.rows == 3 * PICTURES


def test_a_broken_box_is_refused(plan):
    class Broken(BoxesOfAnnotations):
        def __call__(self, picture, image_rgb=None):
            return Proposals(np.full((1, 4), np.nan, np.float32), np.ones(1, np.float32))

    with pytest.raises(InputError, match="a proposal of picture 1 has a box that is not finite"):
        make(replace(plan, propose=Broken("all")), progress=False)


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_shards_count_from_one(plan, shard):
    with pytest.raises(InputError, match=f"from 1 to n, got {shard[0]}/{shard[1]}"):
        replace(plan, shard=shard)


def test_a_disk_that_is_too_small():
    fits = Estimate(100, 10**6, 512, 10**9, 50, 7200, 140, 8, 5 * 10**8)
    refuse_small_disk(fits)
    with pytest.raises(InputError, match="need about 500 MB, but 499 MB are free"):
        refuse_small_disk(replace(fits, free_bytes=499 * 10**6))
    assert str(fits) == (
        "store: 100 pictures, about 1,000,000 rows of 512 halves, 1 GB (500 MB free)\n"
        "here: 50 pictures to do, about 2.0 h at 140 rows/s (measured on 8 pictures)"
    )
