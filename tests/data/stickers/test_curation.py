import pytest

from ovdet.data.stickers import curation

EMOJI = {
    "a": {"name": "dog face", "group": "Animals & Nature"},
    "b": {"name": "dog", "group": "Animals & Nature"},
    "c": {"name": "guide dog", "group": "Animals & Nature"},
    "d": {"name": "poodle", "group": "Animals & Nature"},
    "e": {"name": "grinning face", "group": "Smileys & Emotion"},
    "f": {"name": "automobile", "group": "Travel & Places"},
    "g": {"name": "one o’clock", "group": "Travel & Places"},
    "h": {"name": "woman’s hat", "group": "Objects"},
    "i": {"name": "wind face", "group": "Travel & Places"},
}


def test_names_are_merged_dropped_and_cleaned():
    concepts = {row["name"]: row for row in curation.concepts_of(EMOJI, {"a": ["puppy", "dog"], "b": ["puppy"]})}
    assert list(concepts) == ["dog", "poodle", "car", "woman's hat", "wind face"]
    assert concepts["dog"]["emoji"] == ["a", "b", "c"]
    assert concepts["dog"]["aliases"] == ["dog face", "guide dog"]
    assert concepts["dog"]["tags"] == ["puppy"]


def test_families_join_lists_and_last_words():
    families = curation.families_of(["dog", "wolf", "racing car", "car", "taxi", "kite"])
    assert families["dog"] == families["wolf"] == "dog"
    assert families["racing car"] == families["car"] == families["taxi"] == "racing car"
    assert families["kite"] == "kite"


def rows(count):
    return [{"name": f"n{i}", "family": f"n{i - i % 3 if i < 30 else i}", "styles": ["x"]} for i in range(count)]


@pytest.mark.parametrize("salt", ["one", "two"])
def test_a_split_keeps_the_share_and_the_families(salt):
    concepts = rows(100)
    split = curation.split_by_family(concepts, 0.25, salt)
    assert len(split["novel"]) == 25 and len(split["base"]) == 75
    novel = set(split["novel"])
    for family in {row["family"] for row in concepts}:
        sides = {row["name"] in novel for row in concepts if row["family"] == family}
        assert len(sides) == 1
    assert split == curation.split_by_family(concepts, 0.25, salt)


def test_salts_differ():
    assert curation.split_by_family(rows(100), 0.25, "one") != curation.split_by_family(rows(100), 0.25, "two")


def test_the_small_split_takes_one_name_a_family():
    split = curation.small_split(rows(100), 48, 17, "salt", ["x"])
    assert (len(split["base"]), len(split["novel"])) == (48, 17)
    family = {row["name"]: row["family"] for row in rows(100)}
    assert len({family[name] for name in split["base"] + split["novel"]}) == 65


def test_every_listed_name_is_used_once():
    members = [name for names in curation.MERGED.values() for name in names]
    assert len(members) == len(set(members))
    assert not set(curation.TRAIN_STYLES) & set(curation.HELD_OUT_STYLES)
