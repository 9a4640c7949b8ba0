"""A training loop that resumes where it was, without reading again what it read before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.runner import IterBasedTrainLoop


class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's loop by iterations, for samplers that can start anywhere (`ovdet.data.sampling.SeededSampler`).

    mmengine itself would read, decode and transform every batch up to the point of resumption.
    """

    def run(self) -> Any:
        """Train from the current iteration on."""
        sampler = self.dataloader.sampler
        if self._iter and getattr(sampler, "endless", False):
            sampler.start = self._iter * self.dataloader.batch_size
            self.dataloader_iterator = _Ahead(iter(self.dataloader), self._iter)
        return super().run()


class _Ahead:
    """An iterator that was moved on already: the first `count` steps, which mmengine takes to get there, are free."""

    def __init__(self, iterator: Iterator[Any], count: int) -> None:
        self.iterator, self.count = iterator, count

    def __next__(self) -> Any:
        if self.count:
            self.count -= 1
            return None
        return next(self.iterator)
