"""Pictures with captions out of records, for pre-training: `{"caption": str or [str], "binary" or "image_rpath"}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovdet.data.augment import ALL_OPERATIONS, RandAugment
from ovdet.data.batches import WHOLE_PICTURE, EndlessDataset
from ovdet.data.records import BrokenSamples, Record, Share, Source, endless, open_picture
from ovdet.data.texts import clean_caption, join_pieces
from ovdet.data.views import Augmentation, SideWords, check_side_words, crop_anywhere, mirror, to_tensor
from ovdet.errors import InputError


class CaptionedPictures(EndlessDataset):
    """Endless samples of one picture and one caption; their form is that of `ovdet.data.batches`.

    A part of 20 to 100 % of the picture, mirrored by chance, resized to a square and augmented, as published.

    Args:
        source: of the records.
        side: of the square, in pixels.
        max_words: of a caption.
        seed: of order and views; equal seeds, ranks and workers give equal samples.
        caption_key: field of the caption (the official caption stage has "desc").
        tokenized: captions are word pieces with spaces between; each is a `SplitText` and not cleaned.
        picture_root: folder of "image_rpath".
        scale: least and largest share of the picture's area.
        side_words: of mirrored pictures, see `ovdet.data.views.SideWords`; published: "ignore".
        augmentation: of the square.
        broken: counts what cannot be used.
    """

    def __init__(
        self,
        source: Source,
        side: int = 224,
        max_words: int = 40,
        seed: int = 0,
        *,
        caption_key: str = "caption",
        tokenized: bool = False,
        picture_root: str | Path = "",
        scale: tuple[float, float] = (0.2, 1.0),
        side_words: SideWords = "ignore",
        augmentation: Augmentation | None = RandAugment(ALL_OPERATIONS),  # noqa: B008 (it has no state)
        broken: BrokenSamples | None = None,
    ) -> None:
        check_side_words(side_words)
        self.source, self.side, self.max_words, self.seed = source, side, max_words, seed
        self.caption_key, self.tokenized, self.picture_root = caption_key, tokenized, picture_root
        self.scale, self.side_words, self.augmentation = scale, side_words, augmentation
        self.broken = broken or BrokenSamples()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.broken.sorted_out(endless(self.source, self.seed), self.sample)

    def sample(self, record: Record, number: int) -> dict[str, Any]:
        """One sample.

        Raises:
            InputError: the record cannot be used.
        """
        rng = sample_generator(self.seed, number)
        text = choose_text(rng, record.fields, self.caption_key)
        picture = open_picture(record, self.picture_root)
        view = crop_anywhere(rng, picture.size, self.scale)
        view, ((text,),) = mirror(rng, view, [[text]], self.side_words)
        square = view.picture(picture, self.side)
        if self.augmentation:
            square = self.augmentation(rng, square)
        return {
            "image": to_tensor(square),
            "texts": [SplitText(text) if self.tokenized else clean_caption(text, self.max_words)],
            "boxes_cxcywh_norm": torch.tensor([WHOLE_PICTURE]),
            "is_image": torch.tensor([True]),
            "image_id": number,
            "draw": number,
        }


class SplitText(str):
    """A text that is given as word pieces: as a string it is the joined text, and `word_pieces` are what it was.

    Tokenizers that know of them take the pieces as they are, so that marks and pieces of another tokenizer stay.

    Args:
        text: pieces with spaces between.

    Raises:
        InputError: there is none.
    """

    word_pieces: tuple[str, ...]

    def __new__(cls, text: str) -> SplitText:
        """Take the pieces apart."""
        pieces = tuple(text.split())
        if not pieces:
            raise InputError("the text has no word piece")
        made = super().__new__(cls, join_pieces(" ".join(pieces)))
        made.word_pieces = pieces
        return made


def sample_generator(seed: int, number: int) -> np.random.Generator:
    """The source of randomness of one sample of a stream; ranks and workers have streams of their own."""
    return np.random.default_rng((seed, Share.of_this_process().index, number, 1))


def choose_text(rng: np.random.Generator, fields: Mapping[str, Any], key: str) -> str:
    """The text of a field that holds one or a list of them.

    Raises:
        InputError: it holds neither.
    """
    said = fields.get(key)
    if isinstance(said, list) and said:
        said = said[int(rng.integers(len(said)))]
    if not isinstance(said, str):
        raise InputError(f'its field "{key}" is no text')
    return said
