"""`ovdet match` and `ovdet retrieve`, end to end, with a grounder that really looks at colours."""

import numpy as np
import pytest
from PIL import Image

from ovdet.cli.retrieve import make_parser
from ovdet.media import write_video
from ovdet.retrieval import RERANKED


@pytest.fixture
def folder(tmp_path, paint):
    """Three pictures: red, blue and half of each."""
    (tmp_path / "in").mkdir()
    for name, blobs in {
        "red": [("red", (0, 0, 40, 40))],
        "blue": [("blue", (0, 0, 40, 40))],
        "both": [("red", (0, 0, 20, 40)), ("blue", (20, 0, 40, 40))],
    }.items():
        Image.fromarray(paint((40, 40), *blobs)).save(tmp_path / f"in/{name}.png")
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "home"))


def names_of(ranking):
    return [each["source"].split("/")[-1].removesuffix(".png") for each in ranking]


def test_chances_of_each_picture_and_sentence(run_ovdet, folder):
    outcome = run_ovdet("match", folder, "a red one", "a blue one", "--json")
    assert outcome.code == 0 and outcome.grounder.encoded == 3
    told = {record["source"].split("/")[-1]: record["matches"] for record in outcome.records}
    assert [each["chance"] for each in told["red.png"]] == [1, 0]
    assert [each["chance"] for each in told["both.png"]] == [1, 1]
    assert told["blue.png"][1] == {"expression": "a blue one", "chance": 1.0}
    table = run_ovdet("match", folder / "red.png", "a red one", "a blue one").out
    assert table.splitlines() == [f" 1.000  {folder}/red.png  a red one", f" 0.000  {folder}/red.png  a blue one"]


def test_pictures_are_ranked_by_sentences(run_ovdet, folder):
    outcome = run_ovdet("retrieve", folder, "a red one", "a blue one", "--json", "--top", 2)
    assert outcome.code == 0
    red, blue = outcome.records
    assert list(red) == ["expression", "model", "pictures"] and red["expression"] == "a red one"
    assert names_of(red["pictures"]) == ["red", "both"] and names_of(blue["pictures"]) == ["blue", "both"]
    assert red["pictures"][0]["chance"] == 1 and red["pictures"][0]["similarity"] == pytest.approx(1, abs=1e-4)
    table = run_ovdet("retrieve", folder, "a red one").out.splitlines()
    assert table[0] == "a red one" and table[2].startswith("   1   1.000") and table[2].endswith("in/red.png")


def test_sentences_are_ranked_by_a_picture(run_ovdet, folder):
    outcome = run_ovdet(
        "retrieve", folder / "blue.png", "a red one", "a blue one", "green", "--rank", "sentences", "--json"
    )
    (record,) = outcome.records
    assert record["source"].endswith("blue.png") and record["sentences"][0]["expression"] == "a blue one"


def test_pictures_are_looked_at_once_then_known(run_ovdet, folder, tmp_path, paint):
    first = run_ovdet("retrieve", folder, "a red one", "--rerank", 0, "--json")
    assert first.grounder.encoded == 3
    assert all(each["chance"] is None for each in first.records[0]["pictures"])
    again = run_ovdet("retrieve", folder, "a red one", "--rerank", 0, "--json")
    assert again.grounder.encoded == 3 and again.records == first.records  # counted on: none was looked at again
    Image.fromarray(paint((40, 40), ("red", (0, 0, 40, 39)))).save(folder / "new.png")
    assert "new" in names_of(run_ovdet("retrieve", folder, "a red one", "--rerank", 0, "--json").records[0]["pictures"])
    assert again.grounder.encoded == 4
    run_ovdet("retrieve", folder, "a red one", "--rerank", 2)
    assert again.grounder.encoded == 6  # the second stage looks at two
    assert len(list((tmp_path / "home/pictures").iterdir())) == 1


def test_an_index_of_other_weights_is_refused(run_ovdet, folder, tmp_path, blob_grounder):
    assert run_ovdet("retrieve", folder, "a red one", "--index", "mine.index").code == 0
    blob_grounder.fingerprint = "of-others"
    outcome = run_ovdet("retrieve", folder, "a red one", "--index", "mine.index")
    assert outcome.code == 2 and "mine.index was made by other weights (blobs)" in outcome.err and not outcome.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["match", "in"], "there is no sentence"),
        (["match", "gone.png", "red"], "there is no file or folder gone.png"),
        (["match", "0", "red"], "camera 0 is no picture"),
        (["retrieve", "in", " "], "sentence 1 is empty"),
        (["retrieve", "in", "red", "--top", "0"], "--top must be at least 1"),
        (["retrieve", "in", "red", "--rerank", "-1"], "--rerank at least 0"),
        (["retrieve", "in", "red", "--rank", "all"], "invalid choice"),
        (["retrieve", "in", "red", "--index", "in"], "cannot use the index in"),
        (["retrieve", "in", "red", "--index", "in/red.png"], "is damaged, or no index"),
        (["retrieve", "in", "--queries", "q.jsonl"], 'a "source" has no meaning here'),
    ],
)
def test_wrong_arguments_do_nothing_and_say_why(run_ovdet, folder, tmp_path, arguments, reason):
    (tmp_path / "q.jsonl").write_text('{"expression": "red", "source": "in/red.png"}')
    before = sorted(path for path in tmp_path.rglob("*"))
    outcome = run_ovdet(*arguments)
    assert outcome.code == 2 and len(outcome.errors) == 1 and reason in outcome.err and not outcome.out
    assert outcome.grounder.encoded == 0 and sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("verb", ["match", "retrieve"])
@pytest.mark.parametrize("lacks", ["match", "space"])
def test_a_checkpoint_without_the_head_is_told_before_any_picture(run_ovdet, blob_grounder, folder, verb, lacks):
    blob_grounder.lacks = lacks
    outcome = run_ovdet(verb, folder, "a red one")
    wanted = (verb, lacks) != ("match", "space")
    assert (outcome.code == 2 and outcome.errors == [f"error: blobs has no {lacks} head"]) == wanted
    assert (blob_grounder.encoded == 0) == wanted


def test_bad_pictures_and_videos_do_not_stop_the_others(run_ovdet, folder, paint):
    with write_video(folder / "clip.mp4", 8) as writer:
        writer.write(paint((64, 64), ("red", (5, 5, 30, 30))))
    for verb in ("match", "retrieve"):
        outcome = run_ovdet(verb, folder, "a red one")
        assert outcome.code == 0 and "videos are left out: 1" in outcome.err
    (folder / "bad.png").write_bytes(b"no picture")
    for verb in ("match", "retrieve"):
        outcome = run_ovdet(verb, folder, "a red one")
        assert outcome.code == 2 and "bad.png" in outcome.errors[0] and "red.png" in outcome.out
        assert run_ovdet(verb, folder / "clip.mp4", "a red one").code == 2


def test_the_parser_says_the_number_that_the_library_has():
    assert make_parser().get_default("rerank") == RERANKED


def test_a_name_that_is_no_text_is_printed_escaped(run_ovdet, folder, tmp_path):
    odd = tmp_path / "in" / "odd\udcff.png"
    odd.write_bytes((folder / "red.png").read_bytes())
    outcome = run_ovdet("match", odd, "a red one")
    assert outcome.code == 0 and "\\udcff" in outcome.out
    assert np.isclose(float(outcome.out.split()[0]), 1)
