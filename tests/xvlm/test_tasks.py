import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ovdet.xvlm.build import xvlm
from ovdet.xvlm.images import EncodedImages
from ovdet.xvlm.tasks import CaptionModel, next_word_losses


def built(task, swin_sizes, text_sizes):
    torch.manual_seed(0)
    model = xvlm(task, swin_sizes, text_sizes, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def test_next_words_are_learned_from_those_before():
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]])
    losses = next_word_losses(logits, ids, ids == 0)
    expected = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    torch.testing.assert_close(losses, expected.masked_fill(ids[:, 1:] == 0, 0.0))
    smooth = next_word_losses(logits, ids, torch.zeros_like(ids, dtype=torch.bool), 0.1)
    target = torch.full((7,), 0.1 / 7)
    target[ids[0, 1]] = 0.9
    torch.testing.assert_close(smooth[0, 0], -(target * logits[0, 0].log_softmax(0)).sum())


def test_answers_are_ranked_by_all_their_words(swin_sizes, text_sizes):
    model = built("vqa", swin_sizes, text_sizes)
    images = torch.randn(2, 3, 64, 64)
    questions = (torch.randint(5, 20, (2, 5)), torch.ones(2, 5, dtype=torch.bool))
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0], [2, 7, 3, 0], [2, 11, 12, 3]])
    mask = ids > 0
    ranked = model.rank(images, questions, (ids, mask), k=10)
    assert ranked.index.shape == (2, 4)
    states = model.read(images, *questions)
    for k in range(2):
        scores = []
        for answer in range(4):
            length = int(mask[answer].sum())
            own = (ids[answer : answer + 1, :length], mask[answer : answer + 1, :length])
            log = model.answer_logits(*own, states[k : k + 1], questions[1][k : k + 1])[0].log_softmax(-1)
            words = [log[place, ids[answer, place + 1]] for place in range(length - 1)]
            scores.append(sum(words) + words[0])  # the first counts twice
        expected = torch.stack(scores).softmax(0)
        torch.testing.assert_close(ranked.probability[k], expected.sort(descending=True).values, atol=1e-4, rtol=1e-4)
        assert ranked.index[k].tolist() == expected.argsort(descending=True).tolist()
    best = model.rank(images, questions, (ids, mask), k=1)
    assert best.probability.tolist() == [[1.0], [1.0]]


def test_answer_losses_are_weighted_and_divided_by_pictures(swin_sizes, text_sizes):
    model = built("vqa", swin_sizes, text_sizes)
    images, question = torch.randn(2, 3, 64, 64), (torch.randint(5, 20, (2, 5)), torch.ones(2, 5, dtype=torch.bool))
    answers = (torch.tensor([[2, 7, 3], [2, 8, 3]]), torch.ones(2, 3, dtype=torch.bool))

    def loss(weights, index=(0, 1)):
        return model.loss(images, question, answers, torch.tensor(index), torch.tensor(weights))["loss_answer"].item()

    both = loss([1.0, 1.0])
    assert loss([1.0, 0.0]) + loss([0.0, 1.0]) == pytest.approx(both, rel=1e-5)
    assert loss([0.5, 0.5]) == pytest.approx(both / 2, rel=1e-5)
    assert loss([1.0, 1.0], (1, 0)) != pytest.approx(both, rel=1e-3)


def test_captions_are_the_likeliest_of_all(swin_sizes, text_sizes):
    """With a beam as wide as the search, none of all captions has a better mean."""
    model = built("caption", swin_sizes, text_sizes)
    words = (3, 5, 6)
    with torch.no_grad():
        model.word_head.bias.fill_(-50.0)
        model.word_head.bias[list(words)] = 0.0
    image, prompt, end, longest = torch.randn(1, 3, 64, 64), torch.tensor([2, 9]), 3, 5
    found = model.generate(image, prompt, end, beams=20, shortest=3, longest=longest)[0]
    tokens = model.image_encoder(image).tokens

    def mean(row):
        ids = torch.tensor([row])
        log = model.word_logits(ids, torch.ones_like(ids, dtype=torch.bool), tokens)[0].log_softmax(-1)
        total = sum(log[place, row[place + 1]].item() for place in range(1, len(row) - 1))
        return total / (len(row) - (row[-1] == end))

    candidates = []
    for length in range(1, longest - 1):
        for middle in itertools.product(words[1:], repeat=length):
            row = [2, 9, *middle]
            candidates.append((mean([*row, end]), row) if len(row) < longest else (mean(row), row))
    assert found == max(candidates)[1]


class PlainSearch:
    """The search of transformers 4.12 (length_penalty 1, early_stopping off) for one picture, in plain Python.

    Args:
        log: a function, row -> log probability of each next word.
    """

    def __init__(self, log, end, beams, shortest, longest):
        self.log, self.end, self.beams, self.shortest, self.longest = log, end, beams, shortest, longest
        self.kept = []

    def keep(self, total, row):
        self.kept.append((total / len(row), row))
        if len(self.kept) > self.beams:
            self.kept.remove(min(self.kept))

    def candidates(self, running):
        found = []
        for total, row in running:
            for word, log in enumerate(self.log(row)):
                too_short = word == self.end and len(row) < self.shortest
                found.append((-math.inf if too_short else total + log, row, word))
        return sorted(found, reverse=True)[: 2 * self.beams]

    def write(self, prompt):
        running, length = [(0.0, prompt)], len(prompt)
        while length < self.longest:
            best = self.candidates(running)
            for total, row, word in best[: self.beams]:
                if word == self.end:
                    self.keep(total, row)
            if len(self.kept) == self.beams and min(self.kept)[0] >= best[0][0] / length:
                return max(self.kept)[1]
            running = [(total, (*row, word)) for total, row, word in best if word != self.end][: self.beams]
            length += 1
        for total, row in running:
            self.keep(total, row)
        return max(self.kept)[1]


