"""Weights that lie in the package, or do not."""

import pytest

from ovdet.errors import InputError
from ovdet.layers.shipped import ShippedModel


def test_a_file_is_measured_and_a_missing_one_is_told(tmp_path):
    one = ShippedModel(tmp_path / "one.safetensors", "drawings", "Apache-2.0", "made here")
    assert not one.is_here and one.size_mb == 0
    with pytest.raises(InputError, match="'stickers' are missing from this installation"):
        one.checked_path("stickers")
    one.path.write_bytes(b"0" * 1_000_001)
    assert one.is_here and one.size_mb == 2 and one.checked_path("stickers") == one.path
