import base64
import json
import logging
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from ovdet.data.records import (
    Broken,
    BrokenSamples,
    LineFiles,
    Record,
    Share,
    endless,
    list_files,
    open_picture,
    read_picture,
)
from ovdet.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Five files of 1 to 5 lines, numbered from 0 to 14, an empty line, and files that are no data."""
    root = tmp_path / "data"
    (root / "deep").mkdir(parents=True)
    number = 0
    for place in range(5):
        rows = []
        for _ in range(place + 1):
            rows.append(json.dumps({"number": number}))
            number += 1
        where = root / "deep" if place == 3 else root
        (where / f"part{place}.jsonl").write_text("\n\n".join(rows) + "\n")
    (root / "_SUCCESS").touch()
    (root / ".hidden").write_text("no json")
    return root


def numbers(records):
    return sorted(record.fields["number"] for record in records)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 20])
def test_every_line_goes_to_one_share(folder, count):
    source = LineFiles([folder])
    shares = [numbers(source.read(Share(index, count))) for index in range(count)]
    assert sorted(chain.from_iterable(shares)) == list(range(15))


def test_passes_have_orders_of_their_own(folder):
    stream = endless(LineFiles([folder]), seed=1)
    passes = [[record.fields["number"] for _, record in islice(stream, 15)] for _ in range(4)]
    assert all(sorted(one) == list(range(15)) for one in passes) and len({tuple(one) for one in passes}) > 1
    again = [record.fields["number"] for _, record in islice(endless(LineFiles([folder]), seed=1), 15)]
    assert again == passes[0]


def test_an_empty_share_is_told(tmp_path):
    (tmp_path / "one.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "two.jsonl").write_text("\n")
    with pytest.raises(InputError, match="part 1 of 1 of the data has no line"):
        list(islice(endless(LineFiles([tmp_path / "two.jsonl"]), 0), 3))


class Stream(IterableDataset):
    def __init__(self, source):
        self.source = source

    def __iter__(self):
        return ((Share.of_this_process().index, record.fields["number"]) for _, record in endless(self.source, 0))


def test_workers_share_the_data(folder):
    loader = DataLoader(Stream(LineFiles([folder])), batch_size=None, num_workers=2, multiprocessing_context="fork")
    seen = list(islice(iter(loader), 40))
    by_worker = [{number for worker, number in seen if worker == place} for place in (0, 1)]
    assert not by_worker[0] & by_worker[1] and by_worker[0] | by_worker[1] == set(range(15))


def test_lines_that_are_no_objects_are_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n[2]\n{"a": \n')
    good, listed, cut = LineFiles([path]).read(Share())
    assert isinstance(good, Record) and good.name == f"{path}:1"
    assert listed == Broken(f"{path}:2", "it holds one list and not an object")
    assert cut.name == f"{path}:3" and "not valid JSON" in cut.reason


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="there is no file or folder"):
        list_files([tmp_path / "nothing"])
    with pytest.raises(InputError, match=r"there is no \.tar file in"):
        list_files([tmp_path], ".tar")


def test_broken_samples_are_counted_named_and_written_down(tmp_path, caplog):
    broken = BrokenSamples(log=tmp_path / "broken.jsonl", at_least=100)
    with caplog.at_level(logging.WARNING):
        for number in range(30):
            broken.add(f"file:{number}", "it is bad")
    assert broken.count == 30 and len(broken.names) == 20
    assert caplog.text.count("left out file:") == 20 and "later ones are only counted" in caplog.text
    rows = [json.loads(line) for line in (tmp_path / "broken.jsonl").read_text().splitlines()]
    assert rows[29] == {"sample": "file:29", "reason": "it is bad"} and len(rows) == 30


def test_too_many_broken_samples_stop_the_run():
    broken = BrokenSamples(tolerance=0.1, at_least=20, good=18)
    broken.add("one", "it is bad")
    broken.add("two", "it is bad")
    with pytest.raises(InputError, match="3 of 21 samples are broken, the last one three: it is bad"):
        broken.add("three", "it is bad")


def test_pictures_come_as_bytes_base64_or_path(red_picture, tmp_path):
    path = red_picture("deep/a.png", (12, 8), (2, 2, 4, 4))
    content = path.read_bytes()
    ways = [
        open_picture(Record("x", {}, content)),
        open_picture(Record("x", {"binary": base64.b64encode(content).decode()})),
        open_picture(Record("x", {"image_rpath": "deep/a.png"}), tmp_path),
        open_picture(Record("x", {"image": str(path)})),
    ]
    assert all(np.array_equal(np.asarray(one), np.asarray(read_picture(path))) and one.mode == "RGB" for one in ways)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "it has no picture"),
        ({"binary": "?"}, "is not base64"),
        ({"binary": 7}, "is not base64"),
        ({"binary": base64.b64encode(b"text").decode()}, "damaged or no picture"),
        ({"image_rpath": "missing.png"}, "is not there"),
    ],
)
def test_pictures_that_cannot_be_read(fields, message, tmp_path):
    with pytest.raises(InputError, match=message):
        open_picture(Record("x", fields), tmp_path)


def test_a_picture_cut_short_is_damaged(red_picture):
    path = red_picture("a.png", (60, 60), (2, 2, 30, 30))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"the picture .*a\.png is damaged or no picture"):
        read_picture(path)


def test_torch_alone_needs_no_group():
    assert not torch.distributed.is_initialized() and Share.of_this_process() == Share(0, 1)
