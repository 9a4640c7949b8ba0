import os
import pickle
from collections import OrderedDict

import pytest

from ovdet.data.plain_pickle import read_plain_pickle
from ovdet.errors import InputError


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_all_protocols(tmp_path, protocol):
    content = [{"ref_id": 1, "box": [1.5, 2], "text": "naïve", "none": None, "flag": True, "pair": (1, 2)}]
    (tmp_path / "a.p").write_bytes(pickle.dumps(content, protocol))
    assert read_plain_pickle(tmp_path / "a.p") == content


def test_what_python_2_wrote(tmp_path):
    """A list with a dict of a byte string and a unicode string, as cPickle of Python 2 writes it by protocol 0."""
    (tmp_path / "a.p").write_bytes(b"(lp1\n(dp2\nS'split'\np3\nS'testA'\np4\nsS'sent'\np5\nVthe caf\xe9\np6\nsa.")
    assert read_plain_pickle(tmp_path / "a.p") == [{"split": "testA", "sent": "the café"}]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_run(tmp_path, protocol):
    made = tmp_path / "made"
    (tmp_path / "a.p").write_bytes(pickle.dumps([Hostile(made)], protocol))
    with pytest.raises(InputError, match=r"refused and nothing in it was run: it names (posix|nt)\.mkdir"):
        read_plain_pickle(tmp_path / "a.p")
    assert not made.exists()


@pytest.mark.parametrize("content", [OrderedDict(a=1), {1, 2, Hostile}, b"x" * 3 + bytes(1) and bytearray(b"x")])
def test_even_harmless_classes_are_refused(tmp_path, content):
    (tmp_path / "a.p").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(InputError, match="refused and nothing in it was run"):
        read_plain_pickle(tmp_path / "a.p")


def test_references_to_the_outside_are_refused(tmp_path):
    (tmp_path / "a.p").write_bytes(b"Pelsewhere\n.")
    with pytest.raises(InputError, match="refers to something outside"):
        read_plain_pickle(tmp_path / "a.p")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04]\x94(K\x01"])
def test_damage_is_told(tmp_path, content):
    (tmp_path / "a.p").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged or no pickle|was refused"):
        read_plain_pickle(tmp_path / "a.p")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*a\.p"):
        read_plain_pickle(tmp_path / "a.p")
