import json

import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.metrics import captions
from ovdet.metrics.sentence_evaluators import (
    CaptionMetric,
    GroundingMetric,
    PairMetric,
    QuestionMetric,
    RetrievalMetric,
)

META = {"dataset": "tiny", "split_sha256": "abc", "sentences": 5, "classes": ("x",)}


def batch_of(things=None):
    """Two pictures; three sentences about the first, none about the second, two about the third."""
    batch = {
        "images": torch.zeros(3, 3, 8, 8, dtype=torch.uint8),
        "image_index": torch.tensor([0, 0, 0, 2, 2]),
        "boxes_xyxy": torch.tensor([[0.0, 0, 10, 10]] * 5),
        "tags": [("val",), ("val",), ("testA",), ("testA",), ()],
    }
    return batch | ({"things_xyxy": things} if things else {})


RIGHT, WRONG = {"box_xyxy": torch.tensor([0.0, 0, 10, 9])}, {"box_xyxy": torch.tensor([20.0, 0, 30, 9])}


def test_grounding_by_hand():
    metric = GroundingMetric()
    metric.dataset_meta = META
    metric.process(batch_of(), [RIGHT, WRONG, RIGHT, {"box_xyxy": None}, {}])
    numbers = metric.evaluate(size=3)  # pictures, one of them without a sentence
    assert {key: value for key, value in numbers.items() if "plain" in key} == {
        "grounding/all_plain": 40,
        "grounding/val_plain": 50,
        "grounding/testA_plain": 50,
    }
    assert numbers["grounding/all_sentences"] == 5 and numbers["grounding/testA_inclusive"] == 50
    assert metric.report["protocol"]["dataset"] == "tiny" and metric.report["protocol"]["split_sha256"] == "abc"
    assert "inclusive" in metric.report["protocol"]["metric"] and metric.report["protocol"]["supervision"] == "boxes"


def test_things_that_are_known_are_picked():
    things = [torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])] * 3
    metric = GroundingMetric()
    loose = {"box_xyxy": torch.tensor([0.0, 0, 14, 30])}
    metric.process(batch_of(things), [loose, WRONG, RIGHT, {"box_xyxy": None}, loose])
    numbers = metric.evaluate(size=3)
    assert numbers["grounding/all_picked"] == 60 and numbers["grounding/all_plain"] == 20


def test_heat_chooses_among_the_boxes_of_a_detector():
    heat = np.zeros((40, 40))
    heat[:10, :10] = 1
    detected = [torch.tensor([[20.0, 20, 30, 30], [0, 0, 10, 9]]), torch.zeros(0, 4), torch.zeros(0, 4)]
    metric = GroundingMetric(prefix="weak")
    metric.process(batch_of(detected), [{"heat": heat}] * 5)
    numbers = metric.evaluate(size=3)
    assert numbers["weak/all_plain"] == 60  # no box was found in the last picture
    assert metric.report["protocol"]["heat_exponent"] == 0.5
    assert "weak" in metric.report["protocol"]["supervision"] and "weak/all_picked" not in numbers


def test_answers_must_be_as_many_as_sentences():
    with pytest.raises(InputError, match="4 answers to 5 sentences"):
        GroundingMetric().process(batch_of(), [RIGHT] * 4)


def test_retrieval():
    metric = RetrievalMetric()
    metric.dataset_meta = {}
    eye = torch.eye(3)
    texts = [eye[[0, 0]], eye[[2]], eye[[1]]]  # the texts of pictures 1 and 2 are exchanged
    metric.process({}, [{"image_vector": eye[i], "text_vectors": texts[i]} for i in range(3)])
    numbers = metric.evaluate(size=3)
    assert numbers["retrieval/TR@1"] == pytest.approx(100 / 3) and numbers["retrieval/IR@1"] == 50
    assert metric.report["protocol"]["texts"] == 4


