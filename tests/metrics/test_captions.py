import math

import pytest

from ovdet.errors import InputError
from ovdet.metrics import captions
from ovdet.metrics.captions import caption_scores, plain_tokens

REFERENCES = {
    1: ["a man riding a wave on a surfboard.", "A surfer rides a large wave."],
    2: ["Two dogs play with a frisbee, on the grass", "dogs playing in a park"],
    3: ["a red bus (double-decker) parked on a street", "A bus."],
}
SAID = {1: "a man riding a wave", 2: "two dogs playing on the grass", 3: "a red double-decker bus"}


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's hat, (red) - on!", "a man's hat ( red ) on"),
        ("Two  dogs; 3 cats...", "two dogs 3 cats"),
        ("a double-decker bus", "a double-decker bus"),
        ("", ""),
    ],
)
def test_plain_tokens(caption, tokens):
    assert plain_tokens(caption) == tokens


def bleu(references, said, order):
    """Corpus BLEU by its definition: clipped n-gram precisions and the brevity penalty to the nearest reference."""
    hits, total, length, nearest = [0] * order, [0] * order, 0, 0
    for key, caption in said.items():
        words = plain_tokens(caption).split()
        known = [plain_tokens(one).split() for one in references[key]]
        length += len(words)
        nearest += min((abs(len(one) - len(words)), len(one)) for one in known)[1]
        for n in range(1, order + 1):
            grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
            total[n - 1] += len(grams)
            for gram in set(grams):
                most = max(sum(tuple(one[i : i + n]) == gram for i in range(len(one))) for one in known)
                hits[n - 1] += min(grams.count(gram), most)
    penalty = 1.0 if length > nearest else math.exp(1 - nearest / length)
    return penalty * math.prod(h / t for h, t in zip(hits, total, strict=True)) ** (1 / order)


def rouge(references, said):
    """Mean over pictures of the F measure (beta 1.2) of the best recall and precision of common subsequences."""

    def common(a, b):
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
        return table[-1][-1]

    scores = []
    for key, caption in said.items():
        words = plain_tokens(caption).split()
        known = [plain_tokens(one).split() for one in references[key]]
        recall = max(common(one, words) / len(one) for one in known)
        precision = max(common(one, words) / len(words) for one in known)
        scores.append((1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision) if recall * precision else 0)
    return sum(scores) / len(scores)


def test_scores_without_java(monkeypatch, caplog):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(captions, "find_java", lambda: False)
    scores = caption_scores(REFERENCES, SAID)
    for order in (1, 2, 3, 4):
        assert scores.numbers[f"BLEU-{order}"] == pytest.approx(100 * bleu(REFERENCES, SAID, order), rel=1e-4)
    assert scores.numbers["ROUGE-L"] == pytest.approx(100 * rouge(REFERENCES, SAID), rel=1e-6)
    assert scores.tokenizer == "plain" and "METEOR" not in scores.numbers
    assert scores.note.startswith("Java is not found, so METEOR is left out") and scores.note in caplog.text
    assert scores.evaluator.startswith("pycocoevalcap 1")


def test_repeating_a_reference_is_best(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(captions, "find_java", lambda: False)
    same = {key: texts[:1] for key, texts in REFERENCES.items()}
    numbers = caption_scores(same, {key: texts[0] for key, texts in same.items()}).numbers
    assert numbers["BLEU-4"] == pytest.approx(100, rel=1e-6) and numbers["ROUGE-L"] == pytest.approx(100)
    assert numbers["CIDEr"] == pytest.approx(1000)  # CIDEr's largest value is 10


@pytest.mark.slow
@pytest.mark.skipif(not captions.find_java(), reason="needs Java")
def test_scores_with_java():
    """Numbers of pycocoevalcap 1.2's own pipeline (PTB tokenizer, METEOR 1.5) on these three captions."""
    pytest.importorskip("pycocoevalcap")
    scores = caption_scores(REFERENCES, SAID, "ptb")
    assert scores.tokenizer == "ptb" and scores.note == ""
    assert scores.numbers["METEOR"] == pytest.approx(34.7653, abs=1e-3)
    assert scores.numbers["CIDEr"] == pytest.approx(243.8851, abs=1e-3)


def test_mistakes(monkeypatch):
    with pytest.raises(InputError, match=r"of the same pictures; \[2\] is on one side only"):
        caption_scores({1: ["a"], 2: ["b"]}, {1: "a"})
    with pytest.raises(InputError, match="picture 1 has no reference"):
        caption_scores({1: []}, {1: "a"})
    monkeypatch.setattr(captions, "find_java", lambda: False)
    with pytest.raises(InputError, match="the PTB tokenizer needs Java"):
        caption_scores({1: ["a"]}, {1: "a"}, "ptb")
    monkeypatch.setattr(captions, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'ovdet\[captions\]'"):
        caption_scores({1: ["a"]}, {1: "a"})


def test_a_java_that_does_not_run(monkeypatch):
    monkeypatch.setattr(captions.shutil, "which", lambda name: None)
    assert not captions.find_java()
