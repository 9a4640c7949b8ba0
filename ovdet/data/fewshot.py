"""The few-shot protocols: PASCAL-5i, COCO-20i, FSS-1000 and LVIS-92i, classes and episodes by rule.

Rules and the order of random draws are those of HSNet's data sets (Min et al. 2021), of Matcher's for LVIS-92i (Liu et
al. 2024): one stream of `numpy.random` seeded once, all episodes in turn. With HSNet's own lists of pictures the
episodes are the same; without them the lists are made by rule, which the episodes' notes say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovdet.data.coco_segments import CocoSegments
from ovdet.data.episodes import Episode, EpisodeList, draw_supports
from ovdet.data.label_maps import VOC_NAMES, LabelMaps, names_digest, read_names
from ovdet.data.plain_pickle import read_plain_pickle
from ovdet.data.segments import read_grey, read_rgb
from ovdet.errors import InputError

PASCAL_FOLDS, COCO_FOLDS, LVIS_FOLDS = 4, 4, 10
EPISODES = 1000
"""Of a fold of PASCAL-5i and COCO-20i."""
LVIS_EPISODES = 2300
"""Of a fold of LVIS-92i."""
FSS_PICTURES = 10
"""Of each class of FSS-1000, named 1 to 10."""
FSS_FIRST = {"train": 0, "val": 520, "test": 760}
"""Number of the first class of each part of FSS-1000."""


def pascal_fold(fold: int) -> tuple[int, ...]:
    """Classes that a fold of PASCAL-5i tests: five in a row, in VOC's order from 0."""
    _check_fold("PASCAL-5i", fold, PASCAL_FOLDS)
    return tuple(range(5 * fold, 5 * fold + 5))


def coco_fold(fold: int) -> tuple[int, ...]:
    """Classes that a fold of COCO-20i tests: every fourth, in the order of category ids from 0."""
    _check_fold("COCO-20i", fold, COCO_FOLDS)
    return tuple(fold + COCO_FOLDS * step for step in range(20))


def pascal_5i(
    voc: LabelMaps, fold: int, shots: int, lists: str | Path | None = None, count: int = EPISODES, seed: int = 0
) -> EpisodeList:
    """Episodes of PASCAL-5i: the queries in the list's order, over and over, each with the class that its line says.

    Args:
        voc: `pascal_voc(root, part="val")`, or of all label pictures where lists are given.
        fold: 0 to 3.
        shots: examples of an episode.
        lists: HSNet's splits/pascal/val/foldN.txt, lines of NAME__LABEL with labels from 1. None pairs each picture
            with each class of the fold that it shows.
        count: of episodes.
        seed: of numpy's generator.

    Raises:
        InputError: a line is of another form or fold, or a class has a single picture.
    """
    classes = pascal_fold(fold)
    if lists is None:
        pairs = [
            (name, key) for index, name in enumerate(voc.names) for key in voc.keys_of(index) if key in set(classes)
        ]
        notes = {"pictures": "each picture with each class that it shows"}
    else:
        pairs = [_pascal_line(line, lists, classes) for line in read_names(lists)]
        notes = {"pictures": Path(lists).name}
    if not pairs:
        raise InputError(f"PASCAL-5i, fold {fold}: no picture shows one of its classes")
    by_class: dict[int, list[str]] = {}
    for name, key in pairs:
        by_class.setdefault(key, []).append(name)
    rng = np.random.RandomState(seed)
    episodes = []
    for index in range(count):
        query, key = pairs[index % len(pairs)]
        episodes.append(Episode(key, query, draw_supports(rng, by_class[key], query, shots)))
    notes |= {"queries": len(pairs), "pictures_sha256": names_digest([f"{name}__{key}" for name, key in pairs])}
    return EpisodeList("pascal-5i", fold, shots, seed, {key: VOC_NAMES[key] for key in classes}, tuple(episodes), notes)


