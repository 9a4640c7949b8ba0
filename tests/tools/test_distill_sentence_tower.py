import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ovdet.vlm.contrastive import sentence_tower
from ovdet.vlm.contrastive.sentence_tower import FORMAT, SentenceTower

SCRIPT = Path(__file__).parents[2] / "tools" / "distill" / "sentence_tower.py"
WORDS = ["cat", "dog", "horse", "photo", "cup", "boat", "##s", "a", "of", "red", "##e", "c", "##a", "##t", "1999"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
TEXTS = ["a photo of a cat", "red cups", "dogs", "a boat of horses", "cat", "red red boat"]


@pytest.fixture(scope="module")
def distill():
    sys.path.insert(0, str(SCRIPT.parent))  # as when it is run as a script
    spec = importlib.util.spec_from_file_location("distill_sentence_tower", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    monkeypatch.setattr(sentence_tower, "DEPTH", 1)  # the same layers, fewer of them: seconds instead of a minute


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return SentenceTower(VOCABULARY).eval().requires_grad_(False)


def test_the_weights_file_computes_what_was_trained(distill, teacher, tmp_path):
    student = distill.RoundedTower(distill.start_student(teacher, range(len(VOCABULARY)))).eval()
    with torch.no_grad():
        trained = student(*student.tower.tokenize(TEXTS))
    save_file(student.packed(), tmp_path / "w.safetensors", metadata={"format": FORMAT})
    stored = SentenceTower.load(tmp_path / "w.safetensors").encode(TEXTS)
    assert (trained * stored).sum(1).min() > 0.9995  # what is left: scales and biases as float16
    assert (trained * teacher.encode(TEXTS)).sum(1).max() < 0.9999  # it did compute with rounded matrices


def test_the_vocabulary_keeps_what_is_used_and_single_characters(distill, teacher):
    always = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##s", "##e", "c", "##a", "##t"}
    for size, words in ((11, {"boat"}), (12, {"boat", "cat"}), (16, {"boat", "cat", "dog", "horse", "photo", "cup"})):
        kept = distill.choose_vocabulary(teacher, ["boat boat boat", "cup 1999 1999 1999"], size)
        assert {VOCABULARY[i] for i in kept} == always | words
        assert kept == sorted(kept)


def test_one_step_learns_and_relations_vanish_for_equal_vectors(distill, teacher):
    student = distill.RoundedTower(distill.start_student(teacher, range(len(VOCABULARY))))
    distiller = distill.Distiller(teacher, student, longest=16)
    before = distiller.losses(TEXTS)
    before["total"].backward()
    assert all(p.grad is not None for p in student.parameters())
    with torch.no_grad():
        for p in student.parameters():
            p -= 2e-3 * p.grad
    assert distiller.losses(TEXTS)["total"] < before["total"]
    vectors = teacher.encode(TEXTS)
    assert distill.relation_loss(vectors, vectors).abs() < 1e-6


def test_states_are_compared_only_where_both_split_alike(distill):
    mask, same = torch.ones(2, 3, dtype=torch.bool), torch.tensor([True, False])
    ours, theirs = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    theirs[0] += 2.0
    ours[0] += 1.0  # a relative squared error of 1/4
    ours[1] += 100.0
    assert torch.isclose(distill.state_loss([ours], [theirs], mask, same), torch.tensor(0.25))


def test_training_goes_on_where_it_was_killed(distill):
    texts = [f"text {i}" * (1 + i % 7) for i in range(100)]
    stream = distill.stream(texts, size=8, seed=3, skip=0)
    whole = [next(stream) for _ in range(20)]
    again = distill.stream(texts, size=8, seed=3, skip=15)
    assert [next(again) for _ in range(5)] == whole[15:]
    first_pass = [text for batch in whole[:12] for text in batch]
    assert len(set(first_pass)) == len(first_pass) == 96


def test_rank_correlation_is_scipys(distill):
    stats = pytest.importorskip("scipy.stats")
    a, b = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert torch.allclose(
        importlib.import_module("agreement").rank_correlation(a, b), torch.tensor(expected, dtype=torch.double)
    )


def test_agreement_by_hand(distill):
    bank = torch.eye(6)
    theirs = torch.tensor([[0.9, 0.5, 0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.9]])
    ours = torch.tensor([[0.8, 0.9, 0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.9]])
    same = torch.zeros(2, 6, dtype=torch.bool)
    found = distill.agreement((ours, bank), (theirs, bank), same)
    assert found["top-1"] == 0.5
    assert found["in top-5"] == 1.0
    assert found["Spearman"] == pytest.approx((1 + 33 / 35) / 2)  # two neighbours swapped among six: 1 - 6*2/210
    same[0, 0] = True  # the bank entry with the query's own text does not count
    assert distill.agreement((ours, bank), (theirs, bank), same)["top-1"] == 1.0


def test_a_wrong_folder_or_file_is_one_sentence(distill, tmp_path, capsys):
    (tmp_path / "texts.tsv").write_text("train\tlemma\tcat\nno tabs here\n")
    arguments = ["evaluate", "--teacher", str(tmp_path), "--texts", str(tmp_path / "texts.tsv")]
    assert distill.main(arguments) == 2
    assert "has no model.safetensors" in capsys.readouterr().err
    with pytest.raises(distill.InputError, match="line 2"):
        distill.read_texts(tmp_path / "texts.tsv")
