import pytest
import torch

from ovdet.errors import InputError
from ovdet.layers.trunk import CompactTrunk
from ovdet.xvlm.build import xvlm_small
from ovdet.xvlm.images import region_masks
from ovdet.xvlm.small import TowerSentences, TowerTokens, TrunkImages, shipped_tower, sine_places, token_states
from ovdet.xvlm.training import XVLMTraining


def test_two_levels_become_tokens_with_a_mean_in_front():
    encoder = TrunkImages(96, 32, (4, 8, 8, 8, 8)).eval()
    tokens = encoder(torch.randn(2, 3, 96, 96)).tokens
    assert tokens.shape == (2, 1 + 36 + 9, 32) and encoder.tokens == 46
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1))


def test_regions_are_masked_on_both_levels():
    encoder = TrunkImages(96, 32, (4, 8, 8, 8, 8)).eval()
    boxes = torch.tensor([[16.0, 0, 16, 40], [90, 90, 6, 6]])
    masks = encoder.region_masks(boxes)
    assert torch.equal(masks[:, :37], region_masks(boxes, 6, 16))
    assert torch.equal(masks[:, 37:], region_masks(boxes, 3, 32)[:, 1:])
    assert masks[:, 0].all() and masks[0].sum() == 1 + 3 + 2 and masks[1].sum() == 1 + 1 + 1


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
    assert sum(value.numel() for value in sentences.state_dict().values()) < 50_000


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
