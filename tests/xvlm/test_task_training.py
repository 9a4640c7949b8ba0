import pytest
import torch

from ovdet.errors import InputError
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.task_training import CaptionTask, PairTask, QuestionTask, RetrievalTask, WeakGroundingTask


@pytest.fixture
def make(swin_sizes, text_sizes, tokens):
    def task(name, kind, **settings):
        torch.manual_seed(0)
        return kind(xvlm(name, swin_sizes, text_sizes, embed_dim=16), tokens, **settings)

    return task


@pytest.fixture
def images():
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def learn(task, steps, **batch):
    """First and last value of the summed losses."""
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-3)
    values = []
    for _ in range(steps):
        value = sum(task.loss(**batch).values())
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    return values[0], values[-1]


def test_answers_are_learned_and_chosen_from_the_list(make, images):
    answers = ["red", "blue", "a dog", "green cat"]
    task = make("vqa", QuestionTask, answers=answers, k=3)
    batch = {
        "images": images,
        "questions": ["the hat", "the man", "the dog", "the cat"],
        "answers": answers,
        "weights": torch.ones(4),
        "answer_index": torch.arange(4),
    }
    first, last = learn(task, 40, **batch)
    assert last < 0.2 * first
    found = task.eval().predict(images, batch["questions"], question_ids=torch.arange(4))
    assert [one["answer"] for one in found] == answers and all(0.5 < one["score"] <= 1 for one in found)
    task.answers = []
    with pytest.raises(InputError, match="chosen from a list"):
        task.predict(images, batch["questions"])


def test_marks_in_answers_are_not_cleaned_away(make, tokens):
    ids, mask = make("vqa", QuestionTask).split_with_end(["dog", "red ?"])
    end, start = tokens.wordpiece.id_of("[SEP]"), tokens.wordpiece.id_of("[CLS]")
    assert ids[0].tolist() == [start, tokens.wordpiece.id_of("dog"), end, tokens.wordpiece.pad]
    assert ids[1].tolist() == [start, tokens.wordpiece.id_of("red"), tokens.wordpiece.id_of("[UNK]"), end]
    assert mask.tolist() == [[True, True, True, False], [True] * 4]


def test_pairs_are_learned(make, images):
    task = make("nlvr", PairTask)
    batch = {"first": images, "second": images.flip(0), "texts": ["a dog", "the cat", "red", "blue man"]}
    label = torch.tensor([1, 0, 0, 1])
    first, last = learn(task, 30, **batch, label=label)
    assert last < 0.3 * first
    assert [one["label"] for one in task.eval().predict(**batch, label=label)] == label.tolist()
    with pytest.raises(InputError, match="the stage before NLVR2 alone"):
        task.loss(images=images, texts=batch["texts"])


def test_the_stage_before_assigns_captions_to_pictures(make, images):
    task = make("nlvr-pretrain", PairTask)
    batch = {"images": images, "texts": ["a dog", "the cat", "red", "blue man"], "image_index": torch.arange(4)}
    value = task.loss(**batch)["loss_assignment"]
    value.backward()
    assert 0.3 < float(value.detach()) < 3 and all(p.grad is not None for p in task.model.head.parameters())
    assert task.model.image_projection.weight.grad is None  # it only draws, as published
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)  # else processes wait for each other
    with pytest.raises(InputError, match="at least 3 pictures"):
        task.loss(images=images[:2], texts=batch["texts"][:2])


def test_captions_are_learned_behind_the_prompt(make, images):
    task = make("caption", CaptionTask, prompt="a man ", shortest=4, longest=9, beams=2)
    said = ["red square", "blue circle left", "playing dog", "the green hat above"]
    texts = [f"a man {text}" for text in said]
    first, last = learn(task, 60, images=images, texts=texts)
    assert last < 0.2 * first
    assert [one["caption"] for one in task.eval().predict(images)] == said


def test_vectors_are_those_of_the_contrastive_loss(make, batch):
    task = make("retrieval", RetrievalTask, losses=("contrast", "match"), by_picture=True).eval()
    found = task.predict(**batch)
    assert [len(one["text_vectors"]) for one in found] == [2, 1, 2]
    vectors = torch.cat([one["text_vectors"] for one in found])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)
    whole = {**batch, "is_image": torch.ones(5, dtype=torch.bool)}
    images = torch.stack([found[place]["image_vector"] for place in batch["image_index"].tolist()])
    logits = images @ vectors.T / task.model.space.temperature
    own = batch["image_index"]
    target = (own[:, None] == own[None]).float()
    target = target / target.sum(1, keepdim=True)
    expected = (
        -(target * logits.log_softmax(1)).sum(1).mean() / 2 - (target * logits.T.log_softmax(1)).sum(1).mean() / 2
    )
    assert float(task.loss(**whole)["loss_contrast"].detach()) == pytest.approx(float(expected.detach()), abs=1e-4)


def test_pairs_are_scored_as_the_matching_head_does(make, batch, tokens):
    task = make("retrieval", RetrievalTask, losses=("contrast", "match")).eval()
    assert "tokens" not in task.predict(**batch)[0]
    task.keeps_states = True
    found = task.predict(**batch)
    kept = [states for one in found for states in one["text_states"]]
    pairs = [(picture, text) for picture in range(3) for text in range(5)]
    scores = task.score_pairs([one["tokens"] for one in found], kept, pairs)
    for (picture, text), score in zip(pairs, scores.tolist(), strict=True):
        with torch.no_grad():
            ids, mask = tokens([batch["texts"][text]])
            seen = task.model.encode_images(task.prepare(batch["images"][picture : picture + 1])).tokens
            fused = task.model.first(task.model.encode_text(ids, mask), mask, seen)
            expected = float(task.model.match_logits(fused)[0, 1])
        assert score == pytest.approx(expected, abs=3e-3)  # half precision


def test_heat_is_spread_over_each_picture(make, batch):
    task = make("retrieval", WeakGroundingTask, losses=("contrast", "match"), layer=1).eval()
    sizes = torch.tensor([[40, 60], [50, 30], [64, 64]])
    with torch.no_grad():
        found = task.predict(**batch, size_hw=sizes)
    assert [one["heat"].shape for one in found] == [(40, 60), (40, 60), (50, 30), (64, 64), (64, 64)]
    one = {"images": batch["images"][1:2], "texts": batch["texts"][2:3], "image_index": torch.tensor([0])}
    (alone,) = task.predict(**one, size_hw=sizes[1:2])
    together = found[2]["heat"]  # padded tokens count in its mean, which changes its scale and no ranking
    assert together.max() > 0
    assert alone["heat"] / alone["heat"].max() == pytest.approx(together / together.max(), abs=1e-3)
