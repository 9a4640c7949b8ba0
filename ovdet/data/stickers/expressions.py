"""What can be said of a scene: captions, texts of regions, and expressions that fit one thing and no other.

Every predicate answers yes, no or perhaps (a colour that half of the thing has, a difference of a few pixels, a name
that could be taken for another). An expression refers to a thing only if it is a yes for that thing and a clear no for
all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovdet.data.stickers.colours import CLEARLY, PERHAPS, WORDS
from ovdet.data.stickers.scenes import Scene
from ovdet.data.stickers.vocabulary import StickerVocabulary

YES, PERHAPS_SO, NO = 1, 0, -1
MARGIN = 0.06
"""Places must differ by this share of the picture's longer side to be told apart."""
SIZE_RATIO = 1.4
"""Areas of boxes must differ by this factor."""

SUPERLATIVES = ("leftmost", "rightmost", "topmost", "bottommost", "largest", "smallest")
RELATIONS = ("to the left of", "to the right of", "above", "below")

Answers = np.ndarray
"""(N,) int8 of YES, PERHAPS_SO and NO, one for each thing."""


@dataclass(frozen=True)
class Expression:
    """A text that refers to things.

    Attributes:
        text: such as "the red car".
        kind: "name", "colour", "superlative" or "relation", or "thing" for what is not named; for texts of regions
            also "place" and "pair".
        things: indices of what it refers to: one, or two for a pair.
        box_xyxy: around them, in pixel edges.
    """

    text: str
    kind: str
    things: tuple[int, ...]
    box_xyxy: tuple[float, float, float, float]


