"""Splits English text into BERT's word pieces (uncased; Devlin et al. 2019, arXiv:1810.04805), without any library."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
LONGEST_WORD = 100  # characters; BERT calls a longer word unknown
_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip

_FOLDED = str.maketrans(
    {"‘": "'", "’": "'", "ʼ": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "⁄": "/"}
    | {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ı": "i"}
    | {"Æ": "ae", "Œ": "oe", "Ø": "o", "Đ": "d", "Ł": "l"}
)


def fold(text: str) -> str:
    """Write typographic forms as ASCII has them (curly quotes, dashes, ligatures, full-width letters, ...)."""
    return unicodedata.normalize("NFKC", text).translate(_FOLDED)


class WordPiece:
    """Text to token ids, as BERT's uncased tokenizer does it with the same vocabulary."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Take the tokens in the order of their ids; pieces inside a word start with `##`.

        Raises:
            ValueError: a special token is missing, or a token is there twice.
        """
        self.vocabulary = tuple(vocabulary)
        self._ids = {token: i for i, token in enumerate(self.vocabulary)}
        missing = [token for token in (PAD, UNKNOWN, START, END) if token not in self._ids]
        if missing or len(self._ids) != len(self.vocabulary):
            raise ValueError(f"a vocabulary needs unique tokens and {missing or 'no repeats'}; check the token list")
        self.pad = self._ids[PAD]
        self._unknown = self._ids[UNKNOWN]
        self._word_ids = lru_cache(maxsize=65536)(self._split_word)

    def ids(self, text: str, limit: int) -> list[int]:
        """Return `[CLS] pieces [SEP]` as ids, at most `limit` of them (the end of a longer text is left out)."""
        pieces = [piece for word in basic_words(text) for piece in self._word_ids(word)]
        return [self._ids[START], *pieces[: limit - 2], self._ids[END]]

    def id_of(self, token: str) -> int:
        """Return the id of a token that the vocabulary has."""
        return self._ids[token]

    def _split_word(self, word: str) -> tuple[int, ...]:
        """Cut one word greedily into the longest pieces that the vocabulary has."""
        if len(word) > LONGEST_WORD:
            return (self._unknown,)
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                piece = self._ids.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return (self._unknown,)
            pieces.append(piece)
            start = end
        return tuple(pieces)


def basic_words(text: str) -> Iterator[str]:
    """Yield lower-case words without accents; punctuation marks and CJK characters stand alone."""
    for word in "".join(_clean(char) for char in text).split():
        bare = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn")
        start = 0
        for i, char in enumerate(bare):
            if _is_punctuation(char):
                if start < i:
                    yield bare[start:i]
                yield char
                start = i + 1
        if start < len(bare):
            yield bare[start:]


def _clean(char: str) -> str:
    """A space for any white space, nothing for control characters, CJK characters set apart."""
    category = unicodedata.category(char)
    if char in "\t\n\r" or category == "Zs":
        return " "
    if char in "\0\ufffd" or category.startswith("C"):
        return ""
    code = ord(char)
    return f" {char} " if any(first <= code <= last for first, last in _CJK) else char


def _is_punctuation(char: str) -> bool:
    """Unicode punctuation, and all ASCII that is neither letter, digit nor space (`$`, `+`, `^`, ...)."""
    return unicodedata.category(char).startswith("P") or (char.isascii() and char.isprintable() and not char.isalnum())
