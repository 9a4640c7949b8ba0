from itertools import count
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.optim import LinearLR, OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner
from torch import nn

from ovdet.data.batches import EndlessDataset, TwoGrains, only_one, takes_regions
from ovdet.engine.sentences import ByName, RewardHook, SecondStageHook, SentenceTraining, TwoGrainLoop
from ovdet.errors import InputError
from ovdet.metrics.sentence_evaluators import RetrievalMetric


class Task(nn.Module):
    """Notes what it is given; its only weight sinks by the learning rate a step."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def loss(self, images, texts, is_image, **batch):
        self.seen.append("regions" if not is_image.all() else "images")
        return {"loss_it": self.weight + 0 * images.float().mean()}

    def predict(self, texts, **batch):
        return [{"score": len(text)} for text in texts]


class Samples(EndlessDataset):
    def __init__(self, whole):
        self.whole = whole

    def __iter__(self):
        for number in count():
            yield {
                "image": torch.zeros(3, 4, 4, dtype=torch.uint8),
                "texts": ["a"],
                "boxes_cxcywh_norm": torch.rand(1, 4),
                "is_image": torch.tensor([self.whole]),
                "image_id": number,
                "draw": number,
            }


def test_answers_are_the_tasks_own():
    model = SentenceTraining(dict(type=Task))
    assert model(mode="predict", texts=["ab", "c"]) == [{"score": 2}, {"score": 1}]
    batch = {"images": torch.zeros(1, 3, 4, 4), "texts": ["a"], "is_image": torch.tensor([True])}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.5))
    numbers = model.train_step(batch, wrapper)
    assert numbers["loss_it"] == 0 and float(model.task.weight.detach()) == -0.5


def test_each_grain_takes_a_step_and_the_schedule_one(tmp_path):
    steps = 12
    runner = Runner(
        model=SentenceTraining(dict(type=Task)),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=TwoGrains(Samples(True), Samples(False), 2, 2, 3, region_share=0.5, seed=1),
            sampler=None,
            batch_size=1,
            collate_fn=dict(type=only_one),
            num_workers=0,
        ),
        optim_wrapper=dict(type=OptimWrapper, optimizer=dict(type=torch.optim.SGD, lr=1.0)),
        param_scheduler=[dict(type=LinearLR, start_factor=1.0, end_factor=0.0, by_epoch=False, begin=0, end=steps)],
        train_cfg=dict(type=TwoGrainLoop, max_iters=steps),
        default_hooks=dict(checkpoint=None, logger=None),
        log_level="ERROR",
    )
    runner.train()
    turns = [takes_regions(1, step, 0.5) for step in range(steps)]
    task = runner.model.task
    assert task.seen == [grain for turn in turns for grain in (["regions"] if turn else []) + ["images"]]
    rates = [1 - step / (steps - 1) for step in range(steps)]  # linear from 1 at the first step to 0 at the last
    expected = -sum(rate * (2 if turn else 1) for rate, turn in zip(rates, turns, strict=True))
    assert float(task.weight.detach()) == pytest.approx(expected, abs=1e-4)


def test_a_reward_is_handed_over_before_the_training():
    model = SentenceTraining(dict(type=Task))
    hook = RewardHook(dict(type=dict, a=1))
    hook.before_train(SimpleNamespace(model=model))
    assert model.task.reward == {"a": 1}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.match_head = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)


def optimiser_of(rules):
    settings = dict(
        type=OptimWrapper, constructor=ByName, paramwise_cfg=rules,
        optimizer=dict(type=torch.optim.AdamW, lr=0.1, weight_decay=0.01),
    )  # fmt: skip
    model = Net()
    optimiser = build_optim_wrapper(model, settings).optimizer
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}


def test_groups_by_name():
    rules = dict(no_decay=["bias", r"norm\.weight$"], faster=["^match_head"], lr_mult=2.0)
    assert optimiser_of(rules) == {
        "body.weight": (0.1, 0.01),
        "body.bias": (0.1, 0.0),
        "norm.weight": (0.1, 0.0),
        "norm.bias": (0.1, 0.0),
        "match_head.0.weight": (0.2, 0.01),
        "match_head.0.bias": (0.2, 0.0),
        "match_head.1.weight": (0.2, 0.01),
        "match_head.1.bias": (0.2, 0.0),
    }
    assert optimiser_of(dict(no_decay=["bias"], decay=["body.bias"]))["body.bias"] == (0.1, 0.01)
    assert set(optimiser_of(None).values()) == {(0.1, 0.01)}


def test_a_rule_that_finds_nothing_is_a_mistake():
    with pytest.raises(InputError, match="faster has 'cross_attn', which is in no parameter's name"):
        optimiser_of(dict(faster=["cross_attn"]))


class Ranking(Task):
    """Pictures and texts whose vectors are all alike, so that only the second stage can tell them apart."""

    keeps_states = False

    def predict(self, texts, **batch):
        answer = {"image_vector": torch.ones(1), "text_vectors": torch.ones(1, 1)}
        kept = {"tokens": texts[0], "text_states": [texts[0]]}
        return [answer | kept if self.keeps_states else answer]

    def score_pairs(self, tokens, states, pairs):
        return [float(tokens[i] == states[k]) for i, k in pairs]


@pytest.mark.parametrize(("keep", "expected"), [(0, 0), (3, 100)])
def test_evaluators_of_two_stages_get_the_models_head(tmp_path, monkeypatch, keep, expected):
    names = ["a", "b", "c"]
    metric = RetrievalMetric(keep=keep)
    runner = Runner(
        model=SentenceTraining(dict(type=Ranking)),
        work_dir=str(tmp_path),
        test_dataloader=dict(
            dataset=names,
            sampler=dict(type=DefaultSampler, shuffle=False),
            batch_size=1,
            collate_fn=dict(type=as_texts),
        ),
        test_evaluator=[metric],
        test_cfg=dict(),
        custom_hooks=[dict(type=SecondStageHook)],
        default_hooks=dict(checkpoint=None, logger=None),
        log_level="ERROR",
    )
    numbers = runner.test()
    assert numbers["retrieval/TR@1"] == numbers["retrieval/IR@1"] == expected
    assert runner.model.task.keeps_states == bool(keep)
    if keep:
        monkeypatch.setattr("ovdet.engine.sentences.get_world_size", lambda: 2)
        with pytest.raises(InputError, match="tested by one process"):
            runner.test()


def as_texts(samples):
    return {"texts": samples}
