"""`ovdet ground`, end to end, with a grounder that really looks at colours."""

import json

import numpy as np
import pytest
from PIL import Image

from ovdet.media import read_video, write_video

RED, BLUE, GREEN = "the red thing", "something blue", "a green one"


def test_a_picture_is_drawn_and_summed_up(run_ovdet, picture, tmp_path):
    outcome = run_ovdet("ground", picture, RED, BLUE, GREEN)
    assert outcome.code == 0 and outcome.out == "" and "1 x the red thing, 1 x something blue" in outcome.err
    drawn = np.asarray(Image.open(tmp_path / "outputs/picture.png")).astype(int)
    assert (drawn != np.asarray(Image.open(picture))).any()
    assert outcome.grounder.encoded == 1 and outcome.grounder.asked == [(RED, BLUE, GREEN)]


def test_long_sentences_are_summed_up_by_their_beginning(run_ovdet, picture):
    long = RED + " and more" * 10_000
    outcome = run_ovdet("ground", picture, long, "--save-crops", "--json")
    assert outcome.code == 0 and outcome.records[0]["groundings"][0]["expression"] == long
    assert "1 x the red thing and more" in outcome.err and "... (" in outcome.err and len(outcome.err) < 300


def test_json_lines_hold_every_sentence_also_absent_ones(run_ovdet, picture):
    outcome = run_ovdet("ground", picture, RED, GREEN, "--json", "--no-save")
    (record,) = outcome.records
    assert list(record) == ["source", "size_hw", "model", "groundings"]
    assert record["source"] == str(picture) and record["size_hw"] == [60, 80] and record["model"] == "blobs"
    red, green = record["groundings"]
    assert red == {
        "expression": RED,
        "absent": False,
        "confidence": 1.0,
        "boxes": [{"score": 1.0, "box_xyxy": [5.0, 10.0, 35.0, 40.0]}],
    }
    assert green == {"expression": GREEN, "absent": True, "confidence": 0.0, "boxes": []}


def test_several_things_of_one_sentence_by_candidates(run_ovdet, tmp_path, paint):
    Image.fromarray(paint((60, 80), ("red", (5, 5, 25, 25)), ("red", (50, 30, 70, 50)))).save(tmp_path / "two.png")
    outcome = run_ovdet("ground", "two.png", "red", "--candidates", "detect", "--json", "--no-save", "--save-crops")
    (answer,) = outcome.records[0]["groundings"]
    assert sorted(each["box_xyxy"] for each in answer["boxes"]) == [[5, 5, 25, 25], [50, 30, 70, 50]]
    assert len(list((tmp_path / "outputs/crops/0_red").iterdir())) == 2


def test_result_files_take_sentences_as_classes(run_ovdet, picture, tmp_path):
    outcome = run_ovdet("ground", picture, GREEN, BLUE, RED, "--no-save", "--format", "coco,csv")
    assert outcome.code == 0
    found = json.loads((tmp_path / "outputs/results.coco.json").read_text())
    assert [each["name"] for each in found["categories"]] == [GREEN, BLUE, RED]
    assert sorted(each["category_id"] for each in found["annotations"]) == [2, 3]


def test_sources_come_first_and_may_be_several(run_ovdet, tmp_path, paint):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "in/c.png"):
        Image.fromarray(paint((40, 40), ("red", (5, 5, 25, 25)))).save(tmp_path / name)
    outcome = run_ovdet("ground", "a.png", "b.png", "in", RED, "is it blue?", "--json", "--no-save")
    assert [record["source"] for record in outcome.records] == ["a.png", "b.png", "in/c.png"]
    assert outcome.code == 0 and outcome.grounder.asked == [(RED, "is it blue?")]
    assert run_ovdet("ground", "*.png", RED, "--json", "--no-save").records[1]["source"] == "b.png"


def test_a_sentence_called_like_a_file_goes_by_the_option(run_ovdet, tmp_path, paint):
    (tmp_path / "red").mkdir()
    Image.fromarray(paint((40, 40), ("red", (5, 5, 25, 25)))).save(tmp_path / "a.png")
    outcome = run_ovdet("ground", "a.png", "red", "--no-save")
    assert outcome.code == 2 and "there is no sentence" in outcome.err and "--sentence" in outcome.err
    outcome = run_ovdet("ground", "a.png", "--sentence", "red", "--sentence", BLUE, "--no-save", "--json")
    assert [each["absent"] for each in outcome.records[0]["groundings"]] == [False, True]


