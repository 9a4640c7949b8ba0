"""VQA's accuracy (arXiv:1505.00468): an answer is as right as others gave it, three of ten being enough.

Answers are written alike before they are compared: marks, articles, number words and contractions, by the rules of the
official evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from ovdet.errors import InputError

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = {"a", "an", "the"}
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_STRAY_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32
"""The official evaluation hands a flag of this value over as the number of periods to take out."""

_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've  he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't "
    "must've needn't not've  o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd  someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're  there's they'd they'd've they'll they're they've 'twas wasn't we'd've "
    "we've weren't what'll what're what's what've  when's where'd where's where've who'd who'd've who'll who's "
    "who've why'll why're why's won't would've wouldn't  wouldn't've y'all y'all'll y'all'd've you'd you'd've "
    "you'll you're you've 'ow's'at"
)
"""Words that are also found with an apostrophe missing. The list of the official evaluation; "he'll" is not in it."""


@cache
def _contractions() -> dict[str, str]:
    """Each contraction by the forms that lack one apostrophe."""
    forms = {"somebody'd": "somebodyd"}  # as the official list has it
    for word in _CONTRACTED.split():
        for place, letter in enumerate(word):
            if letter == "'":
                forms[word[:place] + word[place + 1 :]] = word
    return forms


def strip_marks(text: str) -> str:
    """Take punctuation out: where a mark stands beside a space it goes, else it becomes a space."""
    inside_number = bool(_COMMA_IN_NUMBER.search(text))
    result = text
    for mark in _MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_space or inside_number else " ")
    return _STRAY_PERIOD.sub("", result, count=_PERIODS)


def plain_words(text: str) -> str:
    """Lower case, without articles; number words as digits, contractions with their apostrophes."""
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_contractions().get(word, word) for word in words if word not in _ARTICLES)


def answer_accuracy(answer: str, references: Sequence[str]) -> float:
    """How right one answer is, in [0, 1]: the mean over all sets of the references that lack one of min(1, equal / 3).

    Where all references are the same they are compared letter by letter, as in the official evaluation.

    Args:
        answer: of the model.
        references: what people said, ten in VQA.

    Raises:
        InputError: there is no reference.
    """
    if not references:
        raise InputError("an answer cannot be judged without references")
    said, *known = (text.replace("\n", " ").replace("\t", " ").strip() for text in (answer, *references))
    if len(set(known)) > 1:
        said, *known = (plain_words(strip_marks(text)) for text in (said, *known))
    equal = np.array([one == said for one in known])
    others = equal.sum() - equal  # without each reference in turn
    return float(np.minimum(1, others / 3).mean())


def vqa_accuracy(
    answers: Sequence[str], references: Sequence[Sequence[str]], answer_types: Sequence[str] | None = None
) -> dict[str, float]:
    """Mean accuracy in percent, over all and by type of answer.

    Args:
        answers: of the model.
        references: of each question.
        answer_types: "yes/no", "number" or "other" of each question; "" counts for "all" alone.

    Returns:
        "all" and each type.

    Raises:
        InputError: the numbers differ, or there is no question.
    """
    if len(answers) != len(references) or not answers:
        raise InputError(f"there are {len(answers)} answers to {len(references)} questions")
    each = np.array([answer_accuracy(one, known) for one, known in zip(answers, references, strict=True)])
    numbers = {"all": 100 * float(each.mean())}
    types = np.array(answer_types if answer_types is not None else [""] * len(answers))
    for kind in sorted(set(types.tolist()) - {""}):
        numbers[kind] = 100 * float(each[types == kind].mean())
    return numbers
