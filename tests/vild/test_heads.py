import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ovdet.vild.heads import BoxHead, EncoderSizes, Float32RPNHead, ImageHead, cosine_logits


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def detpro_box_head():
    return BoxHead(EncoderSizes(num_fcs=1), 512, nn.BatchNorm2d)


def test_parameter_counts_of_the_text_branch(detpro_box_head):  # acceptance 1
    head = detpro_box_head
    convs = [block.conv for block in head.shared_convs]
    norms = [block.norm for block in head.shared_convs]
    assert sum(count(conv) for conv in convs) == 2_359_296
    assert sum(count(norm) for norm in norms) == 2_048
    assert count(head.shared_fcs) == 12_846_080
    assert count(head.proj) == 524_800
    assert count(head.fc_reg) == 4_100
    assert head.bg_embedding.numel() == 512
    assert count(head) == 2_359_296 + 2_048 + 12_846_080 + 524_800 + 4_100 + 512


def test_parameter_counts_of_the_image_branch_and_the_second_fc(detpro_box_head):  # acceptance 1
    image = ImageHead(EncoderSizes(num_fcs=1), 512, nn.BatchNorm2d)
    assert count(image) == 15_732_224
    two = ImageHead(EncoderSizes(num_fcs=2), 512, nn.BatchNorm2d)
    assert count(two) - count(image) == 1_049_600


def test_background_starts_small_and_the_projection_has_a_bias(detpro_box_head):
    assert 0.008 < detpro_box_head.bg_embedding.std() < 0.012
    assert detpro_box_head.proj.bias is not None


def test_the_box_is_read_before_the_projection():
    sizes = EncoderSizes(in_channels=4, conv_channels=4, num_convs=1, fc_channels=8, num_fcs=1)
    head = BoxHead(sizes, 6, nn.BatchNorm2d).eval()
    features = torch.randn(3, 4, 7, 7)
    _, before = head(features)
    nn.init.normal_(head.proj.weight)
    assert torch.equal(head(features)[1], before)


def test_logits_are_cosines_over_the_temperature():
    embeddings, names, background = torch.randn(4, 16), F.normalize(torch.randn(3, 16), dim=1), torch.randn(16)
    expected = [
        [float(F.cosine_similarity(row, column, dim=0)) * 100 for column in [*names, background]] for row in embeddings
    ]
    torch.testing.assert_close(cosine_logits(embeddings, names, background, 0.01), torch.tensor(expected))
    assert cosine_logits(embeddings, names, None, 0.01).shape == (4, 3)


def test_temperatures_scale_as_published():  # acceptance 5
    names = torch.eye(4)[:2]
    row = torch.tensor([[1.0, 0, 0, 0]])
    assert cosine_logits(row, names, None, 0.01)[0, 0].item() == pytest.approx(100.0)
    assert cosine_logits(row, names, None, 0.007)[0, 0].item() == pytest.approx(142.857, abs=1e-3)


def test_scaling_the_background_changes_nothing():  # acceptance 5
    embeddings, names, background = torch.randn(4, 16), F.normalize(torch.randn(3, 16), dim=1), torch.randn(16) * 0.01
    once, ten = (cosine_logits(embeddings, names, background * scale, 0.01) for scale in (1, 10))
    torch.testing.assert_close(once, ten)


def test_logits_stay_float32_under_autocast():
    embeddings, names, background = torch.randn(8, 64), F.normalize(torch.randn(5, 64), dim=1), torch.randn(64)
    expected = cosine_logits(embeddings, names, background, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        under = cosine_logits(embeddings, names, background, 0.01)
    assert under.dtype == torch.float32
    assert torch.equal(under, expected)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_normalised_fcs_take_any_number_of_regions(rows):  # pitfall 13: lists, never padding
    sizes = EncoderSizes(in_channels=4, conv_channels=4, num_convs=1, fc_channels=8, num_fcs=2)
    head = ImageHead(sizes, 6, nn.BatchNorm2d, nn.BatchNorm1d).train()
    out = head(torch.randn(rows, 4, 7, 7))
    out.sum().backward()
    assert out.shape == (rows, 6)
    assert all(torch.isfinite(buffer).all() for buffer in head.buffers())
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_no_region_no_statistics():  # pitfall 13: an empty batch leaves the running statistics as they were
    head = ImageHead(EncoderSizes(4, 7, 4, 1, 8, 1), 6, nn.BatchNorm2d).train()
    before = {name: value.clone() for name, value in head.named_buffers()}
    head(torch.randn(0, 4, 7, 7))
    assert all(torch.equal(value, before[name]) for name, value in head.named_buffers())


def test_proposals_are_laid_out_in_float32_under_autocast():
    head = Float32RPNHead(in_channels=8, feat_channels=8)
    with torch.autocast("cpu", torch.bfloat16):
        scores, deltas = head(tuple(torch.randn(1, 8, 4, 4) for _ in range(5)))
    assert {level.dtype for level in [*scores, *deltas]} == {torch.float32}
