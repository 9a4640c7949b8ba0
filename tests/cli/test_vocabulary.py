"""The class list as people type and save it."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdet.cli.vocabulary import parse_classes
from ovdet.errors import InputError


def test_names_apart_by_commas_or_lines_keep_order_and_spelling():
    assert parse_classes("cat, coffee cup ,  Hot Air Balloon") == ["cat", "coffee cup", "Hot Air Balloon"]
    assert parse_classes("猫\nחתול\nкошка") == ["猫", "חתול", "кошка"]
    assert parse_classes("cat") == ["cat"]


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{1,8}( [a-z]{1,5})?", fullmatch=True), min_size=1, max_size=20, unique=True))
def test_any_list_comes_back(names):
    assert parse_classes(", ".join(names)) == names
    assert parse_classes("\n".join(names)) == names


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "--classes is empty"),
        (" , ,", "--classes is empty"),
        ("cat,,dog", "name 2 is blank"),
        ("cat, dog,", "name 3 is blank"),
        ("cat, dog, CAT", r"name 3 \('CAT'\) is the same as 1 \('cat'\)"),
        ("gone.txt", "no file gone.txt"),
        ("folder/gone", "no file folder/gone"),
    ],
)
def test_wrong_lists(value, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence.replace(".", r"\.")):
        parse_classes(value)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_files_of_all_systems(tmp_path, line_end, mark):
    path = tmp_path / "names"
    lines = ["# animals", "кошка", "", "  hot air balloon  ", "tench, Tinca tinca"]
    path.write_bytes(mark + line_end.join(line.encode() for line in lines))
    assert parse_classes(str(path)) == ["кошка", "hot air balloon", "tench, Tinca tinca"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"cat\ndog\n\ncat\n", r"names\.txt: line 4 \('cat'\) is the same as 1 \('cat'\)"),
        (b"\n \n# none\n", "holds no name"),
        (b"", "holds no name"),
        (b"\xff\xfe\x00cat", "not a text file in UTF-8"),
        (b"cat\n...\n", "line 2 is blank"),
    ],
)
def test_wrong_files(tmp_path, data, sentence):
    (tmp_path / "names.txt").write_bytes(data)
    with pytest.raises(InputError, match=sentence):
        parse_classes(str(tmp_path / "names.txt"))


def test_a_list_on_one_line_of_a_file_is_one_name_and_that_is_said(tmp_path, caplog):
    (tmp_path / "names.txt").write_text("cat, dog\n")
    with caplog.at_level(logging.WARNING, logger="ovdet"):
        assert parse_classes(str(tmp_path / "names.txt")) == ["cat, dog"]
    assert "one name although it holds commas" in caplog.text
