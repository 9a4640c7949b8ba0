"""What a word says about the 1000 ImageNet classes: WordNet where it knows the word, sentence similarity beyond.

ImageNet's classes are WordNet synsets, so the noun "dog" covers 118 of them. A compound that WordNet lacks is what
its last word says ("red sports car" a sports car), unless WordNet knows better ("sea horse" is no horse). Similarity
to the class texts adds the rest, softly, as ConSE does (Norouzi et al., arXiv:1312.5650) but read from the text side.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovdet.vlm.contrastive.sentence_tower import SentenceTower

TABLE = Path(__file__).with_name("imagenet_words.json")
VECTORS = Path(__file__).with_name("imagenet_words_vectors.npz")
_TEMPLATE = re.compile(r"^(this is |there is |itap of |an? ([a-z-]+ )*(photo|picture|image|painting) of )+")
_ARTICLE = re.compile(r"^(an?|the|one|my|many|some) ")
_SCENE = re.compile(r" in the scene$")
_PHRASE = re.compile(r" (of|with|in|on|at|for|from|by|that|which|and|under|near|behind|riding|wearing|holding) ")
_CONTAINERS = frozenset("cup mug glass bowl plate dish pot bottle jug jar can pitcher tray goblet teacup".split())
_IRREGULAR = dict(
    word.split(":")
    for word in (
        "people:person men:man women:woman children:child mice:mouse geese:goose feet:foot teeth:tooth oxen:ox "
        "lice:louse dice:die wolves:wolf knives:knife leaves:leaf loaves:loaf shelves:shelf scarves:scarf "
        "calves:calf elves:elf halves:half lives:life wives:wife thieves:thief hooves:hoof fungi:fungus "
        "cacti:cactus hippopotami:hippopotamus octopi:octopus aircraft:aircraft buses:bus lenses:lens gases:gas"
    ).split()
)


@dataclass(frozen=True)
class RelevanceConfig:
    """How sure each source of relevance is.

    Attributes:
        head: weight of what only the last word of a compound says.
        similarity_middle: cosine at which similarity alone is worth 0.5.
        similarity_width: logistic width of that.
        head_lead: how much closer than its last word alone a compound may be to a class.
        beside_noun: weight of similarity where WordNet already knows the word.
        contents: weight of food and drink where the name is a container for them.
        floor: relevance below this is none.
    """

    head: float = 0.9
    similarity_middle: float = 0.6
    similarity_width: float = 0.04
    head_lead: float = 0.15
    beside_noun: float = 0.5
    contents: float = 0.7
    floor: float = 0.02


class NounTable:
    """WordNet's nouns that cover at least one ImageNet class, or lie below one."""

    def __init__(self, table: dict[str, Any]) -> None:
        """Take the parsed `imagenet_words.json` (written by tools/data/imagenet_words.py)."""
        self.class_names: list[str] = table["names"]
        self.lemmas: list[list[str]] = table["lemmas"]
        self.glosses: list[str] = table["glosses"]
        self._nouns: dict[str, list[list[float]]] = table["nouns"]
        self._sets: list[list[int]] = table["sets"]
        self._misleading = frozenset(table["misleading"])
        self.digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls) -> NounTable:
        """Read the shipped table."""
        return cls(json.loads(TABLE.read_text(encoding="utf-8")))

    def noun(self, word: str) -> Tensor | None:
        """Relevance of one WordNet noun to the classes: (1000,) in [0, 1], or None if the table lacks it.

        A usual sense counts fully, rarer ones less: the cube root of the ratio of their counts in WordNet's
        tagged texts, plus one ("plane" the aircraft 1, the tool 0.36).
        """
        rows = self._nouns.get(word)
        if rows is None:
            return None
        most = max(row[0] for row in rows)
        relevance = torch.zeros(len(self.class_names))
        for count, _, index, kind in rows:
            members = torch.tensor(self._sets[int(index)])
            weight = kind * float(np.cbrt((count + 1) / (most + 1)))
            relevance[members] = relevance[members].clamp(min=weight)
        return relevance

    def name(self, name: str, head_weight: float) -> Tensor | None:
        """Relevance of a free name: the whole phrase as a noun, else its last words, else None."""
        for phrase in dict.fromkeys((name, _PHRASE.split(name)[0])):
            words = phrase.split()
            for start in range(len(words)):
                for form in _spellings(words[start:]):
                    if form in self._misleading:
                        return None
                    found = self.noun(form)
                    if found is not None:
                        return found * (1.0 if start == 0 and phrase == name else head_weight)
        return None

    def contents(self, name: str) -> Tensor | None:
        """Food and drink that a named container holds, (1000,): an espresso for "coffee cup"; None if there is none.

        ImageNet shows drinks in their cups and dishes on their plates, and calls them by what is inside.
        """
        words = name.split()
        inside, heads = (words[-1], words[0]) if " of " in name else (" ".join(words[:-1]), words[-1])
        if len(words) < 2 or not _CONTAINERS.intersection(_singular(heads)):
            return None
        held = self.noun(inside)
        edible = self.noun("food")
        return None if held is None or edible is None else held * (edible > 0)


