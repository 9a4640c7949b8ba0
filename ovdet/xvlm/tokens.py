"""Sentences to token ids, as X-VLM reads them: cleaned, cut to some words, [CLS] in front and no [SEP] behind."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ovdet.errors import InputError
from ovdet.vlm.contrastive.wordpiece import WordPiece

_log = logging.getLogger(__name__)
_DELETED = str.maketrans("", "", ",.'!?\"()*#:;~")
_SPACED = str.maketrans("-/", "  ")


def clean_sentence(text: str, max_words: int = 30) -> str:
    """Clean a sentence by the rules of the official data: lower case, most marks deleted, `max_words` words kept.

    Raises:
        InputError: nothing is left.
    """
    words = _words(text)
    if not words:
        raise InputError(f"the sentence {text[:40]!r} has no word; write what to look for")
    return " ".join(words[:max_words])


def _words(text: str) -> list[str]:
    """The words of a cleaned sentence."""
    cleaned = text.lower().translate(_DELETED).translate(_SPACED).replace("<person>", "person")
    cleaned = re.sub(r"\s{2,}", " ", cleaned).rstrip("\n").strip(" ")
    return [word for word in cleaned.split(" ") if word.strip()]


class SentenceTokens:
    """Splits sentences with a BERT vocabulary.

    Args:
        vocabulary: tokens in order of their ids.
        max_words: of a sentence; the rest is left out with a warning.
        max_tokens: of a sentence, [CLS] counted in.
    """

    def __init__(self, vocabulary: Sequence[str], max_words: int = 30, max_tokens: int = 40) -> None:
        if max_words < 1 or max_tokens < 2:
            raise InputError(f"max_words must be above 0 and max_tokens above 1, got {max_words} and {max_tokens}")
        try:
            self.wordpiece = WordPiece(vocabulary)
        except ValueError as error:
            raise InputError(f"this is no BERT vocabulary: {error}") from error
        self.max_words, self.max_tokens = max_words, max_tokens
        self._ids = {token: place for place, token in enumerate(self.wordpiece.vocabulary)}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Tokens in order of their ids."""
        return self.wordpiece.vocabulary

    def cleaned(self, text: str) -> str:
        """A sentence as it is split.

        Raises:
            InputError: it has no word.
        """
        return clean_sentence(text, self.max_words)

    def ids(self, text: str) -> list[int]:
        """[CLS] and the pieces of one cleaned sentence, at most `max_tokens`.

        Args:
            text: a sentence. One with an attribute `word_pieces` is split already (`ovdet.data.captions.SplitText`):
                its pieces are looked up as they are and not cleaned, as published.

        Raises:
            InputError: the sentence has no word.
        """
        split: Sequence[str] | None = getattr(text, "word_pieces", None)
        if split is not None:
            unknown = self._ids["[UNK]"]
            return [self._ids["[CLS]"], *(self._ids.get(piece, unknown) for piece in split[: self.max_tokens - 1])]
        return self.wordpiece.ids(self.cleaned(text), self.max_tokens + 1)[:-1]

    def pieces(self, text: str) -> list[int]:
        """The pieces of one cleaned sentence alone."""
        return self.ids(text)[1:]

    def check(self, text: str, place: str = "the sentence") -> None:
        """Warn of a sentence that is too long to be read to its end, and of words that the vocabulary does not know.

        Args:
            text: of the sentence.
            place: what to call it.

        Raises:
            InputError: it has no word, or none that the vocabulary knows.
        """
        read, words = self.pieces(text), len(_words(text))
        unknown = self.wordpiece.id_of("[UNK]")
        if all(token == unknown for token in read):
            raise InputError(f"{place}, {text[:40]!r}, has no word that the model knows; write it in English")
        if unknown in read:
            strange = [
                word for word in self.cleaned(text).split(" ") if unknown in self.wordpiece.ids(word, sys.maxsize)
            ]
            told = ", ".join(repr(word[:40]) for word in dict.fromkeys(strange))
            _log.warning("%s has words that the model does not know: %s; the answer is to the others", place, told)
        if words > self.max_words or len(read) < len(self.wordpiece.ids(self.cleaned(text), sys.maxsize)) - 2:
            end = " ".join(self.vocabulary[token] for token in read[-3:]).replace(" ##", "")
            _log.warning("%s has %d words, which is too long; what comes after '... %s' is left out", place, words, end)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Split K sentences.

        Returns:
            ids (K, L) int64, padded to the longest; mask (K, L) bool, true where there is a token.

        Raises:
            InputError: a sentence has no word.
        """
        return pad_rows([self.ids(text) for text in texts], self.wordpiece.pad)


def pad_rows(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths -> (K, L) int64 with `pad` behind, and (K, L) bool, true where there is an entry."""
    longest = max(map(len, rows), default=1)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(list(row), dtype=torch.long)
        mask[place, : len(row)] = True
    return ids, mask


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """Read a `vocab.txt`, one token a line.

    Raises:
        InputError: it cannot be read, or holds no BERT vocabulary.
    """
    try:
        tokens = tuple(Path(path).read_text(encoding="utf-8").rstrip("\n").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the vocabulary {path}: {error}") from error
    try:
        WordPiece(tokens)
    except ValueError as error:
        raise InputError(f"{path} is no BERT vocabulary: {error}") from error
    return tokens
