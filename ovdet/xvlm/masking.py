"""Which words of a sentence are hidden from the model: the published rules, on Python's own random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ovdet.errors import InputError


class MaskedTokens(NamedTuple):
    """A sentence with hidden words.

    Attributes:
        ids: all tokens, some replaced.
        positions: of the hidden ones.
        targets: what stood there.
    """

    ids: list[int]
    positions: list[int]
    targets: list[int]


@dataclass(frozen=True)
class WordMasking:
    """Hide words: whole ones, or spans of two or three tokens widened to whole words.

    Attributes:
        vocabulary: the tokens in order of their ids; pieces inside a word start with `##`.
        mask: id of the token that stands for a hidden word.
        share: of a sentence's tokens, the first one counted in, that are hidden.
        most: hidden tokens of a sentence.
        span_share: how often a span is hidden instead of one word.
        longest_span: in tokens, at least 2.
    """

    vocabulary: Sequence[str]
    mask: int
    share: float = 0.25
    most: int = 8
    span_share: float = 0.2
    longest_span: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.most < 1 or self.longest_span < 2:
            raise InputError("share must lie in (0, 1], most be at least 1 and longest_span at least 2")

    def count(self, length: int) -> int:
        """How many of `length` tokens are hidden at most; halves round to even."""
        return min(self.most, max(1, round(length * self.share)))

    def __call__(self, ids: Sequence[int], rng: random.Random) -> MaskedTokens:
        """Hide some words of a sentence.

        Args:
            ids: tokens; the first one is never hidden.
            rng: what is drawn from.

        Returns:
            The sentence with its hidden words: eight of ten replaced by the mask, one by any token, one left alone.
            No position where there is but the first token.
        """
        chosen = self._choose(ids, rng)
        replaced = list(ids)
        for position in chosen:
            if rng.random() < 0.8:
                replaced[position] = self.mask
            elif rng.random() < 0.5:
                replaced[position] = rng.randint(0, len(self.vocabulary) - 1)
        return MaskedTokens(replaced, chosen, [ids[position] for position in chosen])

    def _choose(self, ids: Sequence[int], rng: random.Random) -> list[int]:
        """Positions to hide; spans are gone through in a random order until there are enough."""
        wanted = self.count(len(ids))
        order = list(range(1, len(ids)))
        rng.shuffle(order)
        chosen: set[int] = set()
        for position in order:
            if len(chosen) >= wanted:
                break
            if position in chosen:
                continue
            is_span = self.span_share > 0 and rng.random() < self.span_share
            length = rng.randint(2, self.longest_span) if is_span else 1
            chosen.update(self._whole_words(ids, position, position + length))
        if len(chosen) > wanted:
            return sorted(rng.sample(sorted(chosen), wanted))
        return sorted(chosen)

    def _whole_words(self, ids: Sequence[int], start: int, end: int) -> range:
        """The span widened to whole words, within the sentence."""
        while start > 1 and self._goes_on(ids[start]):
            start -= 1
        while end < len(ids) and self._goes_on(ids[end]):
            end += 1
        return range(start, min(end, len(ids)))

    def _goes_on(self, token: int) -> bool:
        return self.vocabulary[token].startswith("##")
