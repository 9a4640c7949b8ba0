"""Devices on which every operator is tested."""

from __future__ import annotations

import pytest
import torch

import ovdet  # noqa: F401  (mmcv.ops imports after it)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.fixture
def random(device):
    """A function that draws reproducible numbers: `random(2, 3)` uniform in [0, 1), float64, on the device."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64).to(device)
