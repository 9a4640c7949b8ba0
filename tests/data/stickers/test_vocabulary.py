import json

import pytest

from ovdet.data.stickers import curation, vocabulary
from ovdet.errors import InputError


@pytest.fixture(scope="module")
def content():
    return json.loads(vocabulary.PATH.read_text(encoding="utf-8"))


@pytest.mark.parametrize("split", vocabulary.SPLITS)
def test_sides_are_disjoint_and_families_together(split):
    words = vocabulary.load_vocabulary(split)
    sides = {}
    for name, family, base in zip(words.names, words.families, words.base_mask, strict=True):
        sides.setdefault(family, set()).add(base)
        assert base == (name not in words.novel)
    assert all(len(side) == 1 for side in sides.values())
    assert len(set(words.names)) == len(words.names)
    assert words.novel <= set(words.names)


def test_sizes():
    words = vocabulary.load_vocabulary("75-25")
    assert len(words.names) > 700
    assert len(words.novel) / len(words.names) == pytest.approx(0.25, abs=0.002)
    small = vocabulary.load_vocabulary("48-17")
    assert (sum(small.base_mask), len(small.novel)) == (48, 17)


def test_near_duplicates_of_the_trial_are_one_name_or_one_family():
    words = vocabulary.load_vocabulary()
    assert not {"dog face", "cat face", "guide dog", "green book"} & set(words.names)
    family = dict(zip(words.names, words.families, strict=True))
    assert family["dog"] == family["poodle"] and family["train"] == family["locomotive"]
    assert "dog face" in words.concepts[words.names.index("dog")].aliases


def test_the_committed_file_is_what_the_curation_gives(content):
    rows = content["concepts"]
    assert {row["name"]: row["family"] for row in rows} == curation.families_of([row["name"] for row in rows])
    assert content["splits"]["75-25"] == curation.split_by_family(rows, 0.25, "75-25")
    every = {*curation.TRAIN_STYLES, *curation.HELD_OUT_STYLES}
    assert content["splits"]["48-17"] == curation.small_split(rows, 48, 17, "48-17", every)


def test_every_name_has_drawings_to_train_on_and_to_be_tested_on(content):
    for row in content["concepts"]:
        assert len(set(row["styles"]) & set(curation.TRAIN_STYLES)) >= 3, row["name"]
        missing = {(style, row["name"]) for style in curation.HELD_OUT_STYLES if style not in row["styles"]}
        assert missing <= curation.MISDRAWN
        assert not {(style, row["name"]) for style in row["styles"]} & curation.MISDRAWN


def test_unknown_splits_are_told():
    with pytest.raises(InputError, match=r"no split '90-10'.*75-25, 48-17"):
        vocabulary.load_vocabulary("90-10")
