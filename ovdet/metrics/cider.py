"""CIDEr-D (Vedantam et al., arXiv:1411.5726) of single captions, with document frequencies of a fixed corpus.

`pycocoevalcap` counts them in the references that it scores, which the batches of a training cannot do; numbers are
otherwise the same. Captions are taken as they are and split at spaces.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ovdet.errors import InputError
from ovdet.files import write_whole

ORDERS = 4
END = " <end>"
"""Behind every caption of a reward, so that one that breaks off is not as good as one that ends."""


class CiderD:
    """Scores captions against what people said of the same picture.

    Args:
        frequencies: runs of 1 to 4 words and in the references of how many pictures they are; 1 for what is missing.
        pictures: number of pictures that were counted.
        sigma: of the penalty for another length than a reference's, in words.

    Raises:
        InputError: a run of words is in more pictures than there are.
    """

    def __init__(self, frequencies: Mapping[str, int], pictures: int, sigma: float = 6.0) -> None:
        most = max(frequencies.values(), default=1)
        if pictures < most:
            raise InputError(f"words of captions are in up to {most} pictures, of {pictures} that were counted")
        self.frequencies, self.log_pictures, self.sigma = frequencies, math.log(pictures), sigma

    def scores(self, captions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Scores, from 0 to 10, of several captions of one picture."""
        known = [self._weighed(one) for one in references]
        said = [self._weighed(one) for one in captions]
        return [10 * sum(self._likeness(mine, theirs) for theirs in known) / len(known) for mine in said]

    def _weighed(self, caption: str) -> _Weighed:
        weights = [
            {run: times * (self.log_pictures - math.log(self.frequencies.get(run, 1))) for run, times in runs.items()}
            for runs in runs_of_words(caption)
        ]
        return _Weighed(weights, max(len(caption.split()), 1))

    def _likeness(self, said: _Weighed, known: _Weighed) -> float:
        """Mean over orders of the cosine, in which a run counts no more often than in the reference."""
        total = 0.0
        for mine, theirs in zip(said.weights, known.weights, strict=True):
            norm = math.hypot(*mine.values()) * math.hypot(*theirs.values())
            if norm:
                total += sum(min(mine[run], theirs[run]) * theirs[run] for run in mine.keys() & theirs.keys()) / norm
        return total / ORDERS * math.exp(-((said.length - known.length) ** 2) / (2 * self.sigma**2))


class _Weighed(NamedTuple):
    """A caption: for each order the weights of its runs of words, and how many words it has."""

    weights: list[dict[str, float]]
    length: int


def runs_of_words(caption: str) -> list[Counter[str]]:
    """How often each run of 1, 2, 3 and 4 words is in a caption."""
    words = caption.split()
    return [Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1)) for n in range(1, ORDERS + 1)]


def count_pictures(references: Iterable[Sequence[str]]) -> tuple[Counter[str], int]:
    """In the references of how many pictures each run of words is, and the number of pictures.

    Args:
        references: captions of each picture, cleaned.
    """
    frequencies: Counter[str] = Counter()
    pictures = 0
    for captions in references:
        frequencies.update({run for one in captions for runs in runs_of_words(one) for run in runs})
        pictures += 1
    return frequencies, pictures


class CiderReward:
    """CIDEr-D as the reward of a training: an end is put behind every caption and every reference.

    Args:
        frequencies: file that tools/data/caption_frequencies.py writes.

    Raises:
        InputError: it cannot be read or is another file.
    """

    def __init__(self, frequencies: str | Path) -> None:
        self.cider = CiderD(*read_frequencies(frequencies))

    def __call__(self, captions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Rewards, from 0 to 10, of several captions of one picture."""
        return self.cider.scores([one + END for one in captions], [one + END for one in references])


def write_frequencies(path: str | Path, references: Iterable[Sequence[str]]) -> int:
    """Count and write what `CiderReward` reads; gives the number of pictures.

    Runs of words that are in one picture alone are left out: that is what a missing one counts as.
    """
    frequencies, pictures = count_pictures([one + END for one in captions] for captions in references)
    common = {run: count for run, count in sorted(frequencies.items()) if count > 1}
    write_whole(Path(path), json.dumps({"pictures": pictures, "frequencies": common}, ensure_ascii=False).encode())
    return pictures


def read_frequencies(path: str | Path) -> tuple[dict[str, int], int]:
    """Read frequencies and the number of pictures.

    Raises:
        InputError: the file cannot be read or is another one.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        return {str(run): int(count) for run, count in content["frequencies"].items()}, int(content["pictures"])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}; tools/data/caption_frequencies.py makes it") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no file of tools/data/caption_frequencies.py: {error}") from error