def test_retrieval_in_two_stages():
    """Two near pictures that the first stage takes for each other; the second, here a table, knows better."""
    vectors = torch.eye(3)
    table = np.array([[1.0, 0.2, 0.4], [0.1, 1.0, 9.0], [0.3, 0.2, 0.9]])  # 9: beyond the second stage's reach
    asked = []

    def score(tokens, states, pairs):
        asked.append(len(pairs))
        return [table[int(tokens[i]), int(states[k])] for i, k in pairs]

    metric = RetrievalMetric(keep=2)
    metric.dataset_meta = {}
    near = torch.tensor([[0.6, 0.8, 0], [0.8, 0.6, 0], [0, 0, 1.0]])
    answers = [
        {"image_vector": vectors[i], "text_vectors": near[i : i + 1], "tokens": i, "text_states": [i]} for i in range(3)
    ]
    metric.process({}, answers)
    with pytest.raises(InputError, match=r"add dict\(type=SecondStageHook\)"):
        metric.compute_metrics(metric.results)
    metric.score_pairs = score
    numbers = metric.evaluate(size=3)
    assert numbers["retrieval/first_TR@1"] == pytest.approx(100 / 3) == numbers["retrieval/first_IR@1"]
    assert numbers["retrieval/TR@1"] == numbers["retrieval/IR@1"] == 100
    assert asked == [2] * 6 and "the 2 nearest" in metric.report["protocol"]["metric"]


def test_questions(tmp_path):
    metric = QuestionMetric(out=tmp_path / "answers.json")
    batch = {
        "question_ids": torch.tensor([5, 6]),
        "references": [["yes"] * 10, ["2"] * 5 + ["two dogs"] * 5],
        "answer_types": ["yes/no", "number"],
    }
    metric.process(batch, [{"answer": "no"}, {"answer": "two"}])
    numbers = metric.evaluate(size=2)
    assert numbers == {"vqa/all": 50, "vqa/yes/no": 0, "vqa/number": 100, "vqa/answered": 2}
    assert json.loads((tmp_path / "answers.json").read_text()) == [
        {"question_id": 5, "answer": "no"},
        {"question_id": 6, "answer": "two"},
    ]


def test_questions_without_public_answers_are_only_written():
    metric = QuestionMetric()
    metric.process({"question_ids": torch.tensor([5]), "references": [[]], "answer_types": [""]}, [{"answer": "no"}])
    assert metric.evaluate(size=1) == {"vqa/answered": 1}


def test_pairs():
    metric = PairMetric()
    metric.process({"label": torch.tensor([1, 0, 1, 0])}, [{"label": 1}, {"label": 1}, {"label": 1}, {"label": 0}])
    assert metric.evaluate(size=4) == {"nlvr/accuracy": 75}


def test_captions_that_cannot_be_scored_are_refused_before_the_work(monkeypatch):
    monkeypatch.setattr(captions, "find_java", lambda: False)
    monkeypatch.setattr(captions, "find_spec", lambda name: "here")
    CaptionMetric()
    with pytest.raises(InputError, match="the PTB tokenizer needs Java"):
        CaptionMetric(tokenizer="ptb")
    monkeypatch.setattr(captions, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install 'ovdet\\[captions\\]'"):
        CaptionMetric()


def test_captions(tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(captions, "find_java", lambda: False)
    metric = CaptionMetric(out=tmp_path / "captions.json")
    batch = {"image_ids": torch.tensor([5, 6]), "references": [["a dog on a sofa"], ["two red cars parked"]]}
    metric.process(batch, [{"caption": "a dog on a sofa"}, {"caption": "two red cars parked"}])
    numbers = metric.evaluate(size=2)
    assert numbers["caption/BLEU-4"] == pytest.approx(100, rel=1e-6)
    assert metric.report["evaluator"].startswith("pycocoevalcap") and metric.report["protocol"]["tokenizer"] == "plain"
    assert metric.report["protocol"]["note"].startswith("Java is not found")
    assert json.loads((tmp_path / "captions.json").read_text())[0] == {"image_id": 5, "caption": "a dog on a sofa"}
