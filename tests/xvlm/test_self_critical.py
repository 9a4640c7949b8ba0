"""Training by reward, against sums over all captions that a tiny model can write."""

import itertools

import pytest
import torch

from ovdet.errors import InputError
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.task_training import SelfCriticalTask

END, WORDS = 3, (3, 5, 6)  # [SEP], "the", "a"


@pytest.fixture
def task(swin_sizes, text_sizes, tokens):
    """Knows three words, the end among them, and writes at most two behind its prompt "red"."""
    torch.manual_seed(0)
    model = xvlm("caption", swin_sizes, text_sizes, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
        model.word_head.bias.fill_(-50.0)
        model.word_head.bias[list(WORDS)] = 0.0
    return SelfCriticalTask(model, tokens, samples=3000, prompt="red ", longest=4).eval()


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def every_caption(task):
    """All rows that can be written."""
    rows = [[*words, END] for n in range(2) for words in itertools.product(WORDS[1:], repeat=n)]
    return [
        [*task.prompt_ids, *row] for row in rows + [list(words) for words in itertools.product(WORDS[1:], repeat=2)]
    ]


def log_of_words(task, row, tokens):
    """Log probability of each word behind the prompt, one row of one picture alone."""
    ids = torch.tensor([row])
    log = task.model.word_logits(ids, torch.ones_like(ids, dtype=torch.bool), tokens)[0].log_softmax(-1)
    given = len(task.prompt_ids)
    return torch.stack([log[place - 1, row[place]] for place in range(given, len(row))])


def gradients(task):
    found = torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])
    task.zero_grad()
    return found


def test_captions_are_drawn_by_their_probabilities(task, images):
    tokens = task.model.image_encoder(task.prepare(images)).tokens
    torch.manual_seed(1)
    drawn = task.model.sample(tokens, torch.tensor(task.prompt_ids), END, 3000, longest=4)
    assert len(drawn) == 6000
    for picture in range(2):
        own = drawn[3000 * picture : 3000 * (picture + 1)]
        chances = [
            float(log_of_words(task, row, tokens[picture : picture + 1]).sum().exp().detach())
            for row in every_caption(task)
        ]
        assert sum(chances) == pytest.approx(1, abs=1e-4)
        for row, chance in zip(every_caption(task), chances, strict=True):
            assert own.count(row) / 3000 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 3000) ** 0.5 + 1e-4)
    likeliest = task.model.write_likeliest(tokens, torch.tensor(task.prompt_ids), END, longest=4)
    for picture, row in enumerate(likeliest):
        for place in range(len(task.prompt_ids), len(row)):
            nexts = {
                word: float(log_of_words(task, [*row[:place], word], tokens[picture : picture + 1])[-1])
                for word in WORDS
            }
            assert row[place] == max(nexts, key=nexts.get)


def test_the_gradient_is_that_of_the_expected_reward(task, images):
    """Of the chance of each caption times its advantage for each word, summed over all captions."""
    task.reward = lambda captions, known: [len(one) + 2.0 * ("the" in one.split()) for one in captions]
    torch.manual_seed(2)
    found = task.loss(images, [["x"], ["y"]])
    found["loss_praise"].backward()
    drawn = gradients(task)
    tokens = task.model.image_encoder(task.prepare(images)).tokens
    expected = 0.0
    for picture, best in enumerate(task._likeliest(task.prepare(images), torch.tensor(task.prompt_ids), END)):
        for row in every_caption(task):
            log = log_of_words(task, row, tokens[picture : picture + 1])
            own, other = task.reward([task._said(row), task._said(best)], [])
            expected = expected - log.sum().exp() * (own - other) / len(log) / 2
    expected.backward()
    exact = gradients(task)
    assert torch.dot(drawn, exact) / drawn.norm() / exact.norm() > 0.99
    assert float(drawn.norm() / exact.norm()) == pytest.approx(1, abs=0.1)


def test_the_loss_of_given_captions(task, images, monkeypatch):
    prompt = task.prompt_ids
    rows = [[*prompt, 5, END], [*prompt, 6, 5], [*prompt, END], [*prompt, 5, 6]]
    task.samples = 2
    monkeypatch.setattr(type(task.model), "sample", lambda *_, **__: rows)
    monkeypatch.setattr(type(task.model), "write_likeliest", lambda *_, **__: [[*prompt, 6, END], [*prompt, END]])
    asked = []

    def reward(captions, known):
        asked.append((captions, known))
        return [len(one) for one in captions]

    task.reward = reward
    found = task.loss(images, [["x", "y"], ["z"]])
    assert asked == [(["the", "a the", "a"], ["x", "y"]), (["", "the a", ""], ["z"])]
    tokens = task.model.image_encoder(task.prepare(images)).tokens
    means = [log_of_words(task, row, tokens[place // 2 : place // 2 + 1]).mean() for place, row in enumerate(rows)]
    advantage = [3 - 1, 5 - 1, 0 - 0, 5 - 0]
    expected = -sum(mean * more for mean, more in zip(means, advantage, strict=True)) / 4
    assert float(found["loss_praise"].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert float(found["reward"]) == 13 / 4 and float(found["baseline"]) == 1 / 2


def test_rewards_are_sought(task, images):
    with pytest.raises(InputError, match="needs a reward; add dict"):
        task.loss(images, [["x"], ["y"]])
    task.samples, task.reward = 8, lambda captions, known: [one.count("the") for one in captions]
    task.train()
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-2)
    torch.manual_seed(3)
    first = last = None
    for _ in range(20):
        numbers = task.loss(images, [["x"], ["y"]])
        first, last = first or float(numbers["reward"]), float(numbers["reward"])
        optimiser.zero_grad()
        numbers["loss_praise"].backward()
        optimiser.step()
        assert task.model.training
    assert last > 1.8 > first  # "the the" is worth 2
    assert [one["caption"] for one in task.eval().predict(images)] == ["the the"] * 2
