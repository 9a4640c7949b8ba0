import pytest
import torch
from torch.nn import functional

from ovdet.seggpt import decoder as decoder_module
from ovdet.seggpt.decoder import PixelDecoder, SkipDecoder


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


def test_outlines_come_from_the_finer_levels():
    """Tokens alone tell nothing here; a decoder that has learned reads a disc's outline off the picture."""
    torch.manual_seed(0)
    decoder = SkipDecoder(in_channels=4, widths=(8, 8, 8, 8)).train()
    line = torch.arange(64) - 31.5
    disc = (line[:, None] ** 2 + line**2 < 20**2).float()[None, None]  # (1, 1, 64, 64)
    taps, levels = [torch.zeros(1, 4, 4, 4)], (torch.zeros(1, 128, 8, 8), torch.zeros(1, 64, 16, 16))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(80):
        painted = decoder(taps, disc.expand(-1, 3, -1, -1), levels)
        optimizer.zero_grad()
        functional.mse_loss(painted, disc.expand(-1, 3, -1, -1)).backward()
        optimizer.step()
    found, wanted = painted.detach().mean(dim=1) > 0.5, disc[:, 0] > 0.5
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9  # cells of a token would give 0.8 at best


def test_each_level_reaches_the_colours():
    torch.manual_seed(0)
    decoder = SkipDecoder(in_channels=6, widths=(8, 6, 5, 4))
    inputs = [torch.randn(2, 2, 3, 6), torch.randn(2, 3, 32, 48), torch.randn(2, 128, 4, 6), torch.randn(2, 64, 8, 12)]
    for one in inputs:
        one.requires_grad_(True)
    painted = decoder(inputs[0].split([2, 4], dim=3), inputs[1], inputs[2:])
    assert painted.shape == (2, 3, 32, 48)
    painted.square().sum().backward()
    assert all(one.grad.abs().sum() > 0 for one in inputs)
