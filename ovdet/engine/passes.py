"""Training by passes over data whose length is known only when it is read, and a schedule that follows it."""

from __future__ import annotations

from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import Runner

from ovdet.engine.loops import ResumableIterLoop
from ovdet.errors import InputError


class PassLoop(ResumableIterLoop):
    """So many passes over the training data, counted in steps.

    A pass has as many steps as each process has whole batches of its share of the data, as where a loader drops the
    batch that is cut short. Schedules that state no `end` get the steps of all passes from mmengine.

    Args:
        runner: of mmengine.
        dataloader: `dict(...)` of it; its sampler has a length, such as `ovdet.data.sampling.SeededSampler`.
        passes: over the data.
        val_passes: after each so many passes there is a validation.

    Raises:
        InputError: the data of a process is not enough for one batch.
    """

    def __init__(self, runner: Runner, dataloader: Any, passes: int, val_passes: int = 1) -> None:
        if isinstance(dataloader, dict):
            dataloader = runner.build_dataloader(dataloader, seed=runner.seed)
        drawn, batch = len(dataloader.sampler), dataloader.batch_size
        steps = drawn // batch
        if not steps:
            raise InputError(f"a pass has no step: each process has {drawn} samples, and batches are of {batch}")
        super().__init__(runner, dataloader, max_iters=passes * steps, val_interval=val_passes * steps)


class LinearUpAndDown(LRSchedulerMixin, _ParamScheduler):
    """Learning rates from 0 linearly up over a share of the steps, then linearly down to 0 at the end.

    Args:
        optimizer: of mmengine or torch.
        warm_up: share of the steps up to `end`.
        end: steps of the training; mmengine sets those of its loop where a config does not say.
        more: arguments of mmengine's schedulers: last_step, verbose.

    Raises:
        InputError: `warm_up` is no share, or leaves no step to go up or down.
    """

    def __init__(self, optimizer: Any, warm_up: float, end: int, by_epoch: bool = False, **more: Any) -> None:
        self.warm_up = int(warm_up * end)
        if not 0 <= self.warm_up < end or by_epoch:
            raise InputError(f"warm_up is a share of the steps, below 1, and steps are counted; got {warm_up} of {end}")
        super().__init__(optimizer, begin=0, end=end, by_epoch=False, **more)

    def _get_value(self) -> list[float]:
        step = self.last_step
        up = step < self.warm_up
        share = step / self.warm_up if up else (self.end - step) / (self.end - self.warm_up)
        return [value * share for value in self.base_values]