def test_queries_of_a_file_are_for_all_or_for_one(run_ovdet, tmp_path, paint):
    for name in ("a.png", "b.png"):
        Image.fromarray(paint((40, 40), ("red", (5, 5, 25, 25)))).save(tmp_path / name)
    rows = [{"expression": RED}, {"expression": GREEN, "source": "b.png"}, {"expression": RED, "source": "b.png"}]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    outcome = run_ovdet("ground", "a.png", "--queries", "q.jsonl", "--json", "--no-save")
    assert outcome.code == 0
    told = {record["source"]: [each["expression"] for each in record["groundings"]] for record in outcome.records}
    assert told == {"a.png": [RED], "b.png": [RED, GREEN]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("dog", "line 1 is not JSON"),
        ('{"expression": "red"}\n[1]', "line 2 is not an object"),
        ('{"sentence": "red"}', '"expression" must be a sentence, got None'),
        ('{"expression": " "}', '"expression" must be a sentence'),
        ('{"expression": "red", "source": 3}', '"source" must be a text'),
        ('{"expression": "red", "source": "gone.png"}', "asks of nothing that is there; there is no gone.png"),
        ("", "there is no sentence"),
        (b"\xff\xfe", "not a text file in UTF-8"),
    ],
)
def test_bad_queries_are_refused_before_anything_is_done(run_ovdet, picture, tmp_path, text, reason):
    (tmp_path / "q.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    outcome = run_ovdet("ground", picture, "--queries", "q.jsonl")
    assert outcome.code == 2 and len(outcome.errors) == 1 and reason in outcome.err
    assert not (tmp_path / "outputs").exists() and outcome.grounder.encoded == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "there is no source"),
        (["{picture}"], "there is no sentence"),
        (["{picture}", ""], "sentence 1 is empty"),
        (["{picture}", "red", " \t"], "sentence 2 is empty"),
        (["{picture}", "red", "{picture}"], "stands behind a sentence; put all sources first"),
        (["the red thing"], "there is no sentence"),
        (["gone.png", "red"], "there is no file or folder gone.png"),
        (["{picture}", "red", "--threshold", "2"], "threshold must be from 0 to 1"),
        (["{picture}", "red", "--batch-size", "0"], "batch_size must be at least 1"),
        (["{picture}", "red", "--candidates", "all"], "invalid choice"),
        (["{picture}", "red", "--detector", "stickers"], "--detector proposes boxes for --candidates detect"),
        (["{picture}", "--queries", "gone.jsonl"], "gone.jsonl cannot be read"),
        (["{picture}", "red", "--model", "gone.pth"], "there is no checkpoint gone.pth"),
    ],
)
def test_wrong_arguments_do_nothing_and_say_why(run_ovdet, picture, tmp_path, monkeypatch, arguments, reason):
    if "--model" in arguments:
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
    outcome = run_ovdet("ground", *[str(picture) if each == "{picture}" else each for each in arguments])
    assert outcome.code == 2 and len(outcome.errors) == 1 and reason in outcome.err
    assert outcome.grounder.encoded == 0 and not list(tmp_path.glob("outputs/*"))


def test_a_source_without_a_question_is_refused(run_ovdet, picture, tmp_path, paint):
    Image.fromarray(paint((40, 40), ("red", (5, 5, 25, 25)))).save(tmp_path / "b.png")
    (tmp_path / "q.jsonl").write_text('{"expression": "red", "source": "b.png"}')
    outcome = run_ovdet("ground", picture, "--queries", "q.jsonl")
    assert outcome.code == 2 and "no sentence is asked of" in outcome.err and outcome.grounder.encoded == 0


@pytest.mark.parametrize(("lacks", "more"), [("box", ()), ("match", ("--candidates", "detect"))])
def test_a_checkpoint_without_the_head_is_told_once_and_first(run_ovdet, blob_grounder, picture, tmp_path, lacks, more):
    blob_grounder.lacks = lacks
    outcome = run_ovdet("ground", picture, picture, RED, *more)
    assert outcome.code == 2 and outcome.errors == [f"error: blobs has no {lacks} head"]
    assert blob_grounder.encoded == 0 and not list(tmp_path.glob("outputs/*"))


def test_bad_pictures_do_not_stop_the_others(run_ovdet, picture, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    outcome = run_ovdet("ground", "bad.png", picture, RED, "--json", "--no-save")
    assert outcome.code == 2 and len(outcome.records) == 1 and "bad.png" in outcome.errors[0]


def test_video_frame_by_frame(run_ovdet, tmp_path, paint):
    with write_video(tmp_path / "clip.mp4", 10) as writer:
        for step in range(4):
            writer.write(paint((96, 128), ("red", (10 + 5 * step, 20, 60 + 5 * step, 70))))
    outcome = run_ovdet("ground", "clip.mp4", RED, GREEN, "--json")
    assert [record["frame"] for record in outcome.records] == [0, 1, 2, 3]
    lefts = [record["groundings"][0]["boxes"][0]["box_xyxy"][0] for record in outcome.records]
    assert np.abs(np.array(lefts) - [10, 15, 20, 25]).max() <= 2
    assert len(list(read_video(tmp_path / "outputs/clip.mp4"))) == 4 and outcome.grounder.asked == [(RED, GREEN)]