class WordRelevance:
    """Names to relevance over the ImageNet classes, one name at a time."""

    def __init__(self, nouns: NounTable, tower: SentenceTower, config: RelevanceConfig | None = None) -> None:
        self.nouns = nouns
        self.tower = tower
        self.config = config or RelevanceConfig()
        owners, lemma_vectors, gloss_vectors = class_vectors(nouns, tower)
        self._owners, self._lemmas, self._glosses = owners, lemma_vectors, gloss_vectors

    def similarity(self, name: str) -> Tensor:
        """Cosine of a name to each class, (1000,): half to the nearest of its words, half to words with gloss.

        Of a compound, no more than `head_lead` above the cosine of its last word alone: a billiard cue is not a
        billiard table, however close the two phrases are.
        """
        whole = self._cosines(name)
        head = _PHRASE.split(name)[0].rpartition(" ")[2]
        return whole if head == name else whole.minimum(self._cosines(head) + self.config.head_lead)

    def _cosines(self, text: str) -> Tensor:
        vector = self.tower.encode([text])[0].float()
        words = torch.full((len(self._glosses),), -1.0)
        words = words.scatter_reduce(0, self._owners, self._lemmas @ vector, "amax")
        return (words + self._glosses @ vector) / 2

    def __call__(self, text: str) -> Tensor:
        """Relevance of a class name, or of a prompt around one, to the ImageNet classes: (1000,) in [0, 1]."""
        name = bare_name(text)
        config = self.config
        similar = torch.sigmoid((self.similarity(name) - config.similarity_middle) / config.similarity_width)
        known = self.nouns.name(name, config.head)
        relevance = similar if known is None else torch.maximum(known, config.beside_noun * similar)
        contents = self.nouns.contents(name)
        if contents is not None:
            relevance = torch.maximum(relevance, config.contents * contents)
        return torch.where(relevance < config.floor, 0.0, relevance)


def class_texts(nouns: NounTable) -> tuple[list[str], list[str]]:
    """The texts that stand for the classes: every word of every class, and a sentence of words and gloss each."""
    words = [word for lemmas in nouns.lemmas for word in lemmas]
    sentences = [f"{', '.join(lemmas)}: {gloss}" for lemmas, gloss in zip(nouns.lemmas, nouns.glosses, strict=True)]
    return words, sentences


def class_vectors(nouns: NounTable, tower: SentenceTower) -> tuple[Tensor, Tensor, Tensor]:
    """Embed the class texts, or read them where they were shipped for this very tower.

    Returns:
        owners: (W,) class index of each class word.
        lemma_vectors: (W, 384) of the class words.
        gloss_vectors: (1000, 384) of words and gloss.
    """
    owners = torch.tensor([index for index, lemmas in enumerate(nouns.lemmas) for _ in lemmas])
    if VECTORS.is_file():
        with np.load(VECTORS) as file:
            if str(file["tower"]) == tower.fingerprint:
                return owners, torch.from_numpy(file["lemmas"]).float(), torch.from_numpy(file["glosses"]).float()
    words, sentences = class_texts(nouns)
    return owners, tower.encode(words).float(), tower.encode(sentences).float()


def bare_name(text: str) -> str:
    """Strip prompt and article: "a photo of an old dog." -> "old dog"."""
    name = " ".join(text.lower().replace("_", " ").split()).rstrip(". ")
    name = _SCENE.sub("", _TEMPLATE.sub("", name))
    return _ARTICLE.sub("", name)


@lru_cache(maxsize=4096)
def _singular(word: str) -> tuple[str, ...]:
    """Candidate singulars of a noun, WordNet's detachment rules and the commonest exceptions; the word itself first."""
    forms = [word]
    if word in _IRREGULAR:
        forms.append(_IRREGULAR[word])
    for ending, replacement in (
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("oes", "o"),
        ("men", "man"),
        ("ies", "y"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            forms.append(word[: len(word) - len(ending)] + replacement)
    return tuple(dict.fromkeys(forms))


def _spellings(words: Sequence[str]) -> list[str]:
    """The ways to write a phrase: as given and singular, with blanks, hyphens or in one word."""
    spellings = []
    for last in _singular(words[-1]):
        parts = [*words[:-1], last]
        phrase = " ".join(parts)
        spellings += [phrase, phrase.replace("-", " "), phrase.replace("-", "")]
        if len(parts) > 1:
            spellings += ["-".join(parts), "".join(parts)]
            spellings += ["-".join(parts[:2]) + " " + " ".join(parts[2:])] if len(parts) > 2 else []
    return list(dict.fromkeys(spellings))
