import json

import pytest

from ovdet.data.sampling import Draw
from ovdet.data.vqa import (
    Question,
    QuestionTest,
    QuestionTraining,
    collate_questions,
    question_lists_test,
    read_question_lists,
    read_vqa,
    vqa_test,
)
from ovdet.errors import InputError


@pytest.fixture
def files(tmp_path):
    """One question in the official layout."""
    said = [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(["yes"] * 7 + ["no"] * 3)]
    questions = {"questions": [{"question": "Is it Red?", "image_id": 42, "question_id": 420}], "data_type": "mscoco"}
    notes = {"annotations": [{"question_id": 420, "answers": said, "question_type": "is it", "answer_type": "yes/no"}]}
    asked, answered = tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", tmp_path / "v2_mscoco_val2014_a.json"
    asked.write_text(json.dumps(questions))
    answered.write_text(json.dumps(notes))
    return asked, answered


def test_official_files(files):
    (one,) = read_vqa(*files, verify=False)
    assert one == Question(
        "Is it Red?", "val2014/COCO_val2014_000000000042.jpg", 420, ("yes",) * 7 + ("no",) * 3, "vqa", "is it", "yes/no"
    )
    assert one.weighted_answers() == pytest.approx({"yes": 0.7, "no": 0.3})
    (bare,) = read_vqa(files[0], verify=False)
    assert bare.answers == ()
    with pytest.raises(InputError, match="1 questions of val, officially 214354"):
        read_vqa(*files)


def test_tests_are_of_the_pictures_of_2015(tmp_path):
    path = tmp_path / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    path.write_text(json.dumps({"questions": [{"question": "A?", "image_id": 1, "question_id": 2}]}))
    assert read_vqa(path, verify=False)[0].file_name == "test2015/COCO_test2015_000000000001.jpg"
    with pytest.raises(InputError, match="1 questions of test-dev, officially 107394"):
        read_vqa(path)


def test_a_question_without_notes_is_told(files):
    files[1].write_text(json.dumps({"annotations": []}))
    with pytest.raises(InputError, match="has nothing on question 420"):
        read_vqa(*files, verify=False)


def test_lists(tmp_path):
    rows = [
        {"question_id": 1, "question": "q", "answer": ["a"] * 4 + ["b"], "image": "x.png", "dataset": "vqa"},
        {"question": "r", "answer": "c", "image": "y.png", "dataset": "vg"},
        {"question_id": 3, "question": "s", "image": "z.png"},
    ]
    (tmp_path / "l.json").write_text(json.dumps(rows))
    found = read_question_lists([tmp_path / "l.json"])
    assert [one.weighted_answers() for one in found[:2]] == [{"a": 0.8, "b": 0.2}, {"c": 0.5}]
    assert found[2].answers == () and found[2].question_id == 3
    assert len(question_lists_test([str(tmp_path / "l.json")], "x")) == 3


@pytest.fixture
def root(tmp_path, red_picture):
    red_picture("vqa/x.png", (60, 40), (0, 0, 30, 40))  # the left half is red
    red_picture("vg/y.png", (60, 40), (0, 0, 30, 40))
    return tmp_path


def test_training(root):
    questions = [
        Question("What is it?", "x.png", 1, ("dog", "cat", "dog", "dog")),
        Question("Who?", "y.png", -1, ("me",), "vg"),
    ]
    data = QuestionTraining(questions, {"vqa": root / "vqa", "vg": root / "vg"}, side=32)
    batch = collate_questions([data[Draw(i, i)] for i in (0, 1)])
    assert batch["questions"] == ["what is it", "who"] and batch["answers"] == ["dog", "cat", "me"]
    assert batch["weights"].tolist() == pytest.approx([0.75, 0.25, 0.5]) and batch["answer_index"].tolist() == [0, 0, 1]
    assert batch["images"].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("text", "answer", "mirrored"), [("what", "dog", {0, 1}), ("what", "on the left", {0}), ("is it right", "no", {0})]
)
def test_pictures_are_mirrored_where_no_side_is_told(root, text, answer, mirrored):
    data = QuestionTraining(
        [Question(text, "x.png", 1, (answer,))], {"vqa": root / "vqa"}, side=32, scale=(1.0, 1.0), augmentation=None
    )
    sides = set()
    for number in range(20):
        red = (data[Draw(0, number)]["image"][0] > 190).float().mean(dim=0)
        sides.add(int(red[:16].mean() < red[16:].mean()))
    assert sides == mirrored


def test_testing(root):
    questions = [Question("What?", "x.png", 9, ("a",), "vqa", "what", "other")]
    data = QuestionTest(questions, root / "vqa", side=32, name="tiny")
    batch = collate_questions([data[0]])
    assert batch["question_ids"].tolist() == [9] and batch["references"] == [["a"]]
    assert batch["answer_types"] == ["other"] and batch["question_types"] == ["what"] and "answers" not in batch
    assert data.metainfo["questions"] == 1 and data.metainfo["dataset"] == "tiny"


def test_the_official_files_as_a_config_names_them(files, root):
    data = vqa_test(str(files[0]), str(root), str(files[1]), verify=False, side=32)
    assert len(data) == 1 and data.metainfo["dataset"] == "v2_OpenEnded_mscoco_val2014_questions"


def test_mistakes(root):
    with pytest.raises(InputError, match="no folder of pictures for 'vg'"):
        QuestionTraining([Question("q", "x", 1, ("a",), "vg")], {"vqa": root})
    with pytest.raises(InputError, match=r"question 1 .* has no answer to learn from"):
        QuestionTraining([Question("q", "x", 1)], {"vqa": root})
    with pytest.raises(InputError, match="no question"):
        QuestionTest([], root)