class SceneGraph:
    """The things of a scene with what can be said of them.

    Args:
        scene: with N things.
        vocabulary: that its labels index.
    """

    def __init__(self, scene: Scene, vocabulary: StickerVocabulary) -> None:
        self.names = [vocabulary.names[label] for label in scene.labels]
        self.families = [vocabulary.families[label] for label in scene.labels]
        self.colours, self.boxes_xyxy = scene.colours, scene.boxes_xyxy.astype(np.float64)
        self.size_hw, self.ground = scene.image.shape[:2], scene.ground
        self.centres_xy = (self.boxes_xyxy[:, :2] + self.boxes_xyxy[:, 2:]) / 2  # (N, 2)
        self.box_areas = np.prod(self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2], axis=1)
        self.margin = MARGIN * max(self.size_hw)

    def named(self, name: str) -> Answers:
        """Is it a `name`? Near-duplicates are a perhaps."""
        family = next((f for n, f in zip(self.names, self.families, strict=True) if n == name), None)
        pairs = zip(self.names, self.families, strict=True)
        return np.array([YES if n == name else PERHAPS_SO if f == family else NO for n, f in pairs], np.int8)

    def coloured(self, word: str) -> Answers:
        """Is it of this colour?"""
        shares = self.colours[:, WORDS.index(word)]
        return np.where(shares >= CLEARLY, YES, np.where(shares >= PERHAPS, PERHAPS_SO, NO)).astype(np.int8)

    def colour_of(self, index: int) -> str | None:
        """The word for its colour, if one fits clearly."""
        best = int(self.colours[index].argmax())
        return WORDS[best] if self.colours[index, best] >= CLEARLY else None

    def extreme(self, word: str, among: Answers) -> Answers:
        """Is it the one that `word` picks out of those that are not a no in `among`?

        Whoever comes close to the first is a perhaps, and so is the first then.
        """
        value, close = self._scale(word)
        members = np.flatnonzero(among != NO)
        answers = np.full(len(self.names), NO, np.int8)
        if len(members):
            best = value[members].max()
            near = members[best - value[members] < close]
            answers[near] = YES if len(near) == 1 else PERHAPS_SO
        return answers

    def related(self, relation: str, anchor: int) -> Answers:
        """Does it stand in this relation to the anchor? What lies rather beside than in that direction is a perhaps."""
        ahead, aside = self._direction(relation, anchor)
        clear = (ahead >= self.margin) & (ahead >= 1.5 * aside)
        answers = np.where(clear, YES, np.where(ahead > -self.margin, PERHAPS_SO, NO)).astype(np.int8)
        answers[anchor] = NO
        return answers

    def place_of(self, index: int) -> str:
        """Where it is in the picture, in words."""
        x, y = self.centres_xy[index] / self.size_hw[::-1]
        across = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
        down = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
        if not across and not down:
            return "in the middle"
        return f"at the {down} {across}".rstrip() if down else f"on the {across}"

    def box_of(self, things: Sequence[int]) -> tuple[float, float, float, float]:
        """Box around some things."""
        boxes = self.boxes_xyxy[list(things)]
        left, top = boxes[:, :2].min(axis=0)
        right, bottom = boxes[:, 2:].max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def _scale(self, word: str) -> tuple[np.ndarray, float]:
        """What `word` wants large, and how near the second may not come."""
        if word in ("largest", "smallest"):
            size = np.log(np.maximum(self.box_areas, 1))
            return (size if word == "largest" else -size), float(np.log(SIZE_RATIO))
        axis, sign = {"leftmost": (0, -1), "rightmost": (0, 1), "topmost": (1, -1), "bottommost": (1, 1)}[word]
        return sign * self.centres_xy[:, axis], self.margin

    def _direction(self, relation: str, anchor: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels from the anchor in the relation's direction, and across it."""
        along, across = (self.centres_xy - self.centres_xy[anchor]).T
        if relation in ("above", "below"):
            along, across = across, along
        sign = -1 if relation in ("to the left of", "above") else 1
        return sign * along, np.abs(across)


def referring_expressions(
    graph: SceneGraph, mentioned: Sequence[bool] | None = None, nouns: Sequence[str] = ()
) -> list[Expression]:
    """All expressions of the four kinds that fit exactly one thing, in a fixed order.

    Args:
        graph: of the scene.
        mentioned: N flags; things without it are never named, but count when it is asked what a text could mean.
        nouns: that fit everything, as "thing" does, for expressions of a fifth kind that tell things by colour, place,
            size or neighbour alone.
    """
    said = [True] * len(graph.names) if mentioned is None else [bool(flag) for flag in mentioned]
    found: dict[str, Expression] = {}

    def offer(text: str, kind: str, *answers: Answers) -> None:
        """Keep the text if all answers together are a yes for one thing and a no for the rest."""
        together = np.minimum.reduce(answers)
        fits = np.flatnonzero(together == YES)
        if len(fits) == 1 and np.count_nonzero(together != NO) == 1 and said[fits[0]]:
            index = int(fits[0])
            found.setdefault(text, Expression(text, kind, (index,), graph.box_of([index])))

    names = list(dict.fromkeys(name for name, flag in zip(graph.names, said, strict=True) if flag))
    anchors = _anchors(graph, said)
    beside = {(anchor, relation): graph.related(relation, anchor) for anchor in anchors for relation in RELATIONS}
    colours = {word: graph.coloured(word) for word in WORDS}
    for name in names:
        named = graph.named(name)
        offer(f"the {name}", "name", named)
        for word, coloured in colours.items():
            offer(f"the {word} {name}", "colour", named, coloured)
        if np.count_nonzero(named == YES) > 1:
            for word in SUPERLATIVES:
                offer(f"the {word} {name}", "superlative", named, graph.extreme(word, named))
        for (anchor, relation), answers in beside.items():
            if graph.names[anchor] != name:
                offer(f"the {name} {relation} the {graph.names[anchor]}", "relation", named, answers)
    anything = np.full(len(graph.names), YES, np.int8)
    for noun in nouns:
        for word, coloured in colours.items():
            offer(f"the {word} {noun}", "thing", coloured)
        for word in SUPERLATIVES:
            offer(f"the {word} {noun}", "thing", graph.extreme(word, anything))
        for (anchor, relation), answers in beside.items():
            offer(f"the {noun} {relation} the {graph.names[anchor]}", "thing", answers)
    return list(found.values())


def region_texts(graph: SceneGraph, mentioned: Sequence[bool] | None = None) -> list[Expression]:
    """Texts that are true of a region, though not of it alone: one to three a thing, and pairs of neighbours."""
    said = [True] * len(graph.names) if mentioned is None else [bool(flag) for flag in mentioned]
    texts = []
    indices = [index for index, flag in enumerate(said) if flag]
    for index in indices:
        name, colour = graph.names[index], graph.colour_of(index)
        texts.append(Expression(with_article(name), "name", (index,), graph.box_of([index])))
        if colour:
            texts.append(Expression(with_article(f"{colour} {name}"), "colour", (index,), graph.box_of([index])))
        place = f"{with_article(name)} {graph.place_of(index)}"
        texts.append(Expression(place, "place", (index,), graph.box_of([index])))
    for other in indices:
        for relation in RELATIONS:
            answers = graph.related(relation, other)
            for index in indices:
                if answers[index] == YES and _near(graph, index, other):
                    text = f"{with_article(graph.names[index])} {relation} {with_article(graph.names[other])}"
                    texts.append(Expression(text, "pair", (index, other), graph.box_of([index, other])))
    return texts


def caption(graph: SceneGraph, mentioned: Sequence[bool] | None = None) -> str:
    """One sentence that counts what is seen and says what it lies on."""
    said = [True] * len(graph.names) if mentioned is None else [bool(flag) for flag in mentioned]
    chosen = [index for index, flag in enumerate(said) if flag]
    counts = Counter(graph.names[index] for index in chosen)
    parts = []
    for name, count in counts.items():
        first = next(index for index in chosen if graph.names[index] == name)
        colour = graph.colour_of(first) if count == 1 else None
        parts.append(with_article(f"{colour} {name}" if colour else name) if count == 1 else counted(name, count))
    if not parts:
        return "nothing to name" + (f" {graph.ground}" if graph.ground else "")
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return f"{listed} {graph.ground}".rstrip()


def with_article(noun: str) -> str:
    """Say "a cat" and "an owl"; names that are plural by their look go without."""
    head = noun.split()[-1].lower()
    if head.endswith("s") and not head.endswith(("ss", "us", "is")):
        return noun
    vowel = noun[0].lower() in "aeiou" and not noun.lower().startswith(("uni", "one", "eu"))
    return f"{'an' if vowel or noun.startswith('X-') or noun == 'x-ray' else 'a'} {noun}"


def counted(name: str, count: int) -> str:
    """Say "two cats" and "three boxes"; names that are plural already stay as they are."""
    numbers = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    number = numbers[count] if count < len(numbers) else str(count)
    irregular = {"mouse": "mice", "goose": "geese", "fish": "fish", "sheep": "sheep", "deer": "deer", "bison": "bison"}
    stem, _, last = name.rpartition(" ")
    if last.lower() in irregular:
        plural = irregular[last.lower()]
    elif last.endswith(("ss", "x", "ch", "sh", "us", "is")):
        plural = f"{last}es"
    elif last.endswith("s"):
        return f"{number} {name}"
    elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        plural = f"{last[:-1]}ies"
    else:
        plural = f"{last}s"
    return " ".join(part for part in (number, stem, plural) if part)


def _anchors(graph: SceneGraph, said: Sequence[bool]) -> list[int]:
    """Things that their bare name picks out."""
    alone = [np.count_nonzero(graph.named(name) != NO) == 1 for name in graph.names]
    return [index for index, flag in enumerate(said) if flag and alone[index]]


def _near(graph: SceneGraph, first: int, second: int) -> bool:
    """Is the gap between two boxes smaller than the larger one's longer side?"""
    boxes = graph.boxes_xyxy[[first, second]]
    gap = np.maximum(boxes[:, :2].max(axis=0) - boxes[:, 2:].min(axis=0), 0).max()
    return bool(gap < (boxes[:, 2:] - boxes[:, :2]).max())
