import numpy as np
import pytest

from ovdet.errors import InputError
from ovdet.metrics.retrieval import NOT_RANKED, rerank, retrieval_recall


def by_sorting(scores, owner, ranks):
    """Recalls by sorting every row, for scores without ties."""
    numbers = {}
    for name, rows, right in (
        ("TR", scores, lambda row, column: owner[column] == row),
        ("IR", scores.T, lambda row, column: owner[row] == column),
    ):
        for k in ranks:
            hits = [any(right(i, c) for c in np.argsort(-row)[:k]) for i, row in enumerate(rows)]
            numbers[f"{name}@{k}"] = 100 * float(np.mean(hits))
    return numbers


def test_against_sorting():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(12), 3)[rng.permutation(36)]
    scores = rng.normal(size=(12, 36)) + 1.2 * (np.arange(12)[:, None] == owner[None])
    found = retrieval_recall(scores, owner.tolist(), ranks=(1, 2, 5))
    expected = by_sorting(scores, owner, (1, 2, 5))
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["TR_mean"] == pytest.approx(np.mean([expected[f"TR@{k}"] for k in (1, 2, 5)]))
    assert found["mean"] == pytest.approx((found["TR_mean"] + found["IR_mean"]) / 2)


def test_a_tiny_case_by_hand():
    scores = [[0.9, 0.1, 0.5], [0.8, 0.2, 0.6]]  # text 0 and 1 are of picture 0, text 2 of picture 1
    numbers = retrieval_recall(scores, [0, 0, 1], ranks=(1, 2))
    assert numbers["TR@1"] == 50 and numbers["TR@2"] == 100
    assert numbers["IR@1"] == pytest.approx(200 / 3) and numbers["IR@2"] == 100


def test_equal_scores_are_no_hit():
    assert retrieval_recall(np.zeros((2, 2)), [0, 1], ranks=(1, 2)) == {
        **{"TR@1": 0, "TR@2": 100, "TR_mean": 50, "IR@1": 0, "IR@2": 100, "IR_mean": 50, "mean": 50}
    }


def test_pictures_of_a_text_may_have_scores_of_their_own():
    numbers = retrieval_recall(np.eye(3), [0, 1, 2], (1,), backward=1 - np.eye(3))
    assert numbers["TR@1"] == 100 and numbers["IR@1"] == 0


def test_the_second_stage_scores_the_best_of_the_first_alone():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    asked = []

    def score(row, columns):
        asked.append((row, tuple(columns)))
        return second[row, columns]

    found = rerank(first, 10, score, chunk=4)
    assert all(len(columns) <= 4 for _, columns in asked)
    for row in range(5):
        kept = set(np.argsort(-first[row])[:10])
        for column in range(40):
            assert found[row, column] == (second[row, column] if column in kept else NOT_RANKED)
    assert rerank(first, 99, lambda row, columns: second[row, columns]) == pytest.approx(second)


def test_mistakes():
    with pytest.raises(InputError, match=r"scores must be \(pictures, 3 texts\)"):
        retrieval_recall(np.zeros((2, 2)), [0, 1, 1])
    with pytest.raises(InputError, match=r"picture \[1\] has none"):
        retrieval_recall(np.zeros((2, 2)), [0, 0])
    with pytest.raises(InputError, match="backward scores"):
        retrieval_recall(np.zeros((2, 2)), [0, 1], backward=np.zeros((3, 2)))
    with pytest.raises(InputError, match="keep=0"):
        rerank(np.zeros((2, 2)), 0, lambda row, columns: columns)
