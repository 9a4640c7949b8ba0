import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from ovdet.errors import InputError
from ovdet.layers.trunk import CompactTrunk
from ovdet.xvlm.build import xvlm_small
from ovdet.xvlm.images import region_masks
from ovdet.xvlm.small import (
    FIT_WEIGHTS,
    FIT_WEIGHTS_APART,
    TRUTH,
    UNTOLD,
    PointedBox,
    Pointer,
    TowerSentences,
    TowerTokens,
    TrunkImages,
    chance_of_truth,
    shipped_tower,
    sine_places,
    token_states,
)
from ovdet.xvlm.text import SharedTokens
from ovdet.xvlm.training import XVLMTraining


def test_two_levels_become_tokens_with_a_mean_in_front():
    torch.manual_seed(0)
    encoder = TrunkImages(96, 32, (4, 8, 8, 8, 8)).eval()
    images = torch.randn(2, 3, 96, 96)
    tokens = encoder(images).tokens
    assert tokens.shape == (2, 1 + 36, 32) and encoder.tokens == 37
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1))
    assert torch.equal(encoder.region_masks(torch.tensor([[16.0, 0, 16, 40]])),
                       region_masks(torch.tensor([[16.0, 0, 16, 40]]), 6, 16))  # fmt: skip
    for level in (encoder.fine, encoder.coarse):  # both are heard
        before = level.weight.clone()
        with torch.no_grad():
            level.weight.zero_()
        assert not torch.allclose(encoder(images).tokens, tokens, atol=1e-3)
        level.weight.data = before


def test_frozen_stages_stay_as_they_are():
    torch.manual_seed(0)
    encoder = TrunkImages(64, 32, (4, 8, 8, 8, 8), frozen_stages=2).train()
    before = {name: value.clone() for name, value in encoder.trunk.state_dict().items()}
    optimizer = torch.optim.SGD([one for one in encoder.parameters() if one.requires_grad], 0.1)
    encoder(torch.randn(2, 3, 64, 64)).tokens[:, 1].square().sum().backward()
    optimizer.step()
    changed = {
        name.split(".")[1] for name, value in encoder.trunk.state_dict().items() if (value != before[name]).any()
    }
    assert changed == {"2", "3", "4"}


