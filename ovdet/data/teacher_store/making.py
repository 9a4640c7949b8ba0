"""The extraction: pictures are read, boxes proposed, rows embedded, blocks written; first, what all that will take."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ovdet.data.proposals import Proposals
from ovdet.data.teacher_store.folder import PictureKey, StoreBuilder
from ovdet.data.transforms import LoadPicture
from ovdet.errors import InputError

Embedder = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB and boxes (P, 4) in its pixels -> (P, D)."""

BYTES_A_BOX = 5 * 4
MEASURED_PICTURES = 8
MEASURED_SECONDS = 20.0
WARM_UP_SECONDS = 3.0


class DatasetRows(Mapping[int, Mapping[str, Any]]):
    """Rows of a data set by picture id, unpacked when asked for.

    Args:
        dataset: an `OpenVocabularyDataset`, fully initialised.

    Attributes:
        keys_of_pictures: id and size of each.
    """

    def __init__(self, dataset: BaseDataset) -> None:
        self.dataset = dataset
        self.keys_of_pictures: list[PictureKey] = []
        self._index: dict[int, int] = {}
        for index in range(len(dataset)):
            row = dataset.get_data_info(index)
            self._index[row["img_id"]] = index
            self.keys_of_pictures.append(PictureKey(row["img_id"], row["height"], row["width"]))

    def __getitem__(self, image_id: int) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self.dataset.get_data_info(self._index[image_id])
        return row

    def __iter__(self) -> Iterator[int]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


@dataclass(frozen=True)
class Plan:
    """What an extraction works on.

    Attributes:
        builder: of the store.
        infos: picture id -> row of the data set, such as `DatasetRows`.
        propose: a box source; see sources.py.
        embed: the teacher.
        shard: machine i of n, from 1.
        workers: processes that read pictures; 0 reads them here.
    """

    builder: StoreBuilder
    infos: Mapping[int, Mapping[str, Any]]
    propose: Any
    embed: Embedder
    shard: tuple[int, int] = (1, 1)
    workers: int = 0

    def __post_init__(self) -> None:
        machine, machines = self.shard
        if not 1 <= machine <= machines:
            raise InputError(f"--shard must be i/n with i from 1 to n, got {machine}/{machines}")

    def ids_of(self, blocks: Sequence[int]) -> list[int]:
        """Ids of the pictures of some blocks."""
        return [key.image_id for number in blocks for key in self.builder.pictures_of(number)]


@dataclass(frozen=True)
class Estimate:
    """What a store will take; rows and bytes of all of it, seconds of what this machine has still to do.

    Attributes:
        pictures: of the store.
        rows: of the store.
        embed_dim: of a row.
        nbytes: of its files.
        pictures_to_do: of this machine.
        seconds: for them.
        rows_per_second: measured, reading and proposing included.
        measured_on: pictures.
        free_bytes: on the disk.
    """

    pictures: int
    rows: int
    embed_dim: int
    nbytes: int
    pictures_to_do: int
    seconds: float
    rows_per_second: float
    measured_on: int
    free_bytes: int

    def __str__(self) -> str:
        return (
            f"store: {self.pictures:,} pictures, about {self.rows:,} rows of {self.embed_dim} halves, "
            f"{_bytes(self.nbytes)} ({_bytes(self.free_bytes)} free)\n"
            f"here: {self.pictures_to_do:,} pictures to do, about {_duration(self.seconds)} at "
            f"{self.rows_per_second:,.0f} rows/s (measured on {self.measured_on} pictures)"
        )


def estimate(plan: Plan) -> Estimate:
    """Measure the first few pictures that are still to do, and tell from them size and time of the whole.

    Where the boxes are known beforehand all are counted, so the size is exact; else the measured mean counts.
    Nothing is written. It takes 20 seconds, or the time of one picture where that is longer.
    """
    builder, folder = plan.builder, plan.builder.folder.absolute()
    width = builder.facts.teacher.embed_dim
    ids = plan.ids_of(plan.builder.pending(plan.shard))
    spent, rows = _measure(plan, ids[: MEASURED_PICTURES + 1])
    every = [key.image_id for key in builder.pictures]
    if not plan.propose.needs_picture:
        total, here = (sum(len(plan.propose(plan.infos[i]).scores) for i in some) for some in (every, ids))
    else:
        mean = float(np.mean(rows)) if rows else 0.0
        total, here = round(mean * len(every)), mean * len(ids)
    seconds = sum(spent) * (here / sum(rows) if sum(rows) else len(ids) / max(len(rows), 1))
    return Estimate(
        pictures=len(every),
        rows=total,
        embed_dim=width,
        nbytes=total * (2 * width + BYTES_A_BOX),
        pictures_to_do=len(ids),
        seconds=seconds,
        rows_per_second=sum(rows) / max(sum(spent), 1e-9),
        measured_on=len(rows),
        free_bytes=shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.is_dir())).free,
    )


