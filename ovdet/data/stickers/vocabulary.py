"""The names of the world and which of them are base and novel, as committed data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from ovdet.errors import InputError

PATH = Path(__file__).with_name("vocabulary.json")
SPLITS = ("75-25", "48-17")
"""75-25: all names, a quarter of them novel, as on LVIS. 48-17: 65 names, as on COCO."""


@dataclass(frozen=True)
class Concept:
    """One nameable thing.

    Attributes:
        name: as it is said.
        group: of the emoji standard.
        family: name of the family of near-duplicates that it belongs to.
        aliases: names of the standard that were merged into it.
        tags: words that people search it by; related, not always synonyms.
    """

    name: str
    group: str
    family: str
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class StickerVocabulary:
    """The names of one split, in a fixed order that labels refer to.

    Attributes:
        split: its name.
        concepts: K concepts.
        novel: names whose boxes no training may see.
    """

    split: str
    concepts: tuple[Concept, ...]
    novel: frozenset[str]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """K names."""
        return tuple(concept.name for concept in self.concepts)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """K names of families."""
        return tuple(concept.family for concept in self.concepts)

    @cached_property
    def base_mask(self) -> tuple[bool, ...]:
        """K flags: may training see the boxes?"""
        return tuple(concept.name not in self.novel for concept in self.concepts)


@cache
def load_vocabulary(split: str = "75-25") -> StickerVocabulary:
    """The committed vocabulary of a split.

    Raises:
        InputError: there is no such split.
    """
    content = json.loads(PATH.read_text(encoding="utf-8"))
    if split not in content["splits"]:
        raise InputError(f"there is no split {split!r} of the stickers; choose one of {', '.join(content['splits'])}")
    sides = content["splits"][split]
    wanted = {*sides["base"], *sides["novel"]}
    concepts = tuple(
        Concept(row["name"], row["group"], row["family"], tuple(row["aliases"]), tuple(row["tags"]))
        for row in content["concepts"]
        if row["name"] in wanted
    )
    return StickerVocabulary(split, concepts, frozenset(sides["novel"]))
