"""The demo's examples, counted by the tool: how many of their things the shipped models mark in the demo's scenes."""

import numpy as np
import pytest

from ovdet import Segmenter
from ovdet.results import Detections


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("benchmarks/demo_examples.py")


def found(*box):
    mask = np.zeros((20, 20), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return Detections(np.float32([box]), [0.5], [0], ["cup"], (20, 20), mask[None])


def test_right_is_a_mark_that_overlaps_by_half_or_none_for_what_is_absent(tool):
    nothing = Detections.empty(["cup"], (20, 20), masks=True)
    assert tool.is_right(found(0, 0, 10, 10), [[0, 0, 10, 19]]) and not tool.is_right(
        found(0, 0, 9, 9), [[0, 0, 9, 19]]
    )
    assert tool.is_right(nothing, []) and not tool.is_right(nothing, [[0, 0, 10, 10]])
    assert tool.is_right(found(3, 3, 4, 4), []) and not tool.is_right(found(3, 3, 6, 6), []), "a speck is no mark"


@pytest.mark.slow
def test_a_detectors_masks_that_fit_are_mostly_right(tool):
    there, elsewhere = tool.show(Segmenter("stickers"), "detect")
    assert len(there) == 5 and len(elsewhere) == 20
    assert sum(there) >= 3 and sum(elsewhere) >= 13
