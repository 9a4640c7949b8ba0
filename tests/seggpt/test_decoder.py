import pytest
import torch
from torch.nn import functional

from ovdet.seggpt import decoder as decoder_module
from ovdet.seggpt.decoder import PixelDecoder


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    decoder = PixelDecoder(in_channels=10, channels=6, patch=4).double()
    torch.nn.init.normal_(decoder.norm.weight)
    torch.nn.init.normal_(decoder.norm.bias)
    return decoder


def at_once(decoder, tokens):
    """The same network on the whole canvas, channels first."""
    count, rows, columns, _ = tokens.shape
    grid = decoder.expand(tokens).view(count, rows, columns, 4 * 4, 6).permute(0, 4, 3, 1, 2)  # (N, C, 16, h, w)
    pixels = functional.pixel_shuffle(grid.flatten(1, 2), 4)  # (N, C, 4 h, 4 w)
    mixed = functional.conv2d(pixels, decoder.conv.weight, decoder.conv.bias, padding=1)
    normed = functional.layer_norm(mixed.movedim(1, -1), (6,), decoder.norm.weight, decoder.norm.bias, 1e-6)
    return decoder.head(functional.gelu(normed).movedim(-1, 1))


@pytest.mark.parametrize("rows_of_band", [1, 2, 3, 5, 100])
@torch.no_grad()
def test_bands_make_no_difference(decoder, monkeypatch, rows_of_band):
    tokens = torch.randn(2, 5, 3, 10, dtype=torch.float64)
    monkeypatch.setattr(decoder_module, "BAND_BYTES", rows_of_band * 2 * 3 * 96 * 4)
    torch.testing.assert_close(decoder(tokens.split([3, 7], dim=3)), at_once(decoder, tokens))


@torch.no_grad()
def test_a_lower_part_needs_only_the_row_above_it(decoder):
    tokens = torch.randn(2, 6, 3, 10, dtype=torch.float64)
    whole = decoder(tokens.split([3, 7], dim=3))
    torch.testing.assert_close(decoder([tokens[:, 2:]], context=1), whole[:, :, 12:])
    alone = decoder([tokens[:, 3:]])
    torch.testing.assert_close(alone[:, :, 1:], whole[:, :, 13:])
    assert (alone[:, :, 0] - whole[:, :, 12]).abs().max() > 1e-3


def test_training_gives_the_same(decoder):
    tokens = torch.randn(2, 5, 3, 10, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(decoder(tokens.split([3, 7], dim=3)), at_once(decoder, tokens))
