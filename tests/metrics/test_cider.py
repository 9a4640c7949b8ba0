import json
import math

import pytest

from ovdet.errors import InputError
from ovdet.metrics.cider import CiderD, CiderReward, count_pictures, read_frequencies, write_frequencies

REFERENCES = [
    ["a man riding a wave on a surfboard", "a surfer rides a large wave", "man on a wave"],
    ["two dogs play with a frisbee on the grass", "dogs playing in a park"],
    ["a red bus parked on a street", "a bus"],
    ["a cat"],
]
SAID = ["a man riding a wave a wave a wave", "dogs on the grass", "a red bus parked on a street", "dog"]


def test_scores_are_those_of_the_library_where_it_counts_the_same_references():
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer()
    for said, known in zip(SAID, REFERENCES, strict=True):
        scorer += (said, known)
    _, expected = scorer.compute_score()
    mine = CiderD(*count_pictures(REFERENCES))
    found = [mine.scores([said], known)[0] for said, known in zip(SAID, REFERENCES, strict=True)]
    assert found == pytest.approx(list(expected), abs=1e-9)
    assert found[0] > found[1] > found[3] == 0


def test_scores_in_closed_form():
    """Of words that are said of one picture in 4 alone, but for one that is said of two of them."""
    cider = CiderD({"bus": 2}, pictures=4)
    rare, common = math.log(4), math.log(2)
    pair = rare / math.hypot(rare, common)  # cosine of "red bus" and "red", or of "red bus" and "red car"
    length = math.exp(-1 / 72)
    assert cider.scores(["red bus", "red", "red car", ""], ["red bus"]) == pytest.approx(
        [10 * 2 / 4, 10 * pair * length / 4, 10 * (rare / (rare * math.sqrt(2)) * pair) / 4, 0.0]
    )
    again = (rare**2 + common**2) / math.hypot(2 * rare, common) / math.hypot(rare, common)  # a second "red" is clipped
    (found,) = cider.scores(["red red bus"], ["red bus"])
    assert found == pytest.approx(10 * length * (again + math.sqrt(0.5)) / 4)
    assert cider.scores(["red bus"], ["red bus", "a"]) == pytest.approx([10 * 2 / 4 / 2])


def test_rewards_tell_whether_a_caption_ends(tmp_path):
    path = tmp_path / "frequencies.json"
    assert write_frequencies(path, REFERENCES) == 4
    frequencies, pictures = read_frequencies(path)
    assert pictures == 4 and frequencies["<end>"] == 4 and frequencies["on a"] == 2 and "cat" not in frequencies
    reward = CiderReward(path)
    whole, cut, nothing = reward(["a bus", "a red bus parked on a", ""], ["a red bus parked on a street", "a bus"])
    bare = CiderD(*count_pictures(REFERENCES))
    assert whole > bare.scores(["a bus"], ["a red bus parked on a street", "a bus"])[0]  # "bus <end>" is shared
    assert cut > nothing == 0


def test_what_is_no_such_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*caption_frequencies\.py makes it"):
        CiderReward(tmp_path / "none.json")
    path = tmp_path / "other.json"
    for content in ("[1]", "{", json.dumps({"frequencies": {"a": "x"}, "pictures": 1}), json.dumps({"pictures": 1})):
        path.write_text(content)
        with pytest.raises(InputError, match="is no file of tools/data"):
            CiderReward(path)
    with pytest.raises(InputError, match="in up to 3 pictures, of 2"):
        CiderD({"a": 3}, 2)
