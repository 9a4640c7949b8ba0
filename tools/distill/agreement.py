"""What the report on the sentence tower compares: held-out and everyday texts, neighbours in a bank of names."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

EVERYDAY = Path(__file__).with_name("everyday_names.txt")
PHRASE_KINDS = ("attribute", "adjective", "linked", "template", "hypernym")


def everyday_names() -> list[str]:
    """COCO's 80 names, then some of LVIS's."""
    return [line for line in EVERYDAY.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def question_sets(rows: Sequence[tuple[str, str, str]], count: int) -> dict[str, list[str]]:
    """The texts that the report is about, by what they are; at most `count` each, drawn with a fixed seed."""
    rng = random.Random(0)
    held_out = [(kind, text) for split, kind, text in rows if split == "heldout"]
    groups = {
        "held-out nouns": [text for kind, text in held_out if kind == "lemma" and text.islower()],
        "held-out proper names": [text for kind, text in held_out if kind == "lemma" and not text.islower()],
        "phrases with held-out nouns": [text for kind, text in held_out if kind in PHRASE_KINDS],
        "glosses with held-out nouns": [text for kind, text in held_out if kind == "gloss"],
    }
    drawn = {name: rng.sample(texts, min(count, len(texts))) for name, texts in groups.items()}
    return {**drawn, "COCO names": everyday_names()[:80], "LVIS-like names": everyday_names()[80:]}


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of each row of two (Q, N) matrices; ties do not occur among float similarities."""
    ranks = [x.argsort(1).argsort(1).double() for x in (a, b)]
    centred = [x - x.mean(1, keepdim=True) for x in ranks]
    return (centred[0] * centred[1]).sum(1) / (centred[0].norm(dim=1) * centred[1].norm(dim=1))


def agreement(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], same: Tensor) -> dict[str, float]:
    """Compare what two towers find in a bank of names.

    Args:
        student: queries (Q, D) and bank (N, D) as the student is to be used.
        teacher: the same of the teacher.
        same: (Q, N) bool, true where query and bank entry are the same text, which does not count.
    """
    ours, theirs = ((q @ bank.T).masked_fill(same, -2) for q, bank in (student, teacher))
    right = theirs.argmax(1)
    return {
        "top-1": (ours.argmax(1) == right).double().mean().item(),
        "in top-5": (ours.topk(5).indices == right[:, None]).any(1).double().mean().item(),
        "Spearman": rank_correlation(ours, theirs).mean().item(),
    }
