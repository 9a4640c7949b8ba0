import itertools

import pytest
import torch
from torch.nn import functional as F

from ovdet.xvlm.build import xvlm
from ovdet.xvlm.tasks import next_word_losses


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
