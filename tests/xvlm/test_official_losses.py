"""Losses and gradients on official weights, against a restatement on the official names.

The network is restated in test_official.py, the losses here, sentence by sentence, by the paper (arXiv:2111.08276,
section 3) and, where it leaves something open, by what the official code computes. Draws are repeated from their seed.
Gradients of the restatement go through the converter: it only renames, ties and puts together.
"""

import json
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ovdet.xvlm.build import xvlm
from ovdet.xvlm.masking import WordMasking
from ovdet.xvlm.official import convert_official, read_image_sizes, read_text_sizes
from ovdet.xvlm.task_training import CaptionTask, PairTask, QuestionTask
from ovdet.xvlm.training import XVLMTraining

NET = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("test_official.py"))))
TEXT_LAYERS, CROSS_LAYERS = range(NET.FUSION), range(NET.FUSION, NET.LAYERS)
CELL = 16
"""Pixels of a picture that one of its last patches stands for, on each side."""
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    (folder / "vision.json").write_text(json.dumps(NET.VISION_JSON))
    (folder / "text.json").write_text(json.dumps(NET.TEXT_JSON))
    return read_image_sizes(folder / "vision.json", {}), read_text_sizes(folder / "text.json")


@pytest.fixture
def both(official_state, sizes):
    """A function: task -> official weights that note their gradients, and the model that was converted from them."""

    def make(task):
        state = official_state(task)
        weights = convert_official(state, *sizes)
        model = xvlm(**weights.arguments)
        model.load_state_dict(weights.state_dict, strict=True)
        for value in state.values():
            if value.is_floating_point():
                value.requires_grad_()
        return state, model.eval()

    return make


