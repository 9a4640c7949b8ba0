import pytest

from ovdet.data.texts import clean_caption, clean_question, join_pieces, swap_sides, tells_sides
from ovdet.errors import InputError


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [  # measured on the official rules
        ("A man's hat, (red) -- on/off  left.", "a mans hat red on off left"),
        ("Two   dogs!! <person> & co; ~50% #1", "two dogs person & co 50% 1"),
        ('HELLO-world\'s "x" : y', "hello worlds x y"),
        ("a\tdog\n", "a\tdog"),  # a single tab stays
        ("a \n\n dog", "a dog"),
        ("  dog  ", "dog"),
    ],
)
def test_captions_are_cleaned_as_published(text, cleaned):
    assert clean_caption(text, 30) == cleaned


def test_captions_are_cut_at_a_word():
    assert clean_caption("one two. three four", 3) == "one two three"
    assert clean_caption("one two", 3) == "one two"


@pytest.mark.parametrize("text", ["", "   ", "?!", '".."\n'])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(InputError, match="no word"):
        clean_caption(text, 30)
    with pytest.raises(InputError, match="no word"):
        clean_question(text.strip(), 30)


def test_questions_keep_their_spaces():
    assert clean_question(" Is  it left/right? ", 30) == " is  it left right"
    assert clean_question("a  b", 2) == "a "  # an empty word counts, as published


def test_pieces_are_joined():
    assert join_pieces("a play ##ing dog ##gy ") == "a playing doggy"


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the dog left of the pizza", "the dog right of the pizza"),
        ("Left most, LEFT and right-hand", "Right most, RIGHT and left-hand"),
        ("the leftmost and the rightmost cup", "the rightmost and the leftmost cup"),
        ("upright bright cleft righteous", "upright bright cleft righteous"),
        ("the one further to the righthand side", "the one further to the lefthand side"),
    ],
)
def test_sides_are_swapped_in_whole_words_only(text, mirrored):
    assert swap_sides(text) == mirrored
    assert swap_sides(mirrored) == text


def test_the_published_guard_looks_inside_words():
    assert tells_sides(["a dog", "a bright day"]) and tells_sides(["The LEFT one"])
    assert not tells_sides(["a dog", "above it"])
