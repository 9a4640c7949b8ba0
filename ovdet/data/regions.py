"""Pictures with texts of their regions out of records, X-VLM's fine grain (arXiv:2111.08276, section 3.1).

A record: `{"elems": [{"caption": str or [str], "bb": [left, top, width, height], "attributes": str or [str]}, ...],
"caption": str or [str], "binary" or "image_rpath"}`; "attributes" and the picture's own "caption" may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovdet.data.augment import RandAugment
from ovdet.data.batches import WHOLE_PICTURE, EndlessDataset
from ovdet.data.captions import SplitText, choose_text, sample_generator
from ovdet.data.records import BrokenSamples, Record, Source, endless, open_picture
from ovdet.data.texts import clean_caption, swap_sides
from ovdet.data.views import Augmentation, SideWords, View, check_side_words, crop_around, mirror, to_tensor
from ovdet.errors import InputError


class RegionTexts(EndlessDataset):
    """Endless samples of one picture and up to `max_regions` of its texts; their form is that of `ovdet.data.batches`.

    As published: a part of the picture that holds one region whole, mirrored by chance, resized to a square without
    regard to aspect, its colours augmented. The picture's caption takes one of the places. Regions come in random
    order; those that are seen by more than `min_visible` count, cut at the border of the part.

    Args:
        source: of the records.
        side: of the square, in pixels.
        max_words: of a text.
        max_regions: texts of a sample.
        min_visible: share of a region's area.
        seed: of order and views; equal seeds, ranks and workers give equal samples.
        tokenized: texts are word pieces with spaces between; each is a `SplitText` and not cleaned.
        picture_root: folder of "image_rpath".
        side_words: of mirrored pictures, see `ovdet.data.views.SideWords`; published: "ignore".
        augmentation: of the square; it must leave boxes where they are.
        broken: counts what cannot be used.
    """

    def __init__(
        self,
        source: Source,
        side: int = 224,
        max_words: int = 40,
        max_regions: int = 5,
        min_visible: float = 0.5,
        seed: int = 0,
        *,
        tokenized: bool = False,
        picture_root: str | Path = "",
        side_words: SideWords = "ignore",
        augmentation: Augmentation | None = RandAugment(),  # noqa: B008 (it has no state)
        broken: BrokenSamples | None = None,
    ) -> None:
        check_side_words(side_words)
        if max_regions < 1:
            raise InputError(f"max_regions must be at least 1, got {max_regions}")
        self.source, self.side, self.max_words, self.seed = source, side, max_words, seed
        self.max_regions, self.min_visible, self.tokenized = max_regions, min_visible, tokenized
        self.picture_root, self.side_words, self.augmentation = picture_root, side_words, augmentation
        self.broken = broken or BrokenSamples()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.broken.sorted_out(endless(self.source, self.seed), self.sample)

    def sample(self, record: Record, number: int) -> dict[str, Any]:
        """One sample.

        Raises:
            InputError: the record cannot be used.
        """
        rng = sample_generator(self.seed, number)
        boxes_xywh = element_boxes(record.fields)
        picture = open_picture(record, self.picture_root)
        view = crop_around(rng, boxes_xywh[int(rng.integers(len(boxes_xywh)))].tolist(), picture.size)
        policy: SideWords = "ignore" if self.side_words == "swap" else self.side_words
        view, _ = mirror(rng, view, [all_texts(record.fields)], policy)
        square = view.picture(picture, self.side)
        if self.augmentation:
            square = self.augmentation(rng, square)
        rows = self._rows(rng, record.fields, boxes_xywh, view)
        return {
            "image": to_tensor(square),
            "texts": [text for text, _ in rows],
            "boxes_cxcywh_norm": torch.tensor([box for _, box in rows], dtype=torch.float32).reshape(-1, 4),
            "is_image": torch.tensor([box is WHOLE_PICTURE for _, box in rows], dtype=torch.bool),
            "image_id": number,
            "draw": number,
        }

    def _rows(
        self, rng: np.random.Generator, fields: Mapping[str, Any], boxes_xywh: np.ndarray, view: View
    ) -> list[tuple[str, Sequence[float]]]:
        """Texts with their boxes in the view, the caption first."""
        rows: list[tuple[str, Sequence[float]]] = []
        if "caption" in fields:
            rows.append((self._say(choose_text(rng, fields, "caption"), view), WHOLE_PICTURE))
        placed, seen = view.boxes(boxes_xywh)
        for place in rng.permutation(len(placed)):
            if len(rows) >= self.max_regions:
                break
            if seen[place] > self.min_visible:
                element = fields["elems"][place]
                text = choose_text(rng, element, "caption")
                if "attributes" in element:
                    text = f"{choose_text(rng, element, 'attributes')} {text}"
                rows.append((self._say(text, view), placed[place].tolist()))
        return rows

    def _say(self, text: str, view: View) -> str:
        if view.mirrored and self.side_words == "swap":
            text = swap_sides(text)
        return SplitText(text) if self.tokenized else clean_caption(text, self.max_words)


def element_boxes(fields: Mapping[str, Any]) -> np.ndarray:
    """Boxes (N, 4) of a record's elements, cut to whole pixels as published.

    Raises:
        InputError: there is no element, or a box is none.
    """
    elements = fields.get("elems")
    if not isinstance(elements, list) or not elements:
        raise InputError('it has no "elems"')
    boxes = []
    for index, element in enumerate(elements):
        try:
            left, top, width, height = (int(value) for value in element["bb"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f'elems[{index}] has no box "bb" of left, top, width, height') from error
        if left < 0 or top < 0 or width < 1 or height < 1:
            raise InputError(
                f"elems[{index}] has the box {[left, top, width, height]}, which has no area or is outside"
            )
        boxes.append((left, top, width, height))
    return np.array(boxes, dtype=np.float64)


def all_texts(fields: Mapping[str, Any]) -> list[str]:
    """Everything that is said of a picture and its elements."""
    said: list[Any] = [fields.get("caption"), *(element.get("caption") for element in fields["elems"])]
    return [text for one in said for text in (one if isinstance(one, list) else [one]) if isinstance(text, str)]
