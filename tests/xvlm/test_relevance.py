import pytest
import torch
from torch.nn import functional as F

from ovdet.errors import CapabilityError, InputError
from ovdet.xvlm.build import xvlm, xvlm_small
from ovdet.xvlm.relevance import relevance_maps, spread_over_picture


def attention_by_hand(layer, x, tokens, change):
    """A cross layer in which the probabilities of head 1 are changed."""
    cross, heads = layer.cross_attn, layer.cross_attn.heads
    x = layer.norm1(x + layer.self_attn(x, x, x)[0])
    parts = []
    for head in range(heads):
        rows = slice(head * (x.shape[2] // heads), (head + 1) * (x.shape[2] // heads))
        query = F.linear(x, cross.query.weight[rows], cross.query.bias[rows])
        key = F.linear(tokens, cross.key.weight[rows], cross.key.bias[rows])
        value = F.linear(tokens, cross.value.weight[rows], cross.value.bias[rows])
        shares = (query @ key.transpose(1, 2) / query.shape[2] ** 0.5).softmax(-1)
        parts.append((shares + (change if head == 1 else 0)) @ value)
    x = layer.norm2(x + cross.out(torch.cat(parts, -1)))
    return layer.norm3(x + layer.linear2(F.gelu(layer.linear1(x)))), shares


@pytest.fixture
def asked(model, tokens):
    ids, mask = tokens(["the red square", "playing dog left"])
    pictures = model.encode_images(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).tokens
    return ids, mask, pictures.detach()


def test_slopes_are_those_of_small_changes(model, asked):
    """Only head 1 is left in the sum; its gradient is taken by finite differences."""
    ids, mask, pictures = asked[0][1:], asked[1][1:], asked[2][1:]  # a sentence without padding
    model.double()
    pictures = pictures.double()
    first, second = model.fusion.layers
    second.cross_attn.value.weight.data[:8] = 0  # heads 0, 2 and 3 carry nothing that depends on the picture
    second.cross_attn.value.weight.data[16:] = 0
    second.cross_attn.value.bias.data[:8] = second.cross_attn.value.bias.data[16:] = 0
    heat = relevance_maps(model, ids, mask, pictures, layer=1)
    assert heat.shape == (1, 4, 4) and (heat >= 0).all() and heat.max() > 0
    with torch.no_grad():
        states = first(model.encode_text(ids, mask), mask, pictures)
        length, count = ids.shape[1], pictures.shape[1]
        expected = torch.zeros(count, dtype=torch.double)
        shares_of = second.cross_attn
        x = second.norm1(states + second.self_attn(states, states, states)[0])
        query, key = shares_of.split(shares_of.query(x))[:, 1], shares_of.split(shares_of.key(pictures))[:, 1]
        shares = (query @ key.transpose(1, 2) / query.shape[2] ** 0.5).softmax(-1)[0]
        for word in range(length):
            for place in range(count):
                ends = []
                for sign in (1, -1):
                    change = torch.zeros(1, length, count, dtype=torch.double)
                    change[0, word, place] = sign * 1e-5
                    out, _ = attention_by_hand(second, states, pictures, change)
                    ends.append(model.match_head(out[:, 0])[0, 1].item())
                expected[place] += shares[word, place] * max((ends[0] - ends[1]) / 2e-5, 0)
    expected = expected[1:].view(4, 4) / (length * 4)
    torch.testing.assert_close(heat[0], expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_sentences_map_does_not_depend_on_its_neighbours(model, asked, layer):
    ids, mask, pictures = asked
    both = relevance_maps(model, ids, mask, pictures, layer)
    alone = relevance_maps(model, ids[1:], mask[1:], pictures[1:], layer)
    torch.testing.assert_close(both[1:], alone, atol=1e-6, rtol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())
    one = relevance_maps(model, ids, mask, pictures[:1], layer)
    torch.testing.assert_close(one[:1], both[:1], atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(relevance_maps(model, ids, mask, pictures, layer), both)


def test_padded_words_count_as_nothing(model, asked):
    ids, mask, pictures = asked
    longer = F.pad(ids[:1], (0, 2)), F.pad(mask[:1], (0, 2))
    length = ids.shape[1]
    wide, narrow = (
        relevance_maps(model, *longer, pictures[:1], 1),
        relevance_maps(model, ids[:1], mask[:1], pictures[:1], 1),
    )
    torch.testing.assert_close(wide * (length + 2) / length, narrow, atol=1e-6, rtol=1e-4)


def test_maps_are_spread_over_the_picture():
    heat = torch.rand(2, 4, 4)
    assert spread_over_picture(heat, (30, 50)).shape == (2, 30, 50)
    torch.testing.assert_close(spread_over_picture(torch.full((1, 4, 4), 2.0), (8, 9)), torch.full((1, 8, 9), 2.0))


def test_what_cannot_be_mapped_is_refused(model, asked, swin_sizes, text_sizes):
    ids, mask, pictures = asked
    with pytest.raises(InputError, match=r"layer must lie in 0\.\.1"):
        relevance_maps(model, ids, mask, pictures, 2)
    with pytest.raises(InputError, match="eval mode"):
        relevance_maps(model.train(), ids, mask, pictures, 1)
    with pytest.raises(CapabilityError, match="no matching head"):
        relevance_maps(xvlm("box", swin_sizes, text_sizes).eval(), ids, mask, pictures, 1)
    small = xvlm_small(64, 32).eval()
    small.image_encoder.strides = (16, 32)
    with pytest.raises(InputError, match="several levels"):
        relevance_maps(small, ids, mask, pictures, 1)