@pytest.fixture
def agree(sizes):
    """A function: compares losses and their gradients, gives the parts of the model that learn."""

    def compare(losses, expected, model, state):
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-5), name
        assert losses.keys() == expected.keys()
        sum(losses.values()).backward()
        sum(expected.values()).backward()
        slopes = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in state.items()}
        renamed = convert_official(slopes, *sizes).state_dict
        taught = set()
        for name, value in model.named_parameters():
            found = torch.zeros_like(value) if value.grad is None else value.grad
            torch.testing.assert_close(found, renamed[name], atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
            if bool(found.abs().sum() > 0):
                taught.add(name.split(".")[0])
        return taught

    return compare


# ---- the losses restated


def picture(state, image):
    """Tokens of one picture (3, S, S) of bytes."""
    return NET.swin(state, (image / 255 - MEAN) / STD)


def region(box):
    """Tokens of a box, whose centre and size are shares of the square: [CLS] and every patch that it touches."""
    side = NET.SIZE // CELL
    cx, cy, width, height = (value * NET.SIZE for value in box.tolist())
    seen = torch.zeros(side, side, dtype=torch.bool)
    for row in range(side):
        for column in range(side):
            across = cx - width / 2 < (column + 1) * CELL and cx + width / 2 > column * CELL
            seen[row, column] = across and cy - height / 2 < (row + 1) * CELL and cy + height / 2 > row * CELL
    return torch.cat([torch.ones(1, dtype=torch.bool), seen.flatten()])


def region_tokens(tokens, seen):
    """Tokens of a picture with the mean of a region's patches in front."""
    patches = tokens[1:]
    return torch.cat([patches[seen[1:]].mean(0, keepdim=True), patches])


def known(ids):
    return torch.ones(len(ids), dtype=torch.bool)


def read(state, root, ids):
    """States of a sentence alone."""
    return NET.bert(state, root, NET.embed(state, root, ids), known(ids), TEXT_LAYERS)


def fuse(state, root, states, tokens, seen=None):
    """States of a sentence that has seen a picture."""
    return NET.bert(state, root, states, known(states), CROSS_LAYERS, tokens, seen)


def unit(state, name, x):
    projected = NET.linear(state, name, x)
    return projected / projected.norm()


def word_losses(logits, ids, first=1):
    """Minus the log probability of each word from place `first` on, given those before it."""
    return [-logits[place - 1].log_softmax(0)[ids[place]] for place in range(first, len(ids))]


class Pretraining:
    """What the official weights make of `batch`, text by text."""

    root = "text_encoder.bert"

    def __init__(self, state, batch, tokens):
        self.state, self.batch = state, batch
        self.ids = [torch.tensor(tokens.ids(text)) for text in batch["texts"]]
        pictures = [picture(state, image) for image in batch["images"]]
        self.whole = [pictures[place] for place in batch["image_index"].tolist()]
        self.seen = [region(box) for box in batch["boxes_cxcywh_norm"]]
        self.tokens = [region_tokens(own, seen) for own, seen in zip(self.whole, self.seen, strict=True)]
        self.states = [read(state, self.root, ids) for ids in self.ids]
        self.places = range(len(self.ids))

    def cosines(self):
        """Of pictures (rows) and texts, over the temperature."""
        images = torch.stack([unit(self.state, "vision_proj", tokens[0]) for tokens in self.tokens])
        texts = torch.stack([unit(self.state, "text_proj", states[0]) for states in self.states])
        return images @ texts.T / self.state["temp"]

    def contrast(self, own):
        """Both ways; partners of equal `own` share the target."""
        total, table = 0.0, self.cosines()
        for rows in (table, table.T):
            for place in self.places:
                partners = [other for other in self.places if own[other] == own[place]]
                total -= rows[place].log_softmax(0)[partners].mean() / len(self.places) / 2
        return total

    def wrong_pairs(self, own):
        """(text, picture) for all texts, then for all pictures; the likelier the more alike."""
        table = self.cosines().detach()
        same = torch.tensor([[mine == other for other in own] for mine in own])

        def draw(rows):
            return [int(torch.multinomial((rows[k].softmax(0) + 1e-5) * ~same[k], 1)) for k in self.places]

        pictures, texts = draw(table.T), draw(table)
        return [*enumerate(pictures), *zip(texts, self.places, strict=True)]

    def match(self, own):
        pairs = [(place, place, 1) for place in self.places] + [(*pair, 0) for pair in self.wrong_pairs(own)]
        losses = []
        for text, image, right in pairs:
            x = fuse(self.state, self.root, self.states[text], self.tokens[image], self.seen[image])
            losses.append(-NET.mlp(self.state, "itm_head", x[0]).log_softmax(0)[right])
        return sum(losses) / len(losses)

    def words(self, masking):
        rng, losses = random.Random(int(torch.randint(2**31, ()))), []
        for place in self.places:
            hidden = masking(self.ids[place].tolist(), rng)
            states = read(self.state, self.root, torch.tensor(hidden.ids))
            x = fuse(self.state, self.root, states, self.tokens[place], self.seen[place])
            logits = NET.words(self.state, "text_encoder", x)
            losses += [
                -logits[at].log_softmax(0)[word] for at, word in zip(hidden.positions, hidden.targets, strict=True)
            ]
        return sum(losses) / len(losses)

    def boxes(self):
        """L1 and 1 - GIoU of the texts that are of a region, from whole pictures."""
        far, apart = [], []
        for place in self.places:
            if self.batch["is_image"][place]:
                continue
            x = fuse(self.state, self.root, self.states[place], self.whole[place])
            found, true = NET.mlp(self.state, "bbox_head", x[0]).sigmoid(), self.batch["boxes_cxcywh_norm"][place]
            far.append((found - true).abs().sum())
            apart.append(1 - overlap(found, true))
        return sum(far) / len(far), sum(apart) / len(apart)


def overlap(first, second):
    """Generalised IoU of two boxes by its definition."""
    (l1, t1, r1, b1), (l2, t2, r2, b2) = (
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (first.unbind(), second.unbind())
    )
    shared = (min(r1, r2) - max(l1, l2)).clamp_min(0) * (min(b1, b2) - max(t1, t2)).clamp_min(0)
    union = (r1 - l1) * (b1 - t1) + (r2 - l2) * (b2 - t2) - shared
    hull = (max(r1, r2) - min(l1, l2)) * (max(b1, b2) - min(t1, t2))
    return shared / union - (hull - union) / hull


# ---- tests


ENCODERS = {"image_encoder", "text_encoder"}


def test_contrast_by_picture(both, agree, tokens, batch):
    """Texts of one picture share the target; `test_a_pretraining_step` has the loss of strangers."""
    state, model = both("pretrain")
    losses = XVLMTraining(model, tokens, ("contrast",), by_picture=True).loss(**batch)
    expected = {"loss_contrast": Pretraining(state, batch, tokens).contrast(batch["image_index"].tolist())}
    assert agree(losses, expected, model, state) == ENCODERS | {"space"}


def test_matching_by_picture(both, agree, tokens, batch):
    """Partners are of other pictures, drawn by the joint space, which learns nothing from that."""
    state, model = both("pretrain")
    torch.manual_seed(11)
    losses = XVLMTraining(model, tokens, ("match",), by_picture=True).loss(**batch)
    torch.manual_seed(11)
    expected = {"loss_match": Pretraining(state, batch, tokens).match(batch["image_index"].tolist())}
    assert agree(losses, expected, model, state) == ENCODERS | {"fusion", "match_head"}


def test_hidden_words(both, agree, tokens, batch, vocabulary):
    state, model = both("pretrain")
    masking = WordMasking(vocabulary, vocabulary.index("[MASK]"))
    torch.manual_seed(12)
    losses = XVLMTraining(model, tokens, ("words",), masking=masking).loss(**batch)
    torch.manual_seed(12)
    expected = {"loss_words": Pretraining(state, batch, tokens).words(masking)}
    assert agree(losses, expected, model, state) == ENCODERS | {"fusion", "word_head"}


def test_boxes(both, agree, tokens, batch):
    state, model = both("pretrain")
    losses = XVLMTraining(model, tokens, ("box",)).loss(**batch)
    far, apart = Pretraining(state, batch, tokens).boxes()
    assert agree(losses, {"loss_box": far, "loss_giou": apart}, model, state) == ENCODERS | {"fusion", "box_head"}


def test_a_pretraining_step(both, agree, tokens, batch, vocabulary):
    """All losses of one batch at once: partners are drawn before words, from one seed; all weights are 1."""
    state, model = both("pretrain")
    masking = WordMasking(vocabulary, vocabulary.index("[MASK]"))
    torch.manual_seed(13)
    losses = XVLMTraining(model, tokens, masking=masking).loss(**batch)
    torch.manual_seed(13)
    restated, own = Pretraining(state, batch, tokens), list(range(5))
    expected = {"loss_contrast": restated.contrast(own), "loss_match": restated.match(own)}
    expected["loss_words"] = restated.words(masking)
    expected["loss_box"], expected["loss_giou"] = restated.boxes()
    heads = {"space", "match_head", "word_head", "box_head"}
    assert agree(losses, expected, model, state) == ENCODERS | {"fusion"} | heads


@pytest.fixture
def said(vocabulary):
    """A function: words -> ids, [CLS] in front."""
    return lambda text, *behind: torch.tensor([vocabulary.index(word) for word in ("[CLS]", *text.split(), *behind)])


def test_answers(both, agree, tokens, batch, said):
    """[SEP] ends an answer and is learned; sums over words count by weight, and are divided by the pictures."""
    state, model = both("vqa")
    questions = ["the man left of the dog", "a hat", "the red circle"]
    answers, index, weights = ["red", "green", "a cat", "dog"], [0, 0, 1, 2], [0.6, 0.4, 1.0, 0.5]
    losses = QuestionTask(model, tokens).loss(
        batch["images"], questions, answers, torch.tensor(weights), torch.tensor(index)
    )
    asked = [
        fuse(state, "text_encoder", read(state, "text_encoder", said(text)), picture(state, image))
        for text, image in zip(questions, batch["images"], strict=True)
    ]
    total, root = 0.0, "text_decoder.bert"
    for text, place, weight in zip(answers, index, weights, strict=True):
        ids, states = said(text, "[SEP]"), asked[place]
        x = NET.embed(state, root, ids)
        x = NET.bert(state, root, x, known(ids), range(NET.LAYERS - NET.FUSION), states, known(states), causal=True)
        total += weight * sum(word_losses(NET.words(state, "text_decoder", x), ids)) / 3
    parts = ENCODERS | {"fusion", "answer_embedding", "answer_layers", "word_head"}
    assert agree(losses, {"loss_answer": total}, model, state) == parts


def pair_states(state, ids, first, second):
    """Of [CLS] after layers that look at two pictures by turns."""
    layers = range(NET.FUSION + 2 * (NET.LAYERS - NET.FUSION))
    x = NET.embed(state, "text_encoder", ids)
    return NET.bert(state, "text_encoder", x, known(ids), layers, (first, second))[0]


def test_pairs(both, agree, tokens, batch, said):
    state, model = both("nlvr")
    texts, label = ["a dog and the cat", "red hat", "the man left of a square"], [1, 0, 1]
    pairs = {"first": batch["images"], "second": batch["images"].roll(1, 0)}
    losses = PairTask(model, tokens).loss(texts=texts, label=torch.tensor(label), **pairs)
    total, pictures = 0.0, [picture(state, image) for image in batch["images"]]
    for place, (text, right) in enumerate(zip(texts, label, strict=True)):
        x = pair_states(state, said(text), pictures[place], pictures[place - 1])
        total -= NET.mlp(state, "cls_head", x).log_softmax(0)[right] / 3
    assert agree(losses, {"loss_pair": total}, model, state) == ENCODERS | {"fusion", "head"}


def test_the_stage_before_pairs(both, agree, tokens, batch, said):
    """A caption is of the first picture, of the second, or of neither; the projection draws and learns nothing."""
    state, model = both("nlvr-pretrain")
    images = torch.cat([batch["images"], batch["images"].flip(3)])
    texts = ["a dog", "the cat", "red hat", "the man left of a square", "blue circle", "green dog"]
    torch.manual_seed(16)
    losses = PairTask(model, tokens).loss(images=images, texts=texts)
    pictures = [picture(state, image) for image in images]
    torch.manual_seed(16)
    alike = torch.stack([unit(state, "vision_proj", tokens[0]) for tokens in pictures]).detach()
    weights = (alike @ alike.T / 0.07).softmax(1) * (1 - torch.eye(6))
    others, kinds = torch.multinomial(weights, 2).tolist(), torch.randint(3, (6,)).tolist()
    assert set(kinds) == {0, 1, 2} and all(own not in row for own, row in enumerate(others))
    total = 0.0
    for own, (text, kind, (one, other)) in enumerate(zip(texts, kinds, others, strict=True)):
        first, second = ((own, other), (one, own), (one, other))[kind]
        x = pair_states(state, said(text), pictures[first], pictures[second])
        total -= NET.linear(state, "ta_head", x).log_softmax(0)[kind] / 6
    assert agree(losses, {"loss_assignment": total}, model, state) == ENCODERS | {"fusion", "head"}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_captions(both, agree, tokens, batch, said, smoothing):
    """Behind the prompt all words are learned, [SEP] too; smoothing gives each wrong word 0.1 / V, as published."""
    state, model = both("caption")
    texts = ["a man left of the dog", "a man and a hat", "a man play ##ing"]
    task = CaptionTask(model, tokens, prompt="a man ", smoothing=smoothing)
    losses = task.loss(batch["images"], [text.replace(" ##", "") for text in texts])
    found, root = [], "text_decoder.bert"
    for text, image in zip(texts, batch["images"], strict=True):
        ids, seen = said(text, "[SEP]"), picture(state, image)
        x = NET.bert(state, root, NET.embed(state, root, ids), known(ids), range(NET.LAYERS), seen, causal=True)
        log = NET.words(state, "text_decoder", x).log_softmax(1)
        for place in range(3, len(ids)):  # [CLS], "a" and "man" are given
            target = torch.full((NET.VOCABULARY,), smoothing / NET.VOCABULARY)
            target[ids[place]] = 1 - smoothing
            found.append(-(target * log[place - 1]).sum())
    assert len(found) == 5 + 4 + 3
    expected = {"loss_caption": sum(found) / len(found)}
    assert agree(losses, expected, model, state) == ENCODERS | {"fusion", "word_head"}
