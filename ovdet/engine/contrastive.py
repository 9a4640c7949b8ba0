"""Training of towers through mmengine: an adapter, and the texts of the data handed to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from ovdet.engine.hooks import bare_model, build_from


class TowerTraining(BaseModel):
    """mmengine's contract around a module with `loss(**batch) -> dict` and `predict(**batch) -> scores`.

    Args:
        task: `dict(type=..., ...)` of the module.
    """

    def __init__(self, task: Mapping[str, Any]) -> None:
        super().__init__()
        self.task = build_from(task)

    def forward(self, mode: str = "tensor", **batch: Any) -> Any:
        """Losses in mode "loss", else scores with the labels they should find."""
        if mode == "loss":
            return self.task.loss(**batch)
        with torch.no_grad():
            scores = self.task.predict(**batch)
        return [{"scores": row, "label": int(label)} for row, label in zip(scores, batch["label"], strict=True)]


class TextsHook(Hook):
    """Hands the texts of the data set at hand to the model: `task.set_texts(dataset.texts, dataset.of_names)`."""

    def __init__(self) -> None:
        self._last: Any = None

    def before_train(self, runner: Runner) -> None:
        """Texts of the training data."""
        self._hand_over(runner, runner.train_dataloader)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Texts of the training data again."""
        if runner._train_loop is not None and not isinstance(runner._train_loop, dict):
            self._hand_over(runner, runner.train_dataloader)

    def before_val_epoch(self, runner: Runner) -> None:
        """Texts of the validation data."""
        self._hand_over(runner, runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Texts of the test data."""
        self._hand_over(runner, runner.test_dataloader)

    def _hand_over(self, runner: Runner, loader: Any) -> None:
        dataset = loader.dataset
        if self._last != (dataset.texts, dataset.of_names):
            bare_model(runner).task.set_texts(dataset.texts, dataset.of_names)
            self._last = (dataset.texts, dataset.of_names)
