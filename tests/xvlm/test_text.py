import pytest
import torch
from torch import nn

from ovdet.errors import InputError
from ovdet.xvlm.text import (
    CrossAttention,
    CrossEncoder,
    PairCrossEncoder,
    SharedTokens,
    TextEncoder,
    WordHead,
)


@pytest.fixture
def sentences():
    ids = torch.randint(5, 20, (4, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[1, 3:] = False
    return ids, mask


def loud(module):
    """Weights large enough for differences to show."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return module.eval()


def test_what_is_padded_does_not_matter(text_sizes, sentences):
    ids, mask = sentences
    encoder = loud(TextEncoder(text_sizes))
    changed = ids.masked_fill(~mask, 9)
    torch.testing.assert_close(encoder(ids, mask)[mask], encoder(changed, mask)[mask])
    torch.testing.assert_close(encoder(ids, mask)[1, :3], encoder(ids[1:2, :3], mask[1:2, :3])[0], atol=1e-5, rtol=1e-5)


def test_causal_words_see_no_later_ones(text_sizes, sentences):
    ids, mask = sentences
    mask = torch.ones_like(mask)
    tokens = torch.randn(4, 5, 12)
    encoder, fusion = loud(TextEncoder(text_sizes)), loud(CrossEncoder(text_sizes, 12, causal=True))
    changed = ids.clone()
    changed[:, 4:] = 7
    for some, other in ((ids, changed),):
        first = fusion(encoder(some, mask, causal=True), mask, tokens)
        second = fusion(encoder(other, mask, causal=True), mask, tokens)
        torch.testing.assert_close(first[:, :4], second[:, :4], atol=1e-5, rtol=1e-5)
        assert (first[:, 4:] - second[:, 4:]).abs().max() > 0.01
    assert (encoder(ids, mask)[:, 0] - encoder(changed, mask)[:, 0]).abs().max() > 0.01


def test_cross_attention_is_that_of_torch():
    own = loud(CrossAttention(32, 12, 4, 0.0))
    other = nn.MultiheadAttention(32, 4, kdim=12, vdim=12, batch_first=True)
    with torch.no_grad():
        other.q_proj_weight.copy_(own.query.weight)
        other.k_proj_weight.copy_(own.key.weight)
        other.v_proj_weight.copy_(own.value.weight)
        other.in_proj_bias.copy_(torch.cat([own.query.bias, own.key.bias, own.value.bias]))
        other.out_proj.load_state_dict(own.out.state_dict())
    x, tokens = torch.randn(3, 5, 32), torch.randn(3, 7, 12)
    mask = torch.rand(3, 7) > 0.4
    mask[:, 0] = True
    expected = other(x, tokens, tokens, key_padding_mask=~mask)[0]
    torch.testing.assert_close(own(x, tokens, mask), expected, atol=1e-5, rtol=1e-5)


def test_sentences_of_one_picture_share_its_keys(text_sizes, sentences):
    _, mask = sentences
    fusion, states = loud(CrossEncoder(text_sizes, 12)), torch.randn(4, 6, 32)
    tokens = torch.randn(2, 5, 12)
    seen = torch.rand(2, 5) > 0.3
    seen[:, 0] = True
    folded = fusion(states, mask, tokens, seen)  # sentences 0 and 1 of picture 0, 2 and 3 of picture 1
    apart = fusion(states, mask, tokens.repeat_interleave(2, 0), seen.repeat_interleave(2, 0))
    torch.testing.assert_close(folded, apart, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("with_first", [False, True])
def test_shared_tokens_are_as_good_as_copies_also_in_gradients(text_sizes, sentences, with_first):
    _, mask = sentences
    fusion, states = loud(CrossEncoder(text_sizes, 12)), torch.randn(4, 6, 32)
    tokens = torch.randn(2, 5, 12, requires_grad=True)
    first = torch.randn(4, 12, requires_grad=True) if with_first else None
    index = torch.tensor([1, 0, 1, 1])
    shared = SharedTokens(tokens, index, first)
    copies = shared.all()
    torch.testing.assert_close(copies[:, 1:], tokens[index, 1:])
    torch.testing.assert_close(copies[:, 0], tokens[index, 0] if first is None else first)
    wanted = [tokens] if first is None else [tokens, first]
    one, two = fusion(states, mask, shared), fusion(states, mask, copies)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(one.square().sum(), wanted), torch.autograd.grad(two.square().sum(), wanted), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    some = torch.tensor([3, 1])
    torch.testing.assert_close(shared.rows(some).all(), copies[some])


def test_hidden_tokens_are_not_looked_at(text_sizes, sentences):
    _, mask = sentences
    fusion, states = loud(CrossEncoder(text_sizes, 12)), torch.randn(4, 6, 32)
    tokens = torch.randn(4, 5, 12)
    seen = torch.tensor([True, True, False, True, False]).expand(4, -1)
    changed = tokens.clone()
    changed[:, 2], changed[:, 4] = 100.0, -100.0
    torch.testing.assert_close(fusion(states, mask, tokens, seen), fusion(states, mask, changed, seen))


def test_pairs_look_at_both_pictures_and_share_keys_by_turns(text_sizes, sentences):
    _, mask = sentences
    fusion, states = loud(PairCrossEncoder(text_sizes, 12)), torch.randn(4, 6, 32)
    layers = fusion.layers
    assert len(layers) == 4
    assert layers[0].cross_attn.key.weight is layers[1].cross_attn.key.weight
    assert layers[0].cross_attn.value is layers[1].cross_attn.value
    assert layers[1].cross_attn.key.weight is not layers[2].cross_attn.key.weight
    a, b = torch.randn(4, 5, 12), torch.randn(4, 5, 12)
    base = fusion(states, mask, (a, b))
    for pictures in ((b, b), (a, a), (b, a)):
        assert (fusion(states, mask, pictures) - base).abs().max() > 0.01


def test_the_word_head_uses_the_embedding_itself(text_sizes):
    head = WordHead(text_sizes)
    table = nn.Parameter(torch.randn(text_sizes.vocabulary, 32))
    logits = head(torch.randn(2, 32), table)
    logits.sum().backward()
    assert logits.shape == (2, text_sizes.vocabulary) and table.grad is not None


def test_a_text_longer_than_the_positions_is_refused(text_sizes):
    with pytest.raises(InputError, match="has 41 tokens, at most 40 fit"):
        TextEncoder(text_sizes)(torch.zeros(1, 41, dtype=torch.long), torch.ones(1, 41, dtype=torch.bool))