class Speaker(CaptionModel):
    """Next words from a function in place of the network: log(number of the picture, row) -> (V,)."""

    def __init__(self, log, pictures):
        torch.nn.Module.__init__(self)
        self.log, self.pictures = log, pictures

    def image_encoder(self, images):
        return EncodedImages(torch.arange(float(self.pictures)).view(-1, 1, 1))

    def word_logits(self, ids, mask, tokens):
        return torch.stack([self.log(int(tokens), tuple(row)) for row in ids.tolist()])[:, None]


@pytest.mark.parametrize(("shortest", "longest"), [(2, 4), (5, 7), (3, 12)])
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("likely_end", [-1.0, 1.0, 3.0])
def test_captions_are_searched_by_the_published_rules(beams, shortest, longest, likely_end):
    pictures, end, prompt = 12, 3, (2, 9)

    @cache
    def log(picture, row):
        logits = torch.from_numpy(np.random.default_rng((picture, *row)).normal(scale=1.5, size=24)).float()
        logits[end] += likely_end
        return logits.log_softmax(0)

    found = Speaker(log, pictures).generate(
        torch.zeros(0), torch.tensor(prompt), end, beams=beams, shortest=shortest, longest=longest
    )
    for picture, row in enumerate(found):
        plain = PlainSearch(lambda row, picture=picture: log(picture, row).tolist(), end, beams, shortest, longest)
        assert row == list(plain.write(prompt))


@pytest.mark.parametrize(
    ("likely", "beams", "longest", "expected"),
    [  # next words of a row, and their probability; all others share the rest, but for the end, 3
        ({(): {5: 0.36, 6: 0.34, 3: 0.3}, (5,): {7: 0.05}}, 2, 3, [5, 7]),  # the third of two beams is no end
        (  # the second end that is kept is worse than what may still come, so that the search goes on
            {(): {3: 0.6, 5: 0.3}, (5,): {6: 0.6, 3: 0.35}, (5, 6): {7: 0.99}, (5, 6, 7): {8: 0.99}},
            2,
            5,
            [5, 6, 7, 8],
        ),
        (
            {(): {3: 0.5, 5: 0.45}, (5,): {6: 0.99}, (5, 6): {7: 0.99}},
            1,
            4,
            [],
        ),  # ended: what still runs no longer counts
    ],
)
def test_ends_and_stops_of_the_search(likely, beams, longest, expected):
    words, end = 40, 3

    def log(picture, row):
        known = likely.get(row[1:], {})
        rest = (1 - sum(known.values())) / (words - 1 - len(set(known) - {end}))
        return torch.tensor([known.get(word, 1e-6 if word == end else rest + 1e-9) for word in range(words)]).log()

    found = Speaker(log, 1).generate(torch.zeros(0), torch.tensor([2]), end, beams=beams, shortest=1, longest=longest)
    assert found == [[2, *expected]]


def test_captions_keep_the_prompt_and_the_lengths(swin_sizes, text_sizes):
    model = built("caption", swin_sizes, text_sizes)
    with torch.no_grad():
        model.word_head.bias[3] = 100.0  # would end at once
    captions = model.generate(torch.randn(2, 3, 64, 64), torch.tensor([2, 9]), 3, beams=2, shortest=5, longest=8)
    assert [len(row) for row in captions] == [5, 5] and all(row[:2] == [2, 9] for row in captions)
    model.word_head.bias.data[3] = -100.0
    captions = model.generate(torch.randn(1, 3, 64, 64), torch.tensor([2, 9]), 3, beams=2, longest=8)
    assert len(captions[0]) == 8 and 3 not in captions[0]


def test_caption_losses_skip_prompt_and_padding(swin_sizes, text_sizes):
    model = built("caption", swin_sizes, text_sizes)
    image = torch.randn(1, 3, 64, 64)
    ids, mask = torch.tensor([[2, 9, 7, 8, 3, 0]]), torch.tensor([[True] * 5 + [False]])
    loss = model.loss(image, ids, mask, prompt_length=2)["loss_caption"].item()
    log = model.word_logits(ids, mask, model.image_encoder(image).tokens)[0].log_softmax(-1)
    expected = -sum(log[place, ids[0, place + 1]].item() for place in (1, 2, 3)) / 3
    assert loss == pytest.approx(expected, rel=1e-5)


def test_pairs_learn(swin_sizes, text_sizes):
    torch.manual_seed(0)
    model = xvlm("nlvr", swin_sizes, text_sizes)
    images, label = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 1, 0])
    ids, mask = torch.randint(5, 20, (4, 5)), torch.ones(4, 5, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    first = None
    for _ in range(8):
        loss = model.loss(images, images.flip(0), ids, mask, label)["loss_pair"]
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * first
