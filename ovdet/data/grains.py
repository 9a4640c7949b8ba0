"""Region and caption data as configs name them: files or shards in, samples or steps out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovdet.data.batches import TwoGrains
from ovdet.data.captions import CaptionedPictures
from ovdet.data.records import BrokenSamples, LineFiles, Source
from ovdet.data.regions import RegionTexts
from ovdet.data.shards import TarShards
from ovdet.errors import InputError


def open_source(paths: Sequence[str | Path]) -> Source:
    """Tar shards where there are any in the files and folders, else JSON lines.

    Raises:
        InputError: a path is not there, or both are mixed.
    """
    shards = [path for path in paths if Path(path).suffix == ".tar" or any(Path(path).rglob("*.tar"))]
    if shards and len(shards) < len(paths):
        other = next(path for path in paths if path not in shards)
        raise InputError(f"{shards[0]} holds tar shards, {other} does not; give one kind")
    return TarShards(paths) if shards else LineFiles(paths)


def captioned_pictures(
    files: Sequence[str],
    side: int = 224,
    max_words: int = 40,
    seed: int = 0,
    broken_log: str | None = None,
    **more: Any,
) -> CaptionedPictures:
    """`CaptionedPictures` of some files or folders.

    Args:
        files: JSON lines, tar shards, or folders of them.
        side: of the squares, in pixels.
        max_words: of a caption.
        seed: of order and views.
        broken_log: file that broken samples are written to.
        more: as `CaptionedPictures` takes it.
    """
    broken = BrokenSamples(log=broken_log)
    return CaptionedPictures(open_source(files), side, max_words, seed, broken=broken, **more)


def region_texts(
    files: Sequence[str],
    side: int = 224,
    max_words: int = 40,
    max_regions: int = 5,
    seed: int = 0,
    broken_log: str | None = None,
    **more: Any,
) -> RegionTexts:
    """`RegionTexts` of some files or folders; arguments as of `captioned_pictures` and `RegionTexts`."""
    broken = BrokenSamples(log=broken_log)
    return RegionTexts(open_source(files), side, max_words, max_regions, seed=seed, broken=broken, **more)


def pretraining_steps(
    images: Sequence[str],
    regions: Sequence[str],
    side: int = 224,
    max_words: int = 40,
    seed: int = 0,
    *,
    image_batch: int = 128,
    region_pictures: int = 48,
    region_texts_drawn: int = 128,
    region_share: float = 0.5,
    tokenized_regions: bool = False,
    broken_log: str | None = None,
) -> TwoGrains:
    """`TwoGrains` of some files or folders of captions and of regions, with the published views.

    Args:
        images: files with captions.
        regions: files with regions.
        side: of the squares, in pixels.
        max_words: of a text.
        seed: of order, views and turns.
        image_batch: pictures of a batch of images.
        region_pictures: pictures of a batch of regions.
        region_texts_drawn: texts drawn of these.
        region_share: of the steps.
        tokenized_regions: texts of regions are word pieces with spaces between.
        broken_log: file that broken samples are written to.
    """
    return TwoGrains(
        captioned_pictures(images, side, max_words, seed, broken_log),
        region_texts(regions, side, max_words, seed=seed + 1, broken_log=broken_log, tokenized=tokenized_regions),
        image_batch,
        region_pictures,
        region_texts_drawn,
        region_share,
        seed,
    )
