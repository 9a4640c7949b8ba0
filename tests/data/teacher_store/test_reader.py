import hashlib
import json
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from ovdet.data.proposals import ProposalSource
from ovdet.data.teacher_store import reader
from ovdet.data.teacher_store.reader import TeacherStore, open_proposals
from ovdet.errors import InputError


def test_round_trip(folder, contents):
    store = TeacherStore(folder)
    assert (store.teacher, store.embed_dim, len(store), store.rows) == ("some-clip", 8, 7, 21)
    assert store.image_ids.tolist() == sorted(contents)
    for key, expected in contents.items():
        found = store[key]
        assert key in store and found.embeddings.dtype == np.float16
        np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
        np.testing.assert_array_equal(found.scores, expected.scores)
        rows = found.embeddings.astype(np.float64)
        np.testing.assert_allclose(rows, expected.embeddings, atol=2.5e-4)
        cosines = (rows * expected.embeddings).sum(axis=1) / np.linalg.norm(rows, axis=1).clip(1e-9)
        assert (cosines > 0.99999).all()
    assert store[4].embeddings.shape == (0, 8) and store[4].boxes_xyxy.shape == (0, 4)
    store.verify()


def test_a_picture_that_is_not_in_it(folder):
    store = TeacherStore(folder)
    for stranger in (-1, 7, 71):
        assert stranger not in store
        with pytest.raises(InputError, match=rf"has no picture {stranger}; it was made for a\.json"):
            store[stranger]


def test_a_picture_of_another_size(folder):
    store = TeacherStore(folder)
    assert len(store.proposals(9, (69, 80)).scores) == 3
    with pytest.raises(InputError, match="picture 9 is 80 x 70 pixels, but was 80 x 69 when"):
        store.proposals(9, (70, 80))


def test_another_teacher_is_refused(folder):
    store = TeacherStore(folder)
    store.check_teacher("f" * 64, 8, "some-clip")
    with pytest.raises(
        InputError, match="rows of 8 dimensions, made by 'some-clip', but the student learns 512 of 'b'"
    ):
        store.check_teacher("f" * 64, 512, "b")
    with pytest.raises(
        InputError, match="with weights ffffffffffff, but the student's teacher is 'some-clip' with weig"
    ):
        store.check_teacher("e" * 64, 8, "some-clip")


def test_other_annotations_are_doubted(folder, tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert "was made from a.json" in TeacherStore(folder).doubt(other)
    index = json.loads((folder / "index.json").read_text())
    index["facts"]["annotations"]["sha256"] = hashlib.sha256(b"{}").hexdigest()
    (folder / "index.json").write_text(json.dumps(index))
    assert TeacherStore(folder).doubt(other) is None


@pytest.mark.parametrize("kind", ["rows", "boxes"])
def test_files_of_another_size_are_refused_at_once(folder, kind):
    path = folder / "blocks" / f"000002.{kind}.npy"
    whole = path.read_bytes()
    for content, message in ((whole[:-1], "is truncated: "), (whole + b"\0", "is too long: ")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"000002\.{kind}\.npy {message}{len(content)} bytes.*says {len(whole)}"):
            TeacherStore(folder)
    path.unlink()
    with pytest.raises(InputError, match=rf"000002\.{kind}\.npy is missing"):
        TeacherStore(folder)


def test_changed_bytes_are_found_by_verifying(folder):
    path = folder / "blocks" / "000002.rows.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"000002\.rows\.npy is damaged: its checksum"):
        TeacherStore(folder).verify()


def test_a_block_of_another_form_is_refused_when_read(folder):
    path = folder / "blocks" / "000003.rows.npy"
    np.save(path, np.load(path).view(np.int16))
    store = TeacherStore(folder)
    assert len(store[4].scores) == 0  # of another block
    with pytest.raises(InputError, match=r"000003\.rows\.npy holds \(6, 8\) int16"):
        store[70]
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(InputError, match=r"000003\.rows\.npy is damaged"):
        TeacherStore(folder)[70]


def test_a_damaged_list_of_pictures_is_refused(folder):
    path = folder / "pictures.npy"
    content = bytearray(path.read_bytes())
    content[-48] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"pictures\.npy is damaged"):
        TeacherStore(folder)


def test_what_is_no_finished_store_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"is no teacher store: it has no index\.json"):
        TeacherStore(tmp_path / "none")
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "version": 2}))
    with pytest.raises(InputError, match="version 2 of the format, but this ovdet reads version 1"):
        TeacherStore(folder)
    del index["blocks"]
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="is damaged: it has no 'blocks'"):
        TeacherStore(folder)
    (folder / "index.json").unlink()
    (folder / "blocks" / "000001.json").unlink()
    with pytest.raises(InputError, match="is unfinished: 1 blocks are missing"):
        TeacherStore(folder)


def test_it_travels_without_its_maps(folder, contents):
    store = TeacherStore(folder)
    fresh = len(pickle.dumps(store))
    for key in contents:
        store[key]
    assert store._maps and len(pickle.dumps(store)) == fresh
    assert len(pickle.loads(pickle.dumps(store))[9].scores) == 3


def first_row(store):
    return store[9].embeddings[0].tolist()


def test_other_processes_read_it_too(folder):
    store = TeacherStore(folder)
    expected = first_row(store)
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        assert list(pool.map(first_row, [store] * 4)) == [expected] * 4


def test_few_files_are_open_at_once(folder, contents, monkeypatch):
    monkeypatch.setattr(reader, "OPEN_BLOCKS", 1)
    store = TeacherStore(folder)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    kept = {key: store[key] for key in contents}
    del kept[70]
    for key, one in kept.items():  # views outlive the map they came from
        np.testing.assert_array_equal(one.boxes_xyxy, contents[key].boxes_xyxy)
    assert len(store._maps) == 1
    kept.clear()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_configs_name_a_folder_or_a_file(folder, tmp_path, contents):
    ProposalSource({1: contents[9]}).save(tmp_path / "p.npz")
    assert isinstance(open_proposals(folder), TeacherStore)
    assert isinstance(open_proposals(str(tmp_path / "p.npz")), ProposalSource)
    store = TeacherStore(folder)
    assert open_proposals(store) is store
