"""Every loss against sums written out pair by pair, with the draws of hard partners and hidden words noted down.

What goes in (vectors, logits, boxes) is held to official weights by test_official.py; here is what the losses make of
it (arXiv:2111.08276, section 3, and the official code where the paper leaves something open).
"""

import math

import pytest
import torch

from ovdet.xvlm import training as training_module
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.masking import WordMasking
from ovdet.xvlm.task_training import PairTask
from ovdet.xvlm.training import XVLMTraining, square_boxes

CLOSE = dict(rel=1e-5, abs=1e-5)


def log_share(row, place):
    """The logarithm of one number's share of the exponentials of all."""
    largest = max(row)
    return row[place] - largest - math.log(sum(math.exp(value - largest) for value in row))


@pytest.fixture
def masking(vocabulary):
    return WordMasking(vocabulary, vocabulary.index("[MASK]"))


@pytest.fixture
def parts(model, tokens, batch):
    """What the network makes of the batch: (region tokens, their masks), text states, their mask, whole pictures."""
    with torch.no_grad():
        ids, mask = tokens(batch["texts"])
        encoded = model.encode_images(XVLMTraining(model, tokens, ("contrast",)).prepare(batch["images"]))
        masks = model.image_encoder.region_masks(square_boxes(batch["boxes_cxcywh_norm"], 64))
        masks[batch["is_image"]] = True
        seen = model.image_encoder.regions(encoded, batch["image_index"], masks).all()
        return seen, masks, model.encode_text(ids, mask), mask, encoded.tokens[batch["image_index"]]


@pytest.mark.parametrize("by_picture", [False, True])
def test_contrast(model, tokens, batch, parts, by_picture):
    """Texts and regions rank each other; texts of one picture share the target where `by_picture`."""
    seen, _, states, _, _ = parts
    found = XVLMTraining(model, tokens, ("contrast",), by_picture=by_picture).loss(**batch)["loss_contrast"].item()
    with torch.no_grad():
        images, texts = model.space.of_images(seen[:, 0]).tolist(), model.space.of_texts(states[:, 0]).tolist()
    own = batch["image_ids"][batch["image_index"]].tolist() if by_picture else list(range(5))
    total = 0.0
    for ours, others in ((images, texts), (texts, images)):
        for place in range(5):
            row = [sum(a * b for a, b in zip(ours[place], other, strict=True)) / 0.07 for other in others]
            partners = [other for other in range(5) if own[other] == own[place]]
            total -= sum(log_share(row, partner) for partner in partners) / len(partners) / 5 / 2
    assert found == pytest.approx(total, **CLOSE)


