"""Training of models of sentences through mmengine: an adapter, a loop of two grains, and the published optimiser."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from mmengine.runner import Runner
from torch import nn

from ovdet.engine.hooks import bare_model, build_from
from ovdet.engine.loops import ResumableIterLoop
from ovdet.errors import InputError


class SentenceTraining(BaseModel):
    """mmengine's contract around a module with `loss(**batch) -> dict` and `predict(**batch) -> list of dicts`.

    Args:
        task: `dict(type=..., ...)` of the module.
    """

    def __init__(self, task: Mapping[str, Any]) -> None:
        super().__init__()
        self.task = build_from(task)

    def forward(self, mode: str = "tensor", **batch: Any) -> Any:
        """Losses in mode "loss", else answers for the evaluators of `ovdet.metrics.sentence_evaluators`."""
        if mode == "loss":
            return self.task.loss(**batch)
        with torch.no_grad():
            return self.task.predict(**batch)


class TwoGrainLoop(ResumableIterLoop):
    """Takes steps of `ovdet.data.batches.TwoGrains`, as published for X-VLM's pre-training.

    Each is a full optimiser step on regions, if there are any, then another on pictures; schedules advance once.
    """

    def run_iter(self, data_batch: Mapping[str, Any]) -> None:
        """One step."""
        self.runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=data_batch)
        outputs: dict[str, Any] = {}
        for grain in ("regions", "images"):
            if data_batch[grain] is not None:
                found = self.runner.model.train_step(data_batch[grain], optim_wrapper=self.runner.optim_wrapper)
                outputs |= {f"{grain}_{name}": value for name, value in found.items()}
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=data_batch, outputs=outputs)
        self._iter += 1


class SecondStageHook(Hook):
    """Hands the model's matching head to evaluators that rank in two stages (`keep` above 0), before they start.

    Raises:
        InputError: several processes test; what is matched lies in the memory of one.
    """

    def before_val(self, runner: Runner) -> None:
        """Hand it to the evaluators of validation."""
        self._hand(runner, runner.val_loop.evaluator)

    def before_test(self, runner: Runner) -> None:
        """Hand it to the evaluators of the test."""
        self._hand(runner, runner.test_loop.evaluator)

    def _hand(self, runner: Runner, evaluator: Evaluator) -> None:
        task = bare_model(runner).task
        wanting = [metric for metric in evaluator.metrics if getattr(metric, "keep", 0)]
        task.keeps_states = bool(wanting)
        for metric in wanting:
            if get_world_size() > 1:
                raise InputError("two-stage retrieval is tested by one process; run tools/test.py without a launcher")
            metric.score_pairs = task.score_pairs


class RewardHook(Hook):
    """Hands a training by reward what its reward is, before it starts.

    Args:
        reward: `dict(type=..., ...)` of what is called with captions of a picture and its references.
    """

    def __init__(self, reward: Mapping[str, Any]) -> None:
        self.reward = dict(reward)

    def before_train(self, runner: Runner) -> None:
        """Hand it over."""
        bare_model(runner).task.reward = build_from(self.reward)


class ByName:
    """Groups parameters by their names: some are not decayed, some learn faster.

    mmengine's own constructor cannot say both of one parameter; X-VLM's recipe does.

    Args:
        optim_wrapper_cfg: of mmengine.
        paramwise_cfg: `dict(no_decay=[...], decay=[...], faster=[...], lr_mult=2.0)`, regular expressions that are
            searched for in names. What `decay` finds is decayed whatever `no_decay` finds.

    Raises:
        InputError: an expression finds no parameter.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        self.wrapper, self.rules = dict(optim_wrapper_cfg), dict(paramwise_cfg or {})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build optimiser and wrapper for a model."""
        optimizer = dict(self.wrapper.pop("optimizer"))
        groups = self._groups(model, optimizer["lr"], optimizer.get("weight_decay", 0.0))
        wrapper = dict(self.wrapper)
        wrapper.setdefault("type", OptimWrapper)
        return OPTIM_WRAPPERS.build(
            wrapper, default_args={"optimizer": OPTIMIZERS.build({**optimizer, "params": groups})}
        )

    def _groups(self, model: nn.Module, rate: float, decay: float) -> list[dict[str, Any]]:
        names = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
        for field in ("no_decay", "decay", "faster"):
            for rule in self.rules.get(field, ()):
                if not any(re.search(rule, name) for name, _ in names):
                    raise InputError(f"paramwise_cfg: {field} has {rule!r}, which is in no parameter's name")
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, one in names:
            decayed = self._said("decay", name) or not self._said("no_decay", name)
            faster = self.rules.get("lr_mult", 2.0) if self._said("faster", name) else 1.0
            groups.setdefault((rate * faster, decay if decayed else 0.0), []).append(one)
        return [{"params": some, "lr": lr, "weight_decay": wd} for (lr, wd), some in groups.items()]

    def _said(self, field: str, name: str) -> bool:
        rules: Sequence[str] = self.rules.get(field, ())
        return any(re.search(rule, name) for rule in rules)
