import itertools
import random
from collections import Counter

import pytest

from ovdet.errors import InputError
from ovdet.xvlm.masking import WordMasking

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "##s", "##ly", "cat", "runs", "far", "in", "mud")
MASK, CLS = 4, 2


def ids(*words):
    return [CLS, *(WORDS.index(word) for word in words)]


def masking(**changes):
    return WordMasking(WORDS, MASK, **changes)


@pytest.mark.parametrize(
    ("length", "hidden"), [(2, 1), (4, 1), (6, 2), (10, 2), (12, 3), (14, 4), (22, 6), (30, 8), (40, 8)]
)
def test_counts_are_a_quarter_with_halves_to_even(length, hidden):
    assert masking().count(length) == hidden


def test_as_many_as_wanted_are_hidden_and_never_the_first():
    sentence = ids("a", "dog", "##s", "##ly", "cat", "runs", "far", "in", "mud", "a", "cat")  # 12 tokens
    for seed in range(300):
        found = masking()(sentence, random.Random(seed))
        assert len(found.positions) == 3 == len(set(found.positions))
        assert 0 not in found.positions and found.ids[0] == CLS
        assert found.targets == [sentence[place] for place in found.positions]
        assert all(
            found.ids[place] == sentence[place] for place in range(len(sentence)) if place not in found.positions
        )


def test_whole_words_are_hidden_together():
    sentence = ids("a", "dog", "##s", "##ly", "cat", "runs", "far", "in", "mud", "a", "cat", "far")
    seen = Counter()
    for seed in range(300):
        found = set(masking(span_share=0.0)(sentence, random.Random(seed)).positions)
        seen[len(found & {2, 3, 4})] += 1
    assert seen[3] > 50  # the word of three pieces alone fills the count
    assert seen[1] + seen[2] < 150  # it is cut only where another word came first
    assert set(masking(span_share=0.0, most=1)(ids("dog", "##s"), random.Random(0)).positions) < {1, 2}


def test_spans_hide_neighbours_as_often_as_said():
    sentence = ids(*["a", "cat", "runs", "far", "in", "mud"] * 4)
    for seed in range(300):  # two spans of two, of which one token at most is dropped
        places = masking(most=3, span_share=1.0, longest_span=2)(sentence, random.Random(seed)).positions
        assert places == sorted(places) and any(b - a == 1 for a, b in itertools.pairwise(places))
    apart = [masking(most=2, span_share=0.0)(sentence, random.Random(seed)).positions for seed in range(300)]
    assert sum(b - a == 1 for a, b in apart) < 60


def test_eight_of_ten_become_the_mask_and_one_stays():
    sentence = ids(*["cat"] * 30)
    kinds = Counter()
    for seed in range(1000):
        found = masking()(sentence, random.Random(seed))
        for place in found.positions:
            token = found.ids[place]
            kinds["mask" if token == MASK else "same" if token == sentence[place] else "other"] += 1
    total = kinds.total()
    by_chance = 0.1 / len(WORDS)  # a random token may be the mask or the word itself
    assert kinds["mask"] / total == pytest.approx(0.8 + by_chance, abs=0.02)
    assert kinds["same"] / total == pytest.approx(0.1 + by_chance, abs=0.015)
    assert kinds["other"] / total == pytest.approx(0.1 - 2 * by_chance, abs=0.015)


def test_a_sentence_of_nothing_has_nothing_hidden_and_seeds_repeat():
    assert masking()([CLS], random.Random(0)).positions == []
    sentence = ids("a", "dog", "##s", "runs")
    assert masking()(sentence, random.Random(5)) == masking()(sentence, random.Random(5))


@pytest.mark.parametrize("wrong", [dict(share=0.0), dict(share=1.5), dict(most=0), dict(longest_span=1)])
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        masking(**wrong)
