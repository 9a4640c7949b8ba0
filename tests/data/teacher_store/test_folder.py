import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ovdet.data.proposals import Proposals
from ovdet.data.teacher_store.folder import PictureKey, StoreBuilder, finish, merge, missing_blocks
from ovdet.data.teacher_store.reader import TeacherStore
from ovdet.errors import InputError


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_size_is_that_of_the_rows(folder, contents):
    """Halves and nothing else: N * D * 2 bytes and numpy's header."""
    total = 0
    for path in (folder / "blocks").glob("*.rows.npy"):
        total += path.stat().st_size - 128
    assert total == sum(len(one.scores) for one in contents.values()) * 8 * 2


def test_an_unfinished_store_goes_on_where_it_stopped(tmp_path, folder, contents, keys, facts, fill):
    """Whatever a kill leaves behind: the result is the same, byte for byte."""
    out = tmp_path / "again"
    builder = StoreBuilder(out, facts(), keys, block=2)
    for number in (0, 1, 2):
        builder.write(number, [contents[key.image_id] for key in builder.pictures_of(number)])
    blocks = out / "blocks"
    whole = (blocks / "000001.rows.npy").read_bytes()
    (blocks / "000001.rows.npy").write_bytes(whole[:-4])  # half-written
    (blocks / "000002.json").unlink()  # killed before the record
    (blocks / ".ovdet-0123.npy").write_bytes(b"half of a block")
    assert missing_blocks(out) == [1, 2, 3]
    with pytest.raises(InputError, match=r"lacks 3 of 4 blocks \(the first is 000001\)"):
        finish(out)
    again = StoreBuilder(out, facts(), keys[::-1], block=2)  # whatever the order
    assert again.pending() == [1, 2, 3]
    fill(again, contents)
    finish(out)
    assert bytes_of(out) == bytes_of(folder)


@pytest.mark.parametrize("damage", ["{", "[]", '{"files": 3}', '{"files": {"rows": {"bytes": 0}}}'])
def test_a_damaged_record_is_a_missing_block(folder, damage):
    (folder / "blocks" / "000001.json").write_text(damage)
    assert missing_blocks(folder) == [1]


def test_a_block_that_is_made_again_takes_the_index_away_meanwhile(folder, contents, keys, facts):
    (folder / "blocks" / "000000.boxes.npy").write_bytes(b"")
    builder = StoreBuilder(folder, facts(), keys, block=2)
    assert builder.pending() == [0]
    builder.write(0, [contents[key.image_id] for key in builder.pictures_of(0)])
    assert not (folder / "index.json").exists()
    finish(folder)
    TeacherStore(folder).verify()


def test_machines_share_the_blocks(tmp_path, folder, contents, keys, facts, fill):
    parts = [tmp_path / f"machine{number}" for number in (1, 2, 3)]
    done = []
    for machine, part in enumerate(parts, start=1):
        builder = StoreBuilder(part, facts(), keys, block=2)
        done += builder.pending((machine, 3))
        fill(builder, contents, (machine, 3))
    assert sorted(done) == [0, 1, 2, 3]
    merge(tmp_path / "all", parts)
    assert bytes_of(tmp_path / "all") == bytes_of(folder)
    before = [bytes_of(part) for part in parts]
    merge(tmp_path / "all", parts)  # twice does no harm
    assert [bytes_of(part) for part in parts] == before
    with pytest.raises(InputError, match="lacks 1 of 4 blocks"):
        merge(tmp_path / "some", [parts[0], parts[2]])


def test_all_machines_may_write_into_one_folder(tmp_path, folder, contents, keys, facts, fill):
    for machine in (2, 1):
        fill(StoreBuilder(tmp_path / "one", facts(), keys, block=2), contents, (machine, 2))
    finish(tmp_path / "one")
    assert bytes_of(tmp_path / "one") == bytes_of(folder)


def test_parts_of_other_stores_are_refused(tmp_path, folder, contents, keys, facts, fill):
    other = facts(fingerprint="e" * 64)
    fill(StoreBuilder(tmp_path / "other", other, keys, block=2), contents)
    with pytest.raises(InputError, match=r"does not belong to .*another facts.teacher.fingerprint"):
        merge(folder, [tmp_path / "other"])
    with pytest.raises(InputError, match="cannot read"):
        merge(tmp_path / "new", [tmp_path / "none"])
    assert not (tmp_path / "new").exists()


def test_another_plan_is_refused(folder, keys, facts, tmp_path):
    for changed, match in (
        (dict(block=3), r"another block \(2 instead of 3\)"),
        (dict(pictures=keys[1:]), r"another pictures \(7 instead of 6\)"),
        (dict(pictures=[PictureKey(1, 2, 3), *keys[1:]]), "another pictures_digest"),
        (
            dict(facts=replace(facts(), proposals={"kind": "rpn"})),
            r"another facts.proposals.kind \(file instead of rpn\)",
        ),
    ):
        with pytest.raises(InputError, match=match):
            StoreBuilder(folder, **{"facts": facts(), "pictures": keys, "block": 2, **changed})
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "a.txt").write_text("a")
    for taken in (tmp_path / "things", tmp_path / "things" / "a.txt"):
        with pytest.raises(InputError, match="holds other things"):
            StoreBuilder(taken, facts(), keys)


def test_nothing_is_written_before_the_first_block(tmp_path, keys, facts):
    StoreBuilder(tmp_path / "store", facts(), keys)
    assert not (tmp_path / "store").exists()


def test_rows_that_cannot_be_stored_are_refused(tmp_path, keys, facts):
    builder = StoreBuilder(tmp_path / "store", facts(), keys[:1], block=2)
    box, score = np.zeros((1, 4), np.float32), np.ones(1, np.float32)
    for rows, message in (
        (None, "rows of width 8 for picture 9, got None"),
        (np.zeros((1, 9)), r"rows of width 8 for picture 9, got \(1, 9\)"),
        (np.full((1, 8), np.nan), "rows of picture 9 are not finite"),
        (np.full((1, 8), 1e6), "too large for halves"),
    ):
        with pytest.raises(InputError, match=message):
            builder.write(0, [Proposals(box, score, rows)])
    assert not (tmp_path / "store").exists()


def test_numbers_that_make_no_store(tmp_path, keys, facts):
    for pictures, block in (([], 2), (keys, 0)):
        with pytest.raises(InputError, match="at least one"):
            StoreBuilder(tmp_path / "store", facts(), pictures, block)
    with pytest.raises(InputError, match=r"whole numbers .* got 'a'"):
        StoreBuilder(tmp_path / "store", facts(), [PictureKey("a", 1, 1)])


def test_blocks_of_other_pictures_are_noticed(folder):
    record = folder / "blocks" / "000001.json"
    shutil.copy(folder / "blocks" / "000001.json", record.with_suffix(".bak"))
    content = json.loads(record.read_text())
    content["pictures"][0][0] = 4  # a picture of block 0
    record.write_text(json.dumps(content))
    with pytest.raises(InputError, match="do not hold the 7 pictures"):
        finish(folder)