def test_the_pointer_reads_places_around_its_peak():
    torch.manual_seed(0)
    pointer = Pointer(32, 6)
    torch.nn.init.normal_(pointer.vote.weight, std=0.3)
    fused, tokens = torch.randn(4, 32), torch.randn(2, 37, 32)
    logits, answer = pointer.logits(fused, tokens), pointer(fused, tokens)
    for row in range(4):
        own = tokens[row // 2, 1:]
        expected = (own @ pointer.key.weight.T + pointer.key.bias) @ (pointer.query(fused[row])) / 32**0.5
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-5)
        top, left = divmod(int(expected.argmax()), 6)
        near = [y * 6 + x for y in range(6) for x in range(6) if abs(y - top) <= 2 and abs(x - left) <= 2]
        weights = expected[near].softmax(0)
        votes = []
        for place in near:
            hidden = torch.nn.functional.gelu(pointer.vote_query(fused[row]) + pointer.vote_key(own[place]))
            dx, dy, w, h = pointer.vote(hidden)
            votes.append(
                torch.stack([(place % 6 + 0.5) / 6 + dx, (place // 6 + 0.5) / 6 + dy, w.sigmoid(), h.sigmoid()])
            )
        torch.testing.assert_close(answer[row, :32], weights @ own[near], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(answer[row, 32:], weights @ torch.stack(votes), atol=1e-5, rtol=1e-5)


def test_the_pointer_treats_shared_tokens_alike_and_keeps_to_regions():
    torch.manual_seed(0)
    pointer, fused, tokens = Pointer(32, 6), torch.randn(4, 32), torch.randn(2, 37, 32)
    shared = SharedTokens(tokens, torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(pointer(fused, shared), pointer(fused, tokens), atol=1e-5, rtol=1e-5)
    mask = torch.zeros(4, 37, dtype=torch.bool)
    mask[:, [0, 8]] = True  # the place in the second row and column
    torch.testing.assert_close(pointer(fused, shared, mask)[:, 32:], torch.tensor([[0.25, 0.25, 0.5, 0.5]] * 4))


def test_a_box_head_that_knows_nothing_draws_what_is_voted_for():
    head = PointedBox(torch.nn.Linear(8, 4))
    torch.nn.init.zeros_(head.head.weight), torch.nn.init.zeros_(head.head.bias)
    voted = torch.tensor([[0.2, 0.7, 0.3, 0.1], [0.5, 0.1, 0.9, 0.6]])
    torch.testing.assert_close(head(torch.cat([torch.randn(2, 8), voted], dim=1)).sigmoid(), voted)


def test_candidates_are_weighed_by_all_that_speaks_for_them():
    torch.manual_seed(0)
    model = xvlm_small(64, 32, 1, 1).eval()
    encoded = model.encode_images(torch.randn(1, 3, 64, 64))
    ids, mask = TowerTokens()(["a red cat", "the dog"])
    states = model.encode_text(ids, mask)
    boxes = torch.tensor([[0.0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1], [0.5, 0, 0.75, 0.25]])
    with torch.no_grad():
        found = model.choose(states, mask, encoded, boxes)
        fused = model.first(states, mask, encoded.tokens)
        weights = model.pointer.logits(fused[:, :32], encoded.tokens).softmax(1).view(2, 4, 4)
        for place, (rows, columns) in enumerate([(slice(0, 2), slice(0, 2)), (slice(1, 4), slice(1, 4)), ([0], [2])]):
            seen = encoded.tokens[0, 1:].view(4, 4, 32)[rows, columns].reshape(-1, 32)
            pointed = (weights[:, rows, columns].reshape(2, -1).sum(1) + 1e-3).log()
            alike = model.space.of_texts(states[:, 0]) @ model.space.of_images(seen.mean(0)[None])[0]
            drawn = box_convert(model.boxes_of(fused), "cxcywh", "xyxy")
            overlap = box_iou(drawn, boxes[place : place + 1])[:, 0]
            terms = (pointed, np.log(len(seen)), alike, overlap)
            expected = sum(weight * term for weight, term in zip(FIT_WEIGHTS_APART, terms, strict=False))
            torch.testing.assert_close(found[:, place], expected, atol=1e-4, rtol=1e-4)
        sure = model.choose(states, mask, encoded, boxes, torch.tensor([1.0, 0.5, 1.0]))
        closer = torch.randn(2, 3)
        looked = model.choose(states, mask, encoded, boxes, closer=closer)
        terms = model.fits(states, mask, encoded, boxes, closer=closer)
    torch.testing.assert_close(
        sure - found, torch.tensor([[0, FIT_WEIGHTS_APART[4] * np.log(0.5), 0]] * 2).float(), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(terms[5], closer) and not terms[4].any()
    torch.testing.assert_close(looked, sum(w * term for w, term in zip(FIT_WEIGHTS, terms, strict=True)))
    with torch.no_grad():  # of the first sentence a closer look tells nothing
        mixed = model.choose(states, mask, encoded, boxes, closer=torch.stack([torch.full((3,), torch.nan), closer[1]]))
    torch.testing.assert_close(mixed[0], found[0] + FIT_WEIGHTS[5] * UNTOLD)
    torch.testing.assert_close(mixed[1], looked[1])


def test_both_what_matches_and_what_fits_make_a_sentence_likelier():
    matched, fit = torch.tensor([0.5, 0.9, 0.5, 1.0]), torch.tensor([7.0, 7.0, 9.0, 50.0])
    chances = chance_of_truth(matched, fit)
    assert chances[0] < min(chances[1], chances[2]) and chances[3] > 0.99 and chances.isfinite().all()
    fitting = -TRUTH[2] / TRUTH[1]  # a toss-up where the matching head says nothing
    torch.testing.assert_close(chance_of_truth(matched[:1], torch.tensor([fitting])), torch.tensor([0.5]))


def test_a_trunk_of_the_zoo_fits():
    model = xvlm_small(64, 32)
    model.image_encoder.trunk.load_state_dict(CompactTrunk().state_dict(), strict=True)


def test_places_differ_and_mean_the_same_on_both_levels():
    fine, coarse = sine_places(8, 32), sine_places(4, 32)
    assert torch.pdist(fine).min() > 0.1 and torch.pdist(coarse).min() > 0.1
    one = sine_places(1, 32)[0]
    distances = (sine_places(9, 32) - one).norm(dim=1)
    assert distances.argmin() == 40 and distances.min() < 1e-5  # the centre of nine by nine
    rows = sine_places(4, 32).view(4, 4, 32)
    torch.testing.assert_close(rows[0, :, :16], rows[3, :, :16])  # x does not depend on the row
    torch.testing.assert_close(rows[:, 0, 16:], rows[:, 3, 16:])


def test_states_average_to_the_towers_own_vectors():
    tower, texts = shipped_tower(), ["a red cat", "dogs left of the large blue house"]
    ids, mask = TowerTokens()(texts)
    states = token_states(tower, ids, mask)
    mean = torch.stack([row[seen].mean(0) for row, seen in zip(states, mask, strict=True)])
    torch.testing.assert_close(torch.nn.functional.normalize(mean, dim=1), tower.encode(texts), atol=1e-5, rtol=1e-5)


def test_the_tower_is_frozen_and_not_saved():
    sentences = TowerSentences(32, 1, 1)
    ids, mask = TowerTokens()(["a red cat"])
    sentences(ids, mask).square().sum().backward()
    assert all(parameter.grad is not None for parameter in sentences.parameters())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in shipped_tower().parameters())
    assert sum(value.numel() for value in sentences.state_dict().values()) < 250_000


def test_a_small_one_learns_with_all_its_heads(batch):
    torch.manual_seed(0)
    training = XVLMTraining(xvlm_small(64, 32, 1, 1, 0.0), TowerTokens(), ("contrast", "match", "box"))
    optimizer = torch.optim.AdamW(training.parameters(), 3e-3)
    totals = []
    for _ in range(12):
        losses = training.loss(**batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert len(losses) == 4
    assert all(parameter.grad is not None for parameter in training.parameters())
    assert min(totals[-3:]) < 0.8 * totals[0]


@pytest.mark.parametrize(("size", "width"), [(100, 32), (64, 30)])
def test_sizes_that_cannot_be_are_refused(size, width):
    with pytest.raises(InputError):
        TrunkImages(size, width)
