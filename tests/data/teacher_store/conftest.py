"""A small store of random rows, and what it was made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ovdet.data.proposals import Proposals
from ovdet.data.teacher_store.facts import StoreFacts, TeacherFacts
from ovdet.data.teacher_store.folder import PictureKey, StoreBuilder, finish

WIDTH = 8


def _facts(width: int = WIDTH, fingerprint: str = "f" * 64) -> StoreFacts:
    teacher = TeacherFacts("some-clip", fingerprint, width, (1.0, 1.5), 224, (0.5,) * 3, (0.25,) * 3)
    return StoreFacts(teacher, {"kind": "file", "file": "p.npz", "sha256": "0"}, {"file": "a.json", "sha256": "1"})


def _random_proposals(rng: np.random.Generator, count: int) -> Proposals:
    corners = rng.uniform(0, 60, (count, 2, 2))
    boxes_xyxy = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    rows = rng.normal(size=(count, WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)
    return Proposals(boxes_xyxy, np.sort(rng.random(count).astype(np.float32))[::-1], rows)


@pytest.fixture
def facts() -> Callable[..., StoreFacts]:
    return _facts


@pytest.fixture
def contents() -> dict[int, Proposals]:
    """Seven pictures in odd order; one of them without proposals."""
    rng = np.random.default_rng(0)
    return {
        key: _random_proposals(rng, count)
        for key, count in zip((9, 4, 70, 5, 6, 30, 8), (3, 0, 6, 1, 2, 5, 4), strict=True)
    }


@pytest.fixture
def keys(contents) -> list[PictureKey]:
    return [PictureKey(key, 60 + key, 80) for key in contents]


@pytest.fixture
def fill() -> Callable[..., None]:
    """Write blocks from contents: all that machine i of n has to make."""

    def run(builder: StoreBuilder, contents: dict[int, Proposals], shard: tuple[int, int] = (1, 1)) -> None:
        for number in builder.pending(shard):
            builder.write(number, [contents[key.image_id] for key in builder.pictures_of(number)])

    return run


@pytest.fixture
def folder(tmp_path, contents, keys, fill) -> Path:
    """A finished store of four blocks, the last one of one picture."""
    fill(StoreBuilder(tmp_path / "store", _facts(), keys, block=2), contents)
    finish(tmp_path / "store")
    return tmp_path / "store"
