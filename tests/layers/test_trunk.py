"""The compact trunk."""

import itertools

import pytest
import torch

from ovdet.layers.trunk import CompactTrunk


@pytest.mark.parametrize("side", [64, 100, 256])
def test_levels_have_the_strides_and_widths_that_they_promise(side):
    trunk = CompactTrunk((8, 12, 16, 20, 24)).eval()
    levels = trunk(torch.rand(2, 3, side, side))
    sides = [-(-side // stride) for stride in (8, 16, 32)]
    assert [tuple(level.shape) for level in levels] == [
        (2, width, s, s) for width, s in zip((16, 20, 24), sides, strict=True)
    ]
    assert trunk.out_channels == (16, 20, 24)


def test_every_parameter_learns_from_the_last_level():
    trunk = CompactTrunk((8, 8, 8, 8, 8))
    trunk(torch.rand(2, 3, 64, 64))[2].square().sum().backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_number_of_parameters_by_hand():
    def conv(i, o):
        return 9 * i * o + 2 * o

    widths = (32, 64, 128, 256, 256)
    pairs = itertools.pairwise(widths)
    by_hand = conv(3, 32) + sum(conv(before, after) + 2 * conv(after, after) for before, after in pairs)
    assert sum(p.numel() for p in CompactTrunk().parameters()) == by_hand
