import pytest

from ovdet.errors import InputError
from ovdet.metrics.vqa import answer_accuracy, plain_words, strip_marks, vqa_accuracy


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("red, blue", "red blue"),  # beside a space a mark goes
        ("red/blue", "red blue"),  # else it becomes a space
        ("T-shirt", "T shirt"),
        ("left.", "left"),
        ("3.5", "3.5"),
        ("3,000", "3000"),  # a comma within a number takes all marks out
        ("3,000/1", "30001"),
        ("it's 12:30", "it's 12:30"),
        ('"yes"!', " yes  "),
    ],
)
def test_marks(text, stripped):
    assert strip_marks(text) == stripped


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The two Dogs", "2 dogs"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("yalld've", "yalld've"),
        ("yall'd've", "y'all'd've"),
        ("twas", "'twas"),
        ("somebody'd", "somebodyd"),
        ("hell", "hell"),
        ("an apple", "apple"),
    ],
)
def test_words(text, plain):
    assert plain_words(text) == plain


@pytest.mark.parametrize(("equal", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_three_of_ten_are_enough_but_for_the_one_left_out(equal, accuracy):
    """With k equal ones, k sets of nine hold k - 1 of them and 10 - k sets hold k."""
    references = ["yes"] * equal + [f"other {i}" for i in range(10 - equal)]
    assert answer_accuracy("yes", references) == pytest.approx(accuracy)
    by_hand = (equal * min(1, (equal - 1) / 3) + (10 - equal) * min(1, equal / 3)) / 10 if equal else 0
    assert answer_accuracy("yes", references) == pytest.approx(by_hand)


def test_answers_are_written_alike_before_they_are_compared():
    assert answer_accuracy("The T-shirt.", ["t shirt"] * 5 + ["a t-shirt"] * 5) == 1
    assert answer_accuracy(" two\n", ["2"] * 9 + ["3"]) == 1


def test_where_all_agree_letters_are_compared():
    """As in the official evaluation, which writes answers alike only where people differ."""
    assert answer_accuracy("Yes", ["yes"] * 10) == 0 and answer_accuracy("yes\t", ["yes"] * 10) == 1


def test_by_type():
    references = [["yes"] * 10, ["2"] * 9 + ["3"], ["dog"] * 10]
    numbers = vqa_accuracy(["yes", "two", "cat"], references, ["yes/no", "number", ""])
    assert numbers == pytest.approx({"all": 200 / 3, "yes/no": 100, "number": 100})


def test_mistakes():
    with pytest.raises(InputError, match="1 answers to 2 questions"):
        vqa_accuracy(["a"], [["a"], ["b"]])
    with pytest.raises(InputError, match="without references"):
        answer_accuracy("a", [])
