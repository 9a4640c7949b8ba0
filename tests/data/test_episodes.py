import json

import numpy as np
import pytest

from ovdet.data.episodes import (
    Episode,
    EpisodeList,
    Episodes,
    draw_supports,
    read_episodes,
    write_episodes,
)
from ovdet.errors import InputError


@pytest.fixture
def episodes():
    rows = (Episode(3, "q1", ("a", "b")), Episode(5, "q2", ("c", "c")))
    return EpisodeList("own", 1, 2, 0, {3: "cat", 5: "dog", 6: "cow"}, rows, {"pictures": "all"})


def test_a_list_is_stored_and_read_back(tmp_path, episodes):
    path = tmp_path / "deep" / "episodes.json"
    write_episodes(path, episodes)
    assert read_episodes(path) == episodes
    assert episodes.stamp["episodes_sha256"] == json.loads(path.read_text())["sha256"] == episodes.digest
    assert episodes.stamp["pictures"] == "all" and episodes.stamp["shots"] == 2


def test_the_digest_is_of_the_episodes_and_their_order(episodes):
    other = EpisodeList("other", 3, 2, 9, episodes.names, episodes.episodes)
    turned = EpisodeList("own", 1, 2, 0, episodes.names, episodes.episodes[::-1])
    assert other.digest == episodes.digest != turned.digest


def test_a_changed_file_is_refused(tmp_path, episodes):
    path = tmp_path / "episodes.json"
    write_episodes(path, episodes)
    content = json.loads(path.read_text())
    content["episodes"][0]["supports"] = ["a", "q2"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="was changed after it was written"):
        read_episodes(path)
    for text, told in (("{", "is no list of episodes"), ("[]", "is no list"), ('{"format": "x"}', "of the format 'x'")):
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            read_episodes(path)
    with pytest.raises(InputError, match="cannot read"):
        read_episodes(tmp_path / "none.json")


def test_impossible_lists_are_refused():
    with pytest.raises(InputError, match="there is no episode"):
        EpisodeList("own", 0, 1, 0, {}, ())
    with pytest.raises(InputError, match="episode 0 is of class 4 with 1 examples"):
        EpisodeList("own", 0, 1, 0, {3: "cat"}, (Episode(4, "q", ("a",)),))
    with pytest.raises(InputError, match="with 1 examples; wanted is one of 1 classes with 2"):
        EpisodeList("own", 0, 2, 0, {3: "cat"}, (Episode(3, "q", ("a",)),))


def test_examples_are_drawn_as_numpys_global_generator_draws_them():
    names = [f"picture{number}" for number in range(7)]
    for shots in (1, 5):
        np.random.seed(0)
        rng = np.random.RandomState(0)
        for query in names * 3:
            wanted = []
            while len(wanted) < shots:
                name = np.random.choice(names, 1, replace=False)[0]
                if name != query:
                    wanted.append(name)
            assert draw_supports(rng, names, query, shots) == tuple(wanted)
    with pytest.raises(InputError, match="no other picture"):
        draw_supports(np.random.RandomState(0), ["q", "q"], "q", 1)


def test_pixels_are_fetched_by_name(episodes):
    class Pictures:
        def picture(self, name):
            return np.full((4, 5, 3), ord(name[0]), np.uint8)

        def mask(self, name, label):
            return np.full((4, 5), label == 3), np.ones((4, 5), bool)

    found = Episodes(episodes, Pictures())
    assert len(found) == 2
    one = found[0]
    assert one.query[0, 0, 0] == ord("q") and one.truth.all() and one.judged.all()
    assert [picture[0, 0, 0] for picture, _ in one.examples] == [ord("a"), ord("b")]
    assert all(mask.all() for _, mask in one.examples) and not found[1].truth.any()
