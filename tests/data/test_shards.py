import io
import json
import tarfile
from itertools import chain

import pytest

from ovdet.data.records import Broken, Share
from ovdet.data.shards import TarShards, read_tar, write_shards
from ovdet.errors import InputError


def samples(count):
    for number in range(count):
        yield f"picture {number}".encode(), "jpg", {"caption": f"text {number} é"}


def test_what_is_written_is_read(tmp_path):
    paths = write_shards(samples(7), tmp_path / "out", per_shard=3)
    assert [path.name for path in paths] == ["00000.tar", "00001.tar", "00002.tar"]
    records = list(TarShards([tmp_path / "out"]).read(Share()))
    assert [record.picture_bytes.decode() for record in records] == [f"picture {n}" for n in range(7)]
    assert [record.fields["caption"] for record in records] == [f"text {n} é" for n in range(7)]
    assert len({record.name for record in records}) == 7 and str(paths[0]) in records[0].name


def test_equal_samples_make_equal_shards(tmp_path):
    first, second = (write_shards(samples(3), tmp_path / name)[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_shards(samples(3), tmp_path / "a")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_every_sample_goes_to_one_share(tmp_path, count):
    write_shards(samples(7), tmp_path, per_shard=3)
    shares = [[r.fields["caption"] for r in TarShards([tmp_path]).read(Share(i, count))] for i in range(count)]
    assert sorted(chain.from_iterable(shares)) == [f"text {n} é" for n in range(7)]


def pack(path, files):
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_the_layout_of_others(tmp_path):
    pack(
        tmp_path / "a.tar",
        [
            ("x/1.2.JPG", b"p"),  # the key ends at the first dot
            ("x/2.png", b"q"),
            ("x/2.txt", b"a dog"),
            ("y/2.webp", b"r"),
            ("y/2.json", json.dumps({"caption": "c"}).encode()),
            ("y/3.json", b"[1]"),
            ("y/4.json", b"{"),
        ],
    )
    found = list(TarShards([tmp_path]).read(Share()))
    assert isinstance(found[0], Broken) and "neither json nor txt, but 2.jpg" in found[0].reason
    assert found[1].fields == {"caption": "a dog"} and found[1].picture_bytes == b"q"
    assert found[2].fields == {"caption": "c"} and found[2].picture_bytes == b"r"
    assert "holds one list" in found[3].reason and "not readable" in found[4].reason


@pytest.mark.parametrize("content", [b"", b"no tar file at all" * 100])
def test_what_is_no_shard(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match="damaged or no tar file"):
        list(read_tar(tmp_path / "a.tar"))


def test_a_shard_cut_short(tmp_path):
    path = write_shards([(b"p" * 5000, "jpg", {})] * 3, tmp_path)[0]
    path.write_bytes(path.read_bytes()[:8000])
    with pytest.raises(InputError, match="damaged or no tar file"):
        list(read_tar(path))


def test_webdataset_reads_the_same(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    path = write_shards(samples(5), tmp_path)[0]
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
    ours = list(read_tar(path))
    assert [(one["__key__"], one["jpg"], one["json"]) for one in theirs] == [
        (key, parts["jpg"], parts["json"]) for key, parts in ours
    ]
