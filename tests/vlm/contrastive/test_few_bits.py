import pytest
import torch

from ovdet.vlm.contrastive.few_bits import GROUP, best_scales, code_range, pack, unpack


@pytest.mark.parametrize("bits", [3, 4])
def test_every_code_comes_back(bits):
    lowest, highest = code_range(bits)
    codes = torch.arange(lowest, highest + 1).float().repeat(GROUP)[: 2 * GROUP].repeat(3, 1)
    scales = torch.tensor([[0.5, -2.0]] * 3)
    weight = (codes.view(3, 2, GROUP) * scales[..., None]).view(3, 2 * GROUP)
    planes, stored = pack(weight, scales, bits)
    assert planes.shape == (bits, 3, 2 * GROUP // 8)
    assert torch.equal(unpack(planes, stored), weight)


def test_one_number_read_by_hand():
    weight = torch.zeros(2, GROUP)
    weight[1, 19] = 0.75  # code 3 at scale 0.25: 3 + 8 = 0b1011
    planes, _ = pack(weight, torch.full((2, 1), 0.25), bits=4)
    assert [(int(planes[bit, 1, 2]) >> 3) & 1 for bit in range(4)] == [1, 1, 0, 1]


def test_numbers_at_the_border_of_two_codes_stay_on_their_side():
    scales = torch.tensor([[0.0100037]])  # not a float16 number
    border = 2.5 * scales
    weight = torch.cat([border * (1 - 1e-5), border * (1 + 1e-5)], 1).repeat(1, GROUP // 2)
    planes, stored = pack(weight, scales, bits=4)
    assert stored.float() != scales
    assert torch.equal(
        (unpack(planes, stored) / stored.float()).round(), torch.tensor([[2.0, 3.0]]).repeat(1, GROUP // 2)
    )


@pytest.mark.parametrize("bits", [3, 4])
def test_the_error_is_half_a_step_where_nothing_is_clipped(bits):
    weight = torch.randn(5, 4 * GROUP, generator=torch.Generator().manual_seed(0))
    scales = (weight.view(5, 4, GROUP).abs().amax(-1) / code_range(bits)[1]).half().float()
    error = (unpack(*pack(weight, scales, bits)) - weight).abs().view(5, 4, GROUP)
    assert (error <= scales[..., None] * 0.5001).all()


@pytest.mark.parametrize("bits", [3, 4])
def test_best_scales_beat_a_scale_that_clips_nothing(bits):
    weight = torch.randn(64, 2 * GROUP, generator=torch.Generator().manual_seed(1)) ** 3  # long tails
    plain = weight.view(64, 2, GROUP).abs().amax(-1) / code_range(bits)[1]
    errors = [
        (unpack(*pack(weight, scales, bits)) - weight).square().view(64, 2, GROUP).sum(-1)
        for scales in (best_scales(weight, bits), plain)
    ]
    assert (errors[0] <= errors[1] * 1.02).all()
    assert errors[0].sum() < 0.8 * errors[1].sum()


def test_a_row_of_zeros_stays_zero():
    weight = torch.zeros(1, GROUP)
    assert torch.equal(unpack(*pack(weight, best_scales(weight, 4), 4)), weight)
