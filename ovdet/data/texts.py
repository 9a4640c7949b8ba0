"""Texts as X-VLM's data has them: cleaned, cut to so many words, and kept true when a picture is mirrored."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ovdet.errors import InputError

_DROPPED = str.maketrans("", "", ",.'!?\"()*#:;~")
_SPACED = str.maketrans("-/", "  ")
_SIDES = {"left": "right", "right": "left"}
_SIDE_WORD = re.compile(r"\b(left|right)(?=(most|ward|wards|side|hand|handed|er)?\b)", re.IGNORECASE)


def clean_caption(text: str, max_words: int) -> str:
    """Clean a caption or expression as published (arXiv:2111.08276, official data code).

    Lower case; marks go, hyphens and slashes become spaces, runs of white space become one space. Words after the
    first `max_words` go.

    Raises:
        InputError: nothing is left.
    """
    cleaned = text.lower().translate(_DROPPED).translate(_SPACED).replace("<person>", "person")
    cleaned = re.sub(r"\s{2,}", " ", cleaned).rstrip("\n").strip(" ")
    cleaned = " ".join(cleaned.split(" ")[:max_words])
    if not cleaned:
        raise InputError(f"the text {text!r} has no word that the cleaning rules keep")
    return cleaned


def clean_question(text: str, max_words: int) -> str:
    """Clean a question as published: as captions, but runs of spaces stay, and so do those at the beginning.

    Raises:
        InputError: nothing is left.
    """
    cleaned = text.lower().translate(_DROPPED).translate(_SPACED).rstrip(" ")
    cleaned = " ".join(cleaned.split(" ")[:max_words])
    if not cleaned.strip():
        raise InputError(f"the question {text!r} has no word that the cleaning rules keep")
    return cleaned


def join_pieces(text: str) -> str:
    """Undo word pieces: "a play ##ing dog" is "a playing dog". Splitting it again gives the same pieces."""
    return text.strip().replace(" ##", "")


def tells_sides(texts: Iterable[str]) -> bool:
    """Does any text hold "left" or "right", be it inside a word? The published guard, and here for capitals as well."""
    return any("left" in text or "right" in text for text in map(str.lower, texts))


def swap_sides(text: str) -> str:
    """Say a text of the mirrored picture: left for right, also in leftmost, right-hand and the like."""

    def other(found: re.Match[str]) -> str:
        word = found[0]
        swapped = _SIDES[word.lower()]
        return swapped.upper() if word.isupper() else swapped.title() if word[0].isupper() else swapped

    return _SIDE_WORD.sub(other, text)