def make(plan: Plan, *, progress: bool = True) -> int:
    """Make the blocks that this machine has still to make; may be killed at any time and called again.

    Returns:
        Blocks written.

    Raises:
        InputError: a picture cannot be read, the teacher gives rows that cannot be stored, or the disk is full.
    """
    builder = plan.builder
    todo = builder.pending(plan.shard)
    mine = range(plan.shard[0] - 1, builder.count, plan.shard[1])
    ids = plan.ids_of(todo)
    total = len(plan.ids_of(mine))
    stream = _read(plan, ids)
    with tqdm(total=total, initial=total - len(ids), unit="picture", disable=not progress) as bar:
        for number in todo:
            found = []
            for _ in builder.pictures_of(number):
                found.append(_embedded(plan, *next(stream)))
                bar.update()
            builder.write(number, found)
    return len(todo)


def refuse_small_disk(expected: Estimate) -> None:
    """Stop before hours are lost.

    Raises:
        InputError: what is still to write does not fit on the disk.
    """
    needed = expected.nbytes * expected.pictures_to_do / max(expected.pictures, 1)
    if needed > expected.free_bytes:
        raise InputError(
            f"the rows still to write need about {_bytes(needed)}, but {_bytes(expected.free_bytes)} are free; choose "
            "another disk, fewer boxes with --limit, or share the pictures among machines with --shard"
        )


def _measure(plan: Plan, ids: Sequence[int]) -> tuple[list[float], list[int]]:
    """Seconds and rows of each picture; the first, which warms up, counts only where it took long or is alone."""
    spent: list[float] = []
    rows: list[int] = []
    stream = _read(Plan(plan.builder, plan.infos, plan.propose, plan.embed), ids)
    start = time.perf_counter()
    while len(spent) < len(ids) and sum(spent) < MEASURED_SECONDS:
        rows.append(len(_embedded(plan, *next(stream)).scores))
        spent.append(time.perf_counter() - start - sum(spent))
    if len(spent) > 1 and spent[0] < WARM_UP_SECONDS:
        return spent[1:], rows[1:]
    return spent, rows


def _embedded(plan: Plan, picture: Mapping[str, Any], image_rgb: np.ndarray) -> Proposals:
    """The proposals of a picture, cut at its border as training will cut them, with their rows."""
    found = plan.propose(picture, image_rgb)
    if not np.isfinite(found.boxes_xyxy).all():
        raise InputError(f"a proposal of picture {picture['img_id']} has a box that is not finite; make them again")
    height, width = image_rgb.shape[:2]
    boxes_xyxy = found.boxes_xyxy.clip(0, np.asarray([width, height] * 2, np.float32))
    return Proposals(boxes_xyxy, found.scores, plan.embed(image_rgb, boxes_xyxy))


def _read(plan: Plan, ids: Sequence[int]) -> Iterator[tuple[Mapping[str, Any], np.ndarray]]:
    """Pictures in the order of ids, each with its row of the data set."""
    loader = DataLoader(_Pictures(plan.infos, ids), batch_size=None, num_workers=plan.workers, collate_fn=_as_it_is)
    for image_id, image in zip(ids, loader, strict=True):
        if isinstance(image, InputError):
            raise image
        yield plan.infos[image_id], image


class _Pictures(Dataset):
    """Pictures as they are on disk, (H, W, 3) uint8 RGB; an error is handed over, since a worker would wrap it."""

    def __init__(self, infos: Mapping[int, Mapping[str, Any]], ids: Sequence[int]) -> None:
        self.infos, self.ids = infos, ids
        self.load = LoadPicture()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> np.ndarray | InputError:
        try:
            return np.ascontiguousarray(self.load(dict(self.infos[self.ids[index]]))["img"][:, :, ::-1])
        except InputError as error:
            return error


def _as_it_is(sample: Any) -> Any:
    return sample


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
