import numpy as np
import pytest

from ovdet.errors import InputError
from ovdet.xvlm.candidates import SEVERAL, distinct, means_several, tolerances


@pytest.mark.parametrize(
    "sentence",
    [
        "all dogs left of the pizza",
        "All of the red cups.",
        "dogs",
        "the dogs to the left of the pizza",
        "the largest boxes on the table",
        "dogs playing with a ball",
        "the children",
        "a dog",
        "an owl above the bus",
        "every chair with four legs",
        "two cats",
        "these buses right of the man",
    ],
)
def test_they_mean_several(sentence):
    assert means_several(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "the dog left of the pizza",
        "the dog to the left of the cups",
        "the leftmost bus",
        "dog",
        "the glass with flowers",
        "the scissors",
        "this cactus between the boxes",
        "the man holding two cups",
        "the octopus",
        "one dog",
        "the flying bird",
        "the right shoe",
    ],
)
def test_they_mean_one(sentence):
    assert not means_several(sentence)


def test_a_sentence_without_a_word_is_refused():
    with pytest.raises(InputError, match="has no word"):
        means_several("!?")


def test_differences_count_less_where_several_are_meant():
    assert tolerances(["the dog", "all dogs"]).tolist() == [1, SEVERAL]


def test_of_boxes_of_one_thing_the_best_is_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 7, 10, 17], [30, 30, 40, 40], [0, 0, 10, 8]], np.float32)
    scores = np.array([0.6, 0.9, 0.6, 0.7, 0.1], np.float32)
    assert distinct(boxes, scores, 0.5).tolist() == [1, 3, 2]
    assert distinct(boxes, scores, 0.95).tolist() == []
    assert distinct(boxes[:0], scores[:0], 0.5).tolist() == []