def coco_20i(
    segments: CocoSegments, fold: int, shots: int, lists: str | Path | None = None, count: int = EPISODES, seed: int = 0
) -> EpisodeList:
    """Episodes of COCO-20i: a class at random, then a query of it, then the examples.

    Args:
        segments: of instances_val2014.json, all 80 categories.
        fold: 0 to 3.
        shots: examples of an episode.
        lists: HSNet's splits/coco/val/foldN.pkl, or a JSON file of {class number: [file names]}. None takes, in the
            order of picture ids, all pictures with an annotation of the class that is no crowd.
        count: of episodes.
        seed: of numpy's generator.

    Raises:
        InputError: there are not 80 categories, or a class has fewer than two pictures.
    """
    if len(segments.class_names) != 80:
        raise InputError(f"COCO-20i wants all 80 categories, {segments.ann_file} has {len(segments.class_names)}")
    classes = coco_fold(fold)
    if lists is None:
        by_class, source = pictures_of(segments, classes), "all with an annotation that is no crowd"
    else:
        by_class, source = _coco_lists(lists, classes, set(segments.names)), Path(lists).name
    rng = np.random.RandomState(seed)
    episodes = _by_class(rng, by_class, shots, count)
    names = {key: segments.class_names[key] for key in classes}
    return EpisodeList("coco-20i", fold, shots, seed, names, episodes, _notes(by_class, source))


def lvis_92i(segments: CocoSegments, fold: int, shots: int, count: int = LVIS_EPISODES, seed: int = 0) -> EpisodeList:
    """Episodes of LVIS-92i: categories of LVIS val with more than `shots` pictures, every tenth; they take turns.

    With five shots fewer categories remain, so the folds are not the ones of one shot. Matcher's own file may have
    categories and pictures in another order than by id, which is taken here.

    Args:
        segments: of lvis_v1_val.json.
        fold: 0 to 9.
        shots: examples of an episode.
        count: of episodes.
        seed: of numpy's generator.

    Raises:
        InputError: fewer than ten categories remain.
    """
    _check_fold("LVIS-92i", fold, LVIS_FOLDS)
    by_class = pictures_of(segments, range(len(segments.class_names)))
    eligible = [key for key in sorted(by_class) if len(by_class[key]) > shots]
    size = len(eligible) // LVIS_FOLDS
    if not size:
        raise InputError(f"LVIS-92i wants at least {LVIS_FOLDS} categories with more than {shots} pictures")
    classes = [eligible[fold + LVIS_FOLDS * step] for step in range(size)]
    rng = np.random.RandomState(seed)
    episodes = []
    for index in range(count):
        key = classes[index % size]
        names = by_class[key]
        query = names[int(rng.choice(len(names), 1, replace=False)[0])]
        episodes.append(Episode(key, query, draw_supports(rng, names, query, shots)))
    notes = _notes({key: by_class[key] for key in classes}, "all with an annotation, by id")
    names_of = {key: segments.class_names[key] for key in classes}
    return EpisodeList("lvis-92i", fold, shots, seed, names_of, tuple(episodes), notes)


def fss_1000(
    root: str | Path, classes: str | Path | Sequence[str], shots: int, part: str = "test", seed: int = 0
) -> EpisodeList:
    """Episodes of FSS-1000: every picture of every class is a query once, examples come from the other nine.

    Args:
        root: folder of the classes, each with 1.jpg to 10.jpg and 1.png to 10.png.
        classes: of the part, or a list file of them (HSNet's splits/fss/test.txt: 240 classes, 2,400 queries).
        shots: examples of an episode.
        part: "train", "val" or "test": where the numbers of the classes begin.
        seed: of numpy's generator.

    Raises:
        InputError: the part is unknown, or a class lacks pictures.
    """
    if part not in FSS_FIRST:
        raise InputError(f"there is no part {part!r} of FSS-1000; choose one of {', '.join(FSS_FIRST)}")
    names = sorted(read_names(classes) if isinstance(classes, str | Path) else classes)
    rng = np.random.RandomState(seed)
    episodes = []
    for place, name in enumerate(names):
        pictures = sorted(f"{name}/{path.stem}" for path in (Path(root) / name).glob("*.jpg"))
        wanted = {f"{name}/{number}" for number in range(1, FSS_PICTURES + 1)}
        if set(pictures) != wanted:
            raise InputError(f"{Path(root) / name} should have the pictures 1.jpg to {FSS_PICTURES}.jpg, no others")
        numbered = [f"{name}/{number}" for number in range(1, FSS_PICTURES + 1)]
        for query in sorted(pictures, key=lambda one: f"{one}.jpg"):
            label = FSS_FIRST[part] + place
            episodes.append(Episode(label, query, draw_supports(rng, numbered, query, shots)))
    labels = {FSS_FIRST[part] + place: name for place, name in enumerate(names)}
    notes = {"part": part, "classes_sha256": names_digest(names)}
    return EpisodeList("fss-1000", 0, shots, seed, labels, tuple(episodes), notes)