def test_matching(model, tokens, batch, parts, monkeypatch):
    """Mean over N right and 2 N wrong pairs: each text with a wrong region, each region with a wrong text."""
    seen, masks, states, mask, _ = parts
    drawn = []
    draw = training_module.hard_negatives
    monkeypatch.setattr(training_module, "hard_negatives", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    found = XVLMTraining(model, tokens, ("match",)).loss(**batch)["loss_match"].item()
    (wrong,) = drawn
    pairs = [(place, place, 1) for place in range(5)]
    pairs += [(text, image, 0) for text, image in zip(wrong.texts.tolist(), wrong.images.tolist(), strict=True)]
    assert len(pairs) == 15 and all(text != image for text, image, right in pairs if not right)
    assert [text for text, _, _ in pairs[5:10]] == [image for _, image, _ in pairs[10:]] == [0, 1, 2, 3, 4]
    total = 0.0
    with torch.no_grad():
        for text, image, right in pairs:
            fused = model.first(states[[text]], mask[[text]], seen[[image]], masks[[image]])
            total -= log_share(model.match_logits(fused)[0].tolist(), right) / 15
    assert found == pytest.approx(total, **CLOSE)


def test_hidden_words(model, tokens, batch, parts):
    """Mean over all hidden words of the batch; they are read with the region, in a pass of their own."""
    seen, masks, *_ = parts
    hidden = []

    class Noted(WordMasking):
        def __call__(self, *args):
            hidden.append(super().__call__(*args))
            return hidden[-1]

    noted = Noted(tokens.vocabulary, tokens.vocabulary.index("[MASK]"))
    found = XVLMTraining(model, tokens, ("words",), masking=noted).loss(**batch)["loss_words"].item()
    assert len(hidden) == 5
    losses = []
    with torch.no_grad():
        for place, one in enumerate(hidden):
            ids = torch.tensor([one.ids])
            known = torch.ones_like(ids, dtype=torch.bool)
            fused = model.fusion(model.encode_text(ids, known), known, seen[[place]], masks[[place]])
            logits = model.word_logits(fused)[0].tolist()
            losses += [-log_share(logits[at], word) for at, word in zip(one.positions, one.targets, strict=True)]
    assert len(losses) >= 5 and found == pytest.approx(sum(losses) / len(losses), **CLOSE)


def test_boxes(model, tokens, batch, parts):
    """L1 and 1 - GIoU of boxes drawn on whole pictures, over the texts that are of a region."""
    _, _, states, mask, whole = parts
    found = XVLMTraining(model, tokens, ("box",)).loss(**batch)
    with torch.no_grad():
        boxes = model.predict_boxes(states, mask, whole).tolist()
    far, apart, count = 0.0, 0.0, 0
    for box, true, is_image in zip(boxes, batch["boxes_cxcywh_norm"].tolist(), batch["is_image"].tolist(), strict=True):
        if is_image:
            continue
        count += 1
        far += sum(abs(a - b) for a, b in zip(box, true, strict=True))
        (l1, t1, r1, b1), (l2, t2, r2, b2) = (
            (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (box, true)
        )
        both = max(0, min(r1, r2) - max(l1, l2)) * max(0, min(b1, b2) - max(t1, t2))
        union = (r1 - l1) * (b1 - t1) + (r2 - l2) * (b2 - t2) - both
        hull = (max(r1, r2) - min(l1, l2)) * (max(b1, b2) - min(t1, t2))
        apart += 1 - (both / union - (hull - union) / hull)
    assert count == 4
    assert found["loss_box"].item() == pytest.approx(far / count, **CLOSE)
    assert found["loss_giou"].item() == pytest.approx(apart / count, **CLOSE)


def built(task, swin_sizes, text_sizes):
    torch.manual_seed(0)
    model = xvlm(task, swin_sizes, text_sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    return model


def test_answers(swin_sizes, text_sizes):
    """Each answer's words one after the other, weighted by its share, over the number of pictures."""
    model = built("vqa", swin_sizes, text_sizes)
    images = torch.randn(2, 3, 64, 64)
    questions = (torch.tensor([[2, 7, 8, 9], [2, 10, 11, 0]]), torch.tensor([[True] * 4, [True] * 3 + [False]]))
    answers = torch.tensor([[2, 7, 3, 0], [2, 8, 9, 3], [2, 12, 3, 0]])
    index, weights = [0, 0, 1], [0.6, 0.4, 1.0]
    found = model.loss(images, questions, (answers, answers > 0), torch.tensor(index), torch.tensor(weights))
    total = 0.0
    with torch.no_grad():
        states = model.read(images, *questions)
        for row, question, weight in zip(answers, index, weights, strict=True):
            ids = row[row > 0][None]
            of_question = states[[question]], questions[1][[question]]
            logits = model.answer_logits(ids, torch.ones_like(ids, dtype=torch.bool), *of_question)[0].tolist()
            total -= weight * sum(log_share(logits[at], int(ids[0, at + 1])) for at in range(ids.shape[1] - 1)) / 2
    assert found["loss_answer"].item() == pytest.approx(total, **CLOSE)


def test_pairs_and_their_first_stage(swin_sizes, text_sizes, tokens, monkeypatch):
    """True or false of two pictures; before that, which of the two a caption is of, or neither."""
    model = built("nlvr", swin_sizes, text_sizes)
    first, second = torch.randn(2, 3, 3, 64, 64)
    ids, mask = tokens(["the red square", "a circle left of the dog", "blue hat"])
    label = [1, 0, 1]
    found = model.loss(first, second, ids, mask, torch.tensor(label))["loss_pair"].item()
    with torch.no_grad():
        each = [model(first[[k]], second[[k]], ids[[k]], mask[[k]])[0].tolist() for k in range(3)]
    assert found == pytest.approx(
        -sum(log_share(row, right) for row, right in zip(each, label, strict=True)) / 3, **CLOSE
    )

    stage = PairTask(built("nlvr-pretrain", swin_sizes, text_sizes), tokens)
    others, kinds = torch.tensor([[1, 2], [2, 0], [0, 1]]), torch.tensor([0, 1, 2])
    monkeypatch.setattr(torch, "multinomial", lambda *args: others)
    monkeypatch.setattr(torch, "randint", lambda *args, **more: kinds)
    found = stage._assignment(first, ids, mask)["loss_assignment"].item()
    shown = [(0, 2), (2, 1), (0, 1)]  # caption 0 is of the first of its pictures, 1 of the second, 2 of neither
    with torch.no_grad():
        each = [stage.model(first[[a]], first[[b]], ids[[k]], mask[[k]])[0].tolist() for k, (a, b) in enumerate(shown)]
    assert found == pytest.approx(-sum(log_share(row, kind) for kind, row in enumerate(each)) / 3, **CLOSE)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_captions(swin_sizes, text_sizes, smoothing):
    """Mean over all words that are learned; with smoothing each wrong word is a target of 0.1 / V, as published."""
    model = built("caption", swin_sizes, text_sizes)
    images = torch.randn(2, 3, 64, 64)
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 7, 10, 3, 0]])
    found = model.loss(images, ids, ids > 0, prompt_length=2, smoothing=smoothing)["loss_caption"].item()
    losses = []
    with torch.no_grad():
        tokens = model.image_encoder(images).tokens
        for row, picture in zip(ids, tokens, strict=True):
            own = row[row > 0][None]
            logits = model.word_logits(own, torch.ones_like(own, dtype=torch.bool), picture[None])[0].tolist()
            for at in range(1, own.shape[1] - 1):  # the first two are given
                every = [log_share(logits[at], word) for word in range(len(logits[at]))]
                right = every[int(own[0, at + 1])]
                losses.append(-((1 - smoothing) * right + smoothing * (sum(every) - right) / len(every)))
    assert len(losses) == 5 and found == pytest.approx(sum(losses) / 5, **CLOSE)


@pytest.mark.parametrize(
    ("loss", "learns", "spared"),
    [
        ("contrast", ("image_encoder", "text_encoder", "space"), ("fusion", "match_head", "word_head", "box_head")),
        ("match", ("image_encoder", "text_encoder", "fusion", "match_head"), ("word_head", "box_head")),
        ("words", ("image_encoder", "text_encoder", "fusion", "word_head"), ("space", "match_head", "box_head")),
        ("box", ("image_encoder", "text_encoder", "fusion", "box_head"), ("space", "match_head", "word_head")),
    ],
)
def test_each_loss_teaches_its_own_parts(model, tokens, batch, masking, loss, learns, spared):
    training = XVLMTraining(model, tokens, (loss,), masking=masking)
    sum(training.loss(**batch).values()).backward()
    taught = {
        name.split(".")[0]
        for name, value in model.named_parameters()
        if value.grad is not None and bool(value.grad.abs().sum() > 0)
    }
    assert taught >= set(learns) and not taught & set(spared)
