import pytest

from ovdet.errors import InputError
from ovdet.seggpt.config import SegGPTConfig


def test_the_published_sizes():
    config = SegGPTConfig()
    assert config.grid_hw == (56, 28)
    assert config.picture_hw == (448, 448)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 3}, "multiple of heads"),
        ({"taps": (5, 11, 24)}, "below depth 24"),
        ({"taps": ()}, "taps must rise"),
        ({"taps": (11, 5)}, "taps must rise"),
        ({"merge_block": 6}, "first tap 5"),
        ({"canvas_hw": (888, 448)}, "whole patches"),
        ({"canvas_hw": (912, 448)}, "whole patches"),  # 57 rows of patches make no two pictures
        ({"drop_path": 1.0}, "drop_path"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"stem": "roots"}, "stem must be patches"),
        ({"stem": "trunk", "patch": 8}, "trunk with patches of 16"),
        ({"decoder": "pens", "stem": "trunk"}, "decoder must be pixels"),
        ({"looks": -1}, "looks must be 0"),
        ({"looks": 8}, "above with the stem trunk"),
        ({"decoder": "skips"}, "skips with the stem trunk"),
    ],
)
def test_contradictions_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        SegGPTConfig(**changes)


def test_lists_of_a_checkpoint_become_tuples():
    assert SegGPTConfig(canvas_hw=[896, 448], taps=[5, 11, 17, 23]) == SegGPTConfig()
