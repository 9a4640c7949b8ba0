"""Which picture comes when: a stream that is a function of the seed alone, so that a killed run resumes exactly."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler


class Draw(int):
    """An index into a data set that knows its place in the stream; the data set seeds its transforms by it."""

    number: int

    def __new__(cls, index: int, number: int) -> Draw:
        """Make one of an index and the number of the draw, counted over all ranks."""
        draw = super().__new__(cls, index)
        draw.number = number
        return draw

    def __reduce__(self) -> tuple[Any, ...]:
        return Draw, (int(self), self.number)


def seed_everything(*parts: int) -> None:
    """Seed Python, NumPy and torch with a hash of integers, such as (seed, rank, iteration)."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    value = int.from_bytes(digest[:4], "little")
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


class SeededSampler(Sampler):
    """Shuffled passes over a data set, dealt to the ranks in turn; pass p is shuffled by (seed, p).

    Args:
        dataset: anything with a length (and `get_cat_ids`, if a threshold is given).
        seed: of the order. Equal seeds give equal streams on any machine.
        endless: one endless stream, for training by iterations. Else one pass at a time; mmengine's loop then says
            which by `set_epoch`. A pass is filled up from its own beginning, so that the ranks draw equally many.
        repeat_threshold: t of LVIS's repeat-factor sampling (Gupta et al. 2019): a picture occurs
            ceil(max over its classes c of sqrt(t / share of pictures with c)) times a pass. None: once.
        start: draws of this rank to leave out at the beginning (resume).
    """

    def __init__(
        self,
        dataset: Any,
        seed: int = 0,
        *,
        endless: bool = True,
        repeat_threshold: float | None = None,
        start: int = 0,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.seed, self.endless, self.start, self.epoch = seed, endless, start, 0
        repeats = [1] * len(dataset) if repeat_threshold is None else repeat_factors(dataset, repeat_threshold)
        self.indices = np.repeat(np.arange(len(dataset)), repeats)
        self.pass_length = math.ceil(len(self.indices) / self.world_size) * self.world_size

    def __len__(self) -> int:
        """Draws of this rank in one pass."""
        return self.pass_length // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Say which pass comes next; only of use where passes are counted by the loop."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Draw]:
        number, past = self.start, math.inf
        if not self.endless:
            number, past = self.epoch * len(self), (self.epoch + 1) * len(self)
        current, order = -1, self.indices
        while number < past:
            if number // len(self) != current:
                current = number // len(self)
                order = self._order(current)
            place = number % len(self) * self.world_size + self.rank
            yield Draw(int(order[place]), number * self.world_size + self.rank)
            number += 1

    def _order(self, number: int) -> np.ndarray:
        """The shuffled pass, (pass_length,)."""
        shuffled = np.random.default_rng((self.seed, number)).permutation(self.indices)
        return np.resize(shuffled, self.pass_length)


def repeat_factors(dataset: Any, threshold: float) -> list[int]:
    """How often each picture occurs in a pass of repeat-factor sampling, rounded up as mmdet does."""
    labels = [set(dataset.get_cat_ids(index)) for index in range(len(dataset))]
    counts = Counter(label for one in labels for label in one)
    factor = {label: max(1.0, math.sqrt(threshold * len(dataset) / count)) for label, count in counts.items()}
    return [math.ceil(max((factor[label] for label in one), default=1.0)) for one in labels]
