import pytest
import torch
from torch.nn import functional

from ovdet.seggpt.matching import Looks, Matcher
from ovdet.seggpt.stem import TrunkStem


@pytest.fixture
def matcher():
    torch.manual_seed(0)
    made = Matcher(8, 12)
    made.initialise()
    torch.nn.init.normal_(made.answer[2].weight)
    return made


def unit(*shape):
    return functional.normalize(torch.randn(*shape), dim=-1)


def black_and_white(*white, tokens=6):
    paints = torch.zeros(1, tokens, 3)
    paints[0, list(white)] = 1
    return paints


@torch.no_grad()
def test_looks_are_unit_vectors_row_by_row(matcher):
    levels = TrunkStem(16).eval().levels(torch.rand(2, 3, 32, 64))
    looks = matcher.looks(levels)
    assert looks.shape == (2, 8, 8)
    torch.testing.assert_close(looks.norm(dim=2), torch.ones(2, 8))
    left = matcher.looks(type(levels)(*(level[:, :, :, : level.shape[3] // 2] for level in levels)))
    torch.testing.assert_close(left[:, 0], looks[:, 0], atol=1e-5, rtol=0)


def test_of_each_paint_the_mean_look_is_taken():
    looks = unit(1, 6, 8)
    learned = Matcher.learn(looks, black_and_white(1, 4))
    white = functional.normalize(looks[0, [1, 4]].mean(dim=0), dim=0)
    black = functional.normalize(looks[0, [0, 2, 3, 5]].mean(dim=0), dim=0)
    wanted = torch.stack([black, white, black, black, white, black])
    torch.testing.assert_close(learned.prototypes[0], wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(learned.weights[0], torch.tensor([1 / 4, 1 / 2, 1 / 4, 1 / 4, 1 / 2, 1 / 4]))


def test_what_is_hidden_is_not_seen():
    """A hidden token has no say, whatever its paint, and the others are as if it were not there."""
    looks, paints = unit(1, 6, 8), black_and_white(1, 4)
    hidden = torch.tensor([[False, False, False, False, True, True]])
    learned = Matcher.learn(looks, paints, hidden)
    shorter = Matcher.learn(looks[:, :4], paints[:, :4])
    torch.testing.assert_close(learned.prototypes[:, :4], shorter.prototypes)
    torch.testing.assert_close(learned.weights, functional.pad(shorter.weights, (0, 2)))


@torch.no_grad()
def test_tokens_are_told_the_paint_that_they_resemble(matcher):
    """Each paint counts once, however many tokens have it: shares of the paints are a softmax of two cosines."""
    looks, own = unit(1, 6, 8), unit(1, 5, 8)
    learned = Matcher.learn(looks, black_and_white(1, 4))
    told = {}
    matcher.answer.register_forward_pre_hook(lambda _, args: told.update(found=args[0]))
    answer = matcher(own, learned)
    assert answer.shape == (1, 5, 12)
    cosines = own[0] @ learned.prototypes[0, [0, 1]].T  # to black, to white
    share = (10 * cosines).softmax(dim=1)
    torch.testing.assert_close(told["found"][0, :, :3], share[:, 1:].expand(-1, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(told["found"][0, :, 3], (share * cosines).sum(dim=1), atol=1e-4, rtol=0)


@torch.no_grad()
def test_examples_of_one_picture_are_averaged_and_others_kept_apart(matcher):
    examples = Matcher.learn(unit(3, 6, 8), black_and_white(1, 4).repeat(3, 1, 1))
    own = unit(2, 6, 8)
    told = []
    matcher.answer.register_forward_pre_hook(lambda _, args: told.append(args[0]))
    matcher(own, examples, torch.tensor([0, 1, 0]))
    for index in range(3):
        one = Looks(*(value[index : index + 1] for value in vars(examples).values()))
        matcher(own[[0, 1, 0]][index : index + 1], one)
    torch.testing.assert_close(told[0], torch.cat([(told[1] + told[3]) / 2, told[2]]))


@torch.no_grad()
def test_at_the_start_nothing_is_said():
    made = Matcher(8, 12)
    made.initialise()
    examples = Matcher.learn(unit(1, 6, 8), black_and_white(1))
    assert not made(unit(1, 6, 8), examples).any()


def test_with_everything_hidden_numbers_stay_finite(matcher):
    examples = Matcher.learn(unit(1, 6, 8), black_and_white(1), torch.ones(1, 6, dtype=torch.bool))
    assert torch.isfinite(matcher(unit(1, 6, 8), examples)).all()
