"""The tool that finds the chance above which a sentence counts as true."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("benchmarks/absent_sentences.py")


def test_the_balanced_threshold_errs_alike_on_both_sides(tool):
    true, false = np.array([0.9, 0.8, 0.7, 0.2]), np.array([0.1, 0.3, 0.4, 0.75])
    chosen = tool.balanced(true, false)
    assert (true >= chosen).mean() == (false < chosen).mean() == 0.75


def test_each_scene_is_asked_its_own_sentences_and_the_next_ones(tool):
    class Oracle:
        def ground(self, picture, sentences, *, candidates, threshold):
            assert threshold == 0.0 and candidates == "detect"
            said = {"a": 0, "b": 1}
            return [SimpleNamespace(score=0.9 if said[text] == picture[0, 0, 0] else 0.2) for text in sentences]

    def sample(value, texts):
        return {"image": torch.full((3, 4, 4), value, dtype=torch.uint8), "texts": texts}

    data = [sample(0, ["a"]), sample(1, ["a", "b"]), sample(0, ["b"])]
    true, false = tool.ask(Oracle(), data, "detect")
    assert true.tolist() == [0.9, 0.2, 0.9] and false.tolist() == [0.2]
