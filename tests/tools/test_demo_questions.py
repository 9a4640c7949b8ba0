"""The demo's questions, asked by the tool that counts right answers: how many the shipped models answer."""

import pytest

from ovdet import Grounder


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("benchmarks/demo_questions.py")


def test_right_is_a_box_that_overlaps_by_half_or_none_for_what_is_absent(tool):
    assert tool.is_right((0, 0, 10, 10), [0, 0, 10, 19]) and not tool.is_right((0, 0, 10, 10), [0, 0, 10, 21])
    assert tool.is_right(None, None)
    assert not tool.is_right(None, [0, 0, 1, 1]) and not tool.is_right((0, 0, 1, 1), None)


@pytest.mark.slow
def test_most_things_are_found_by_their_names_in_an_artists_manner_that_nothing_learned(tool):
    right, asked, wrong = tool.ask(Grounder(), "detect")
    assert dict(asked) == {"named": 29, "told by place or size": 10, "absent": 5}
    assert right["named"] >= 16 and right["absent"] >= 3
    assert right["told by place or size"] >= 3
    surely = (
        "the fox",
        "the lightning",
        "the broom",
        "the star",
        "the flatbread",
        "the peach",
        "the camel",
        "the gorilla",
    )
    assert not [sentence for sentence in wrong if sentence.partition(": ")[2] in surely]
