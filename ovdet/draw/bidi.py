"""Right-to-left text in the order in which it is drawn, with Arabic letters joined.

Pillow does this itself where libfribidi is installed; this is the fallback for where it is not. It covers what
labels need: the rules of the Unicode bidirectional algorithm (UAX 9) for one line without explicit
embeddings, and the joining of the Arabic letters that have presentation forms.
"""

from __future__ import annotations

import unicodedata
from functools import cache

_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
_STRONG_RTL = {"R", "AL"}
_NUMBERS = {"EN", "AN"}
_TRANSPARENT = {"Mn", "Me", "Cf"}


def has_rtl(text: str) -> bool:
    """Whether the text holds a letter that is written from right to left."""
    return any(unicodedata.bidirectional(letter) in _STRONG_RTL for letter in text)


def visual_order(text: str) -> str:
    """The characters from left to right as they are to be drawn; Arabic letters as presentation forms.

    The direction of the line is that of its first strong letter (UAX 9, P2 and P3).
    """
    if not has_rtl(text):
        return text
    text = join_arabic(text)
    levels = _levels(text)
    letters = [letter.translate(_MIRRORED) if level % 2 else letter for letter, level in zip(text, levels, strict=True)]
    for level in range(max(levels), 0, -1):  # rule L2: turn every run at or above each level, highest first
        start = 0
        while start < len(letters):
            stop = start
            while stop < len(letters) and levels[stop] >= level:
                stop += 1
            letters[start:stop] = letters[start:stop][::-1]
            levels[start:stop] = levels[start:stop][::-1]
            start = max(stop, start + 1)
    return "".join(letters)


def join_arabic(text: str) -> str:
    """Replace Arabic letters by the forms that they take between their neighbours, in reading order."""
    forms = _arabic_forms()
    text = _with_ligatures(text)
    joined = []
    for position, letter in enumerate(text):
        mine = forms.get(letter, {})
        before = _neighbour(text, position, -1)
        after = _neighbour(text, position, 1)
        from_right = "final" in mine and "initial" in forms.get(before, {})
        to_left = "initial" in mine and "final" in forms.get(after, {})
        place = {(True, True): "medial", (True, False): "final", (False, True): "initial"}.get(
            (from_right, to_left), "isolated"
        )
        joined.append(mine.get(place, letter))
    return "".join(joined)


def _levels(text: str) -> list[int]:
    """Embedding level of each character: even is left to right, odd is right to left."""
    kinds = [unicodedata.bidirectional(letter) for letter in text]
    base = next((1 if kind in _STRONG_RTL else 0 for kind in kinds if kind in {"L", *_STRONG_RTL}), 0)
    kinds = _resolve_weak(kinds, "R" if base else "L")
    directions = _resolve_neutral(kinds, "R" if base else "L")
    rise = {("R", 0): 1, ("N", 0): 2, ("L", 1): 1, ("N", 1): 1}  # rules I1 and I2
    return [base + rise.get((direction, base), 0) for direction in directions]


def _resolve_weak(kinds: list[str], base: str) -> list[str]:
    """Rules W1 to W7: marks take their letter's kind, numbers hold their separators and signs."""
    kinds = kinds.copy()
    strong = base
    for position, kind in enumerate(kinds):
        if kind == "NSM":
            kinds[position] = kinds[position - 1] if position else base
        elif kind in {"L", *_STRONG_RTL}:
            strong = kind
        elif kind == "EN" and strong == "AL":
            kinds[position] = "AN"
    kinds = ["R" if kind == "AL" else kind for kind in kinds]
    for position in range(1, len(kinds) - 1):
        around = {kinds[position - 1], kinds[position + 1]}
        if len(around) == 1 and (
            (kinds[position] in {"ES", "CS"} and around == {"EN"}) or (kinds[position] == "CS" and around == {"AN"})
        ):
            kinds[position] = around.pop()
    for position, kind in enumerate(kinds):
        if kind == "ET" and _touches_number(kinds, position):
            kinds[position] = "EN"
    strong = base
    for position, kind in enumerate(kinds):
        if kind in {"L", "R"}:
            strong = kind
        elif kind == "EN" and strong == "L":
            kinds[position] = "L"
    return kinds


def _touches_number(kinds: list[str], position: int) -> bool:
    """Whether a run of signs such as % that holds this position lies beside a European number."""
    left, right = position, position
    while left > 0 and kinds[left] == "ET":
        left -= 1
    while right < len(kinds) - 1 and kinds[right] == "ET":
        right += 1
    return "EN" in {kinds[left], kinds[right]}


def _resolve_neutral(kinds: list[str], base: str) -> list[str]:
    """Rules N1 and N2: what lies between equal directions takes theirs, the rest takes the line's.

    Returns:
        For each character "L", "R", or "N" for a number.
    """
    flat = ["N" if kind in _NUMBERS else kind if kind in {"L", "R"} else "?" for kind in kinds]
    for position, kind in enumerate(flat):
        if kind != "?":
            continue
        stop = position
        while stop < len(flat) and flat[stop] == "?":
            stop += 1
        before = flat[position - 1] if position else base
        after = flat[stop] if stop < len(flat) else base
        sides = {"R" if side == "N" else side for side in (before, after)}
        flat[position:stop] = [sides.pop() if len(sides) == 1 else base] * (stop - position)
    return flat


def _neighbour(text: str, position: int, step: int) -> str:
    """The next character on one side that is not a mark."""
    position += step
    while 0 <= position < len(text) and unicodedata.category(text[position]) in _TRANSPARENT:
        if text[position] == "\u200c":  # the zero-width non-joiner is there to keep letters apart
            return ""
        position += step
    return text[position] if 0 <= position < len(text) else ""


def _with_ligatures(text: str) -> str:
    """Lam followed by an alef is one letter in every Arabic hand."""
    for pair, ligature in _lam_alef().items():
        text = text.replace(pair, ligature)
    return text


@cache
def _arabic_forms() -> dict[str, dict[str, str]]:
    """Letter -> place in the word -> presentation form, as Unicode's decompositions list them."""
    forms: dict[str, dict[str, str]] = {}
    for code in (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFEFD)):
        tag, *letters = unicodedata.decomposition(chr(code)).split() or [""]
        place = tag.strip("<>")
        if place in {"isolated", "final", "initial", "medial"} and len(letters) == 1:
            forms.setdefault(chr(int(letters[0], 16)), {}).setdefault(place, chr(code))
    for pair, ligature in _lam_alef().items():
        final = next(
            chr(code)
            for code in range(0xFEF5, 0xFEFD)
            if unicodedata.decomposition(chr(code)) == "<final> " + " ".join(f"{ord(letter):04X}" for letter in pair)
        )
        forms[ligature] = {"isolated": ligature, "final": final}
    forms["\u0640"] = dict.fromkeys(("isolated", "final", "initial", "medial"), "\u0640")  # tatweel joins both ways
    return forms


@cache
def _lam_alef() -> dict[str, str]:
    ligatures = {}
    for code in range(0xFEF5, 0xFEFD):
        tag, *letters = unicodedata.decomposition(chr(code)).split()
        if tag == "<isolated>":
            ligatures["".join(chr(int(letter, 16)) for letter in letters)] = chr(code)
    return ligatures
