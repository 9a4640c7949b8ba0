"""Episodes: a picture to segment, and examples of the class that is meant; as lists that can be stored and read.

An episode list is drawn once from a seed and a rule. Written to a file, it is the same for everybody; its digest goes
into the protocol of a result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ovdet.errors import InputError
from ovdet.files import write_whole

FORMAT = "ovdet-episodes-1"


@dataclass(frozen=True)
class Episode:
    """What to segment, by which examples.

    Attributes:
        label: number of the class in its protocol.
        query: name of the picture to segment.
        supports: names of the examples' pictures; a name may come twice.
    """

    label: int
    query: str
    supports: tuple[str, ...]


@dataclass(frozen=True)
class EpisodeList:
    """Episodes of one fold.

    Attributes:
        protocol: such as "pascal-5i".
        fold: number of the fold, or 0 where there is one only.
        shots: examples of each episode.
        seed: that they were drawn with.
        names: class number -> name, for the classes of the fold.
        episodes: in the order in which they were drawn.
        notes: what else a reader must know, such as where the lists of pictures came from.
    """

    protocol: str
    fold: int
    shots: int
    seed: int
    names: dict[int, str]
    episodes: tuple[Episode, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.episodes:
            raise InputError(f"{self.protocol}, fold {self.fold}: there is no episode")
        for index, episode in enumerate(self.episodes):
            if episode.label not in self.names or len(episode.supports) != self.shots:
                raise InputError(
                    f"{self.protocol}, fold {self.fold}: episode {index} is of class {episode.label} with "
                    f"{len(episode.supports)} examples; wanted is one of {len(self.names)} classes with {self.shots}"
                )

    @property
    def digest(self) -> str:
        """SHA-256 of the episodes alone: equal if and only if the same pictures are asked and shown in one order."""
        rows = [[one.label, one.query, *one.supports] for one in self.episodes]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def stamp(self) -> dict[str, Any]:
        """What a result says of its episodes."""
        return {
            "data": self.protocol,
            "fold": self.fold,
            "classes": len(self.names),
            "shots": self.shots,
            "seed": self.seed,
            "episodes": len(self.episodes),
            "episodes_sha256": self.digest,
            **self.notes,
        }


def write_episodes(path: str | Path, episodes: EpisodeList) -> None:
    """Write a list as JSON, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    content = {"format": FORMAT, "sha256": episodes.digest, **asdict(episodes)}
    write_whole(Path(path), (json.dumps(content, indent=1) + "\n").encode())


def read_episodes(path: str | Path) -> EpisodeList:
    """Read what `write_episodes` wrote.

    Raises:
        InputError: the file is missing, is no such list, or its episodes were changed.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        if content["format"] != FORMAT:
            raise InputError(f"{path} is of the format {content['format']!r}, not {FORMAT}")
        names = {int(label): str(name) for label, name in content["names"].items()}
        rows = tuple(Episode(int(row["label"]), row["query"], tuple(row["supports"])) for row in content["episodes"])
        shared = {key: content[key] for key in ("protocol", "fold", "shots", "seed", "notes")}
        found = EpisodeList(**shared, names=names, episodes=rows)
    except OSError as error:
        raise InputError(f"cannot read the episodes {path}: {error.strerror or error}") from error
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no list of episodes ({type(error).__name__}: {error})") from error
    if found.digest != content.get("sha256"):
        raise InputError(f"{path} was changed after it was written: its episodes do not have the stated sha256")
    return found


@dataclass(frozen=True, eq=False)
class EpisodePictures:
    """An episode with its pixels.

    Attributes:
        label: number of the class.
        query: (H, W, 3) uint8 RGB.
        truth: (H, W) bool: what should be found.
        judged: (H, W) bool: False where neither truth nor answer counts.
        examples: K pictures (h, w, 3) uint8 with their masks (h, w) bool.
    """

    label: int
    query: np.ndarray
    truth: np.ndarray
    judged: np.ndarray
    examples: tuple[tuple[np.ndarray, np.ndarray], ...]


class ClassPictures(Protocol):
    """Pictures with masks of classes, by name."""

    def picture(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""

    def mask(self, name: str, label: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) bool of the class, and (H, W) bool of the pixels that are judged."""


class Episodes:
    """The episodes of a list, with pixels, read when asked for.

    Args:
        episodes: the list.
        pictures: where the pixels come from.
    """

    def __init__(self, episodes: EpisodeList, pictures: ClassPictures) -> None:
        self.list, self.pictures = episodes, pictures

    def __len__(self) -> int:
        return len(self.list.episodes)

    def __getitem__(self, index: int) -> EpisodePictures:
        episode = self.list.episodes[index]
        truth, judged = self.pictures.mask(episode.query, episode.label)
        examples = tuple(
            (self.pictures.picture(name), self.pictures.mask(name, episode.label)[0]) for name in episode.supports
        )
        return EpisodePictures(episode.label, self.pictures.picture(episode.query), truth, judged, examples)


def draw_supports(rng: np.random.RandomState, names: Sequence[str], query: str, shots: int) -> tuple[str, ...]:
    """Examples drawn at random, the query excluded, repeats allowed, as HSNet's data sets draw them.

    The stream of numbers is that of `numpy.random.choice(names, 1, replace=False)`, call by call.

    Raises:
        InputError: there is no picture but the query.
    """
    if not any(name != query for name in names):
        raise InputError(f"the class of {query} has no other picture to take as an example")
    drawn: list[str] = []
    while len(drawn) < shots:
        name = names[int(rng.choice(len(names), 1, replace=False)[0])]
        if name != query:
            drawn.append(name)
    return tuple(drawn)
