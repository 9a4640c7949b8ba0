"""Which pictures a sentence means, and which sentences a picture: ranked by vectors, the best looked at again.

The first stage compares vectors of the joint space, which an index keeps; the second asks the matching head of the
best of them, which sees picture and sentence together (X-VLM, arXiv:2111.08276, section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovdet.errors import InputError, OvdetError
from ovdet.grounder import Grounder
from ovdet.picture_index import PictureIndex
from ovdet.xvlm.predict import EncodedSentences

RERANKED = 32
"""Candidates that the second stage looks at, where the caller does not say."""


@dataclass(frozen=True)
class Hit:
    """A place in a ranking.

    Attributes:
        place: of the picture or sentence in the list that was given.
        similarity: cosine of the first stage.
        chance: that picture and sentence match, from the second stage; None beyond its reach.
    """

    place: int
    similarity: float
    chance: float | None


@dataclass(frozen=True)
class Gallery:
    """Pictures with their vectors.

    Attributes:
        paths: N files.
        vectors: (N, E) of unit length.
    """

    paths: tuple[Path, ...]
    vectors: np.ndarray


class Retriever:
    """Ranks pictures by sentences, and sentences by pictures.

    Args:
        grounder: whose model has a joint space and, for the second stage, a matching head.
        index: file that keeps the pictures' vectors, or None to keep none.

    Raises:
        CapabilityError: the model has no joint space.
    """

    def __init__(self, grounder: Grounder, index: str | Path | None = None) -> None:
        grounder.desk.require("space")
        self.grounder, self.index = grounder, None if index is None else Path(index)

    def gallery(
        self, pictures: Iterable[str | Path], *, on_problem: Callable[[OvdetError], None] | None = None
    ) -> Gallery:
        """Vectors of pictures: from the index where it knows them, else the pictures are looked at and added.

        Args:
            pictures: files; may be a generator that ends early, what is in the index by then stays there.
            on_problem: told of a picture that cannot be read, which is then left out; None raises.

        Raises:
            InputError: a picture cannot be read, or the index cannot be used.
        """
        desk = self.grounder.desk
        paths, vectors = [], []
        with (
            nullcontext()
            if self.index is None
            else PictureIndex(self.index, desk.name, desk.fingerprint, desk.embed_dim)
        ) as index:
            for picture in map(Path, pictures):
                try:
                    vectors.append(self._vector(picture, index))
                    paths.append(picture)
                except InputError as error:
                    if on_problem is None:
                        raise
                    on_problem(error)
        return Gallery(tuple(paths), np.stack(vectors) if vectors else np.zeros((0, desk.embed_dim), np.float32))

    def rank_pictures(
        self, gallery: Gallery, sentences: Sequence[str] | EncodedSentences, *, rerank: int = RERANKED
    ) -> list[list[Hit]]:
        """For each sentence all pictures, best first.

        Args:
            gallery: of `gallery`; places of hits are those in its paths.
            sentences: K of them, or what `Grounder.read` gave.
            rerank: how many of a ranking go through the second stage; 0 leaves it out.
        """
        read = self.grounder.read(sentences)
        similarity = self.grounder.desk.sentence_vectors(read).numpy() @ gallery.vectors.T  # (K, N)
        return _rankings(similarity, self._chances(gallery, read, best_of_rows(similarity, rerank).T).T)

    def rank_sentences(
        self, gallery: Gallery, sentences: Sequence[str] | EncodedSentences, *, rerank: int = RERANKED
    ) -> list[list[Hit]]:
        """For each picture all sentences, best first; as `rank_pictures`, but places of hits are those of sentences."""
        read = self.grounder.read(sentences)
        similarity = gallery.vectors @ self.grounder.desk.sentence_vectors(read).numpy().T  # (N, K)
        return _rankings(similarity, self._chances(gallery, read, best_of_rows(similarity, rerank)))

    def _vector(self, picture: Path, index: PictureIndex | None) -> np.ndarray:
        try:
            known = None if index is None else index.vector(picture)
            if known is None:
                known = self.grounder.desk.picture_vector(self.grounder.look(picture).encoded).numpy()
                if index is not None:
                    index.add(picture, known)
        except OSError as error:
            raise InputError(f"{picture} cannot be read: {error.strerror}") from error
        return known

    def _chances(self, gallery: Gallery, read: EncodedSentences, pairs: np.ndarray) -> np.ndarray:
        """The second stage for some pairs, (N, K) bool: chances (N, K), not a number elsewhere; each picture once."""
        chances = np.full(pairs.shape, np.nan)
        for place in np.flatnonzero(pairs.any(axis=1)):
            some = np.flatnonzero(pairs[place])
            chances[place, some] = self.grounder.match(gallery.paths[place], read.rows(some))
        return chances


def best_of_rows(similarity: np.ndarray, count: int) -> np.ndarray:
    """Which are the `count` highest of each row, (Q, C) bool; of equal ones the first."""
    chosen = np.zeros(similarity.shape, bool)
    np.put_along_axis(chosen, np.argsort(-similarity, axis=1, kind="stable")[:, :count], True, axis=1)
    return chosen


def _rankings(similarity: np.ndarray, chances: np.ndarray) -> list[list[Hit]]:
    """Each row of (Q, C) in order: first what has a chance, by it, then the rest by similarity."""
    rankings = []
    for row, sure in zip(similarity, chances, strict=True):
        order = np.lexsort((-row, -np.nan_to_num(sure, nan=-1.0)))
        rankings.append([Hit(int(i), float(row[i]), None if np.isnan(sure[i]) else float(sure[i])) for i in order])
    return rankings