class FssPictures:
    """Pixels of FSS-1000; masks are grey PNGs, 128 and more is the thing.

    Args:
        root: folder of the classes.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def picture(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of CLASS/NUMBER."""
        return read_rgb(self.root / f"{name}.jpg")

    def mask(self, name: str, label: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) bool of the picture's one thing; all pixels are judged."""
        mask = read_grey(self.root / f"{name}.png") >= 128
        return mask, np.ones(mask.shape, bool)


class CocoClasses:
    """Pixels of COCO-20i and LVIS-92i: all annotations of a category together.

    Args:
        segments: of the annotation file.
        crowds: "include" takes crowds as part of the class, as label pictures of COCO-20i do; "ignore" does not judge
            their pixels.
    """

    def __init__(self, segments: CocoSegments, crowds: str = "include") -> None:
        self.segments, self.crowds = segments, crowds

    def picture(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.segments.picture(name)

    def mask(self, name: str, label: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) bool of the class, and of the judged pixels."""
        return self.segments.mask(name, label, crowds=self.crowds)


def class_episodes(
    segments: CocoSegments, labels: Sequence[int], shots: int, count: int = EPISODES, seed: int = 0, name: str = "own"
) -> EpisodeList:
    """Episodes of one's own COCO-format data: a class at random, then a query of it, then the examples.

    Raises:
        InputError: a class has fewer than two pictures.
    """
    by_class = pictures_of(segments, labels)
    episodes = _by_class(np.random.RandomState(seed), by_class, shots, count)
    names = {key: segments.class_names[key] for key in labels}
    notes = _notes(by_class, "all with an annotation that is no crowd")
    return EpisodeList(name, 0, shots, seed, names, episodes, notes)


def pictures_of(segments: CocoSegments, labels: Sequence[int]) -> dict[int, list[str]]:
    """Class -> names of the pictures that show it, in the order of picture ids; classes in the order given."""
    found: dict[int, list[str]] = {label: [] for label in labels}
    for index, name in enumerate(segments.names):
        for key in set(segments.keys_of(index)) & found.keys():
            found[key].append(name)
    return found


def _by_class(
    rng: np.random.RandomState, by_class: Mapping[int, Sequence[str]], shots: int, count: int
) -> tuple[Episode, ...]:
    few = [key for key, names in by_class.items() if len(set(names)) < 2]
    if few:
        raise InputError(f"class {few[0]} has fewer than two pictures: one to ask and one to show")
    classes, episodes = list(by_class), []
    for _ in range(count):
        key = classes[int(rng.choice(len(classes), 1, replace=False)[0])]
        names = by_class[key]
        query = names[int(rng.choice(len(names), 1, replace=False)[0])]
        episodes.append(Episode(key, query, draw_supports(rng, names, query, shots)))
    return tuple(episodes)


def _notes(by_class: Mapping[int, Sequence[str]], source: str) -> dict[str, Any]:
    rows = [f"{key} {name}" for key in by_class for name in by_class[key]]
    return {"pictures": source, "pictures_sha256": names_digest(rows)}


def _pascal_line(line: str, path: str | Path, classes: Sequence[int]) -> tuple[str, int]:
    name, mark, label = line.partition("__")
    if not mark or not label.isdecimal() or int(label) - 1 not in classes:
        raise InputError(f"{path}: {line!r} is not NAME__LABEL with a label of this fold ({classes[0] + 1} and on)")
    return name, int(label) - 1


def _coco_lists(path: str | Path, classes: Sequence[int], known: set[str]) -> dict[int, list[str]]:
    """HSNet's names stand below the folder val2014/, COCO's own do not."""
    path = Path(path)
    try:
        rows = read_plain_pickle(path) if path.suffix == ".pkl" else json.loads(path.read_bytes())
        content = {int(key): [str(name) for name in names] for key, names in rows.items()}
    except OSError as error:
        raise InputError(f"cannot read the lists {path}: {error.strerror or error}") from error
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} has no lists of file names by class number ({error})") from error
    found = {}
    for key in classes:
        if key not in content:
            raise InputError(f"{path} has no list of class {key}")
        found[key] = [name if name in known else name.rpartition("/")[2] for name in content[key]]
        missing = [name for name in found[key] if name not in known]
        if missing:
            raise InputError(f"{path}: class {key} lists {missing[0]}, which the annotation file has not")
    return found


def _check_fold(protocol: str, fold: int, folds: int) -> None:
    if not 0 <= fold < folds:
        raise InputError(f"{protocol} has the folds 0 to {folds - 1}, got {fold}")
