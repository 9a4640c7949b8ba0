"""What `together`, mode "instance" and a tuned prompt are worth in the sticker world.

python tools/benchmarks/sticker_modes.py together            two or three names of one example: a pass each, or one
python tools/benchmarks/sticker_modes.py instance            two drawings of a name: is only the example's marked?
python tools/benchmarks/sticker_modes.py prompt FILE         a tuned prompt beside 1 and 8 examples of each of its names

Scenes of stickers as in tools/evaluate/few_shot.py, from a stream that no training draws; without the mirror.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
from tqdm import tqdm

from ovdet import Segmenter
from ovdet.data.segments import SegmentedPicture
from ovdet.data.stickers.dataset import scene_generator
from ovdet.data.stickers.episodes import (
    CastWorld,
    StickerClasses,
    cast_of_two,
    segmented,
    sticker_world,
    two_drawings,
)
from ovdet.data.stickers.scenes import StickerWorld
from ovdet.engine.launch import run
from ovdet.errors import InputError
from ovdet.metrics.segmentation import EpisodeScores
from ovdet.results import Detections
from ovdet.seggpt.examples import Example

LEAST = 64
"""Pixels that a thing must have in a scene to be asked for."""


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the tool; gives mIoU in percent, and for instances how often the other one is marked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("together", "instance", "prompt"))
    parser.add_argument("prompt", nargs="?", metavar="FILE", help="of tools/convert/seggpt.py")
    parser.add_argument("--model", default="stickers", help="as ovdet segment takes it (default: stickers)")
    parser.add_argument("--episodes", type=int, default=300, help="scenes that are asked (default: 300)")
    parser.add_argument("--side", choices=("base", "novel", "all"), default="all", help="names (default: all)")
    parser.add_argument("--stream", choices=("evaluation", "validation"), default="evaluation")
    args = parser.parse_args(argv)
    if (args.what == "prompt") != (args.prompt is not None):
        raise InputError("give the FILE of a prompt with 'prompt', and none otherwise")
    segmenter = Segmenter(args.model, mirror=False)
    world = sticker_world(stream=args.stream, objects=(1, 4), long_side=(40, 140), side=160)
    measured = {"together": together, "instance": instance, "prompt": prompt}[args.what](segmenter, world, args)
    print(", ".join(f"{name} {value:.1f}" for name, value in measured.items()))
    return measured


def together(segmenter: Segmenter, world: StickerWorld, args: argparse.Namespace) -> dict[str, float]:
    """MIoU of names that one example shows together, painted in one pass each and in one for all."""
    scores = {name: EpisodeScores(dict(enumerate(world.vocabulary.names))) for name in ("one by one", "together")}
    labels = labels_of(world, args.side)
    pairs = sharing(world, labels, args)
    for example, query in tqdm((next(pairs) for _ in range(args.episodes)), total=args.episodes, disable=None):
        names = {key: str(key) for key in example.shown().tolist()}
        given = Example.of_masks(example.image, [(name, example.mask(key)) for key, name in names.items()])
        for name, score in scores.items():
            found = segmenter(query.image, [given], together=name == "together")
            for key, said in names.items():
                score.add(key, mask_of(found, said), query.mask(key))
    return {f"mIoU {name}": 100 * score.result()["mIoU"] for name, score in scores.items()}


def sharing(
    world: StickerWorld, labels: np.ndarray, args: argparse.Namespace
) -> Iterator[tuple[SegmentedPicture, SegmentedPicture]]:
    """Endless pairs of scenes that show the same two or three names, and of these nothing else."""
    for index in count():
        rng = scene_generator(args.stream, 7, index)
        cast = rng.choice(labels, 3, replace=False).tolist()
        scenes = [CastWorld(world, cast[0], None, cast).draw(rng) for _ in range(2)]
        pictures = [segmented(scene, np.ones(len(scene.labels), bool)) for scene in scenes]
        common = np.intersect1d(*(picture.shown(LEAST) for picture in pictures))
        if len(common) > 1:
            one, other = (segmented(scene, np.isin(scene.labels, common)) for scene in scenes)
            yield one, other


def instance(segmenter: Segmenter, world: StickerWorld, args: argparse.Namespace) -> dict[str, float]:
    """MIoU of the drawing that is meant, and share of scenes in which the other one is marked, in both modes."""
    modes = ("instance", "semantic")
    scores = {mode: EpisodeScores(dict(enumerate(world.vocabulary.names))) for mode in modes}
    marked = dict.fromkeys(modes, 0)
    pairs = twos(world, args)
    for label, example, image, meant, other in tqdm((next(pairs) for _ in range(args.episodes)), total=args.episodes):
        for mode in modes:
            found = mask_of(segmenter(image, [example], mode=mode), "thing")
            scores[mode].add(label, found, meant)
            marked[mode] += bool(found[other].mean() > 0.5)
    measured = {f"mIoU {mode}": 100 * scores[mode].result()["mIoU"] for mode in modes}
    return measured | {f"other one marked, {mode} %": 100 * marked[mode] / args.episodes for mode in modes}


def twos(
    world: StickerWorld, args: argparse.Namespace
) -> Iterator[tuple[int, Example, np.ndarray, np.ndarray, np.ndarray]]:
    """Endless (label, example of a drawing, another scene, (H, W) bool of that drawing in it, of another one)."""
    labels = labels_of(world, args.side)
    for index in count():
        rng = scene_generator(args.stream, 8, index)
        label, other = rng.choice(labels, 2, replace=False).tolist()
        drawings = two_drawings(rng, world, label)
        if len(drawings) < 2:
            continue
        scenes = [cast_of_two(world, label, drawings, other).draw(rng) for _ in range(2)]
        masks = [
            [scene.masks[[s == drawing for s in scene.sprites]].any(axis=0) for drawing in drawings] for scene in scenes
        ]
        if min(mask.sum() for both in masks for mask in both) >= LEAST:
            yield label, Example.from_mask(scenes[0].image, masks[0][0]), scenes[1].image, *masks[1]


def prompt(segmenter: Segmenter, world: StickerWorld, args: argparse.Namespace) -> dict[str, float]:
    """MIoU of the names of a tuned prompt: by the prompt, and by 1 and 8 examples of each, a pass a name."""
    tuned = segmenter.learn_tuned(args.prompt)
    queries = StickerClasses(world, tuned.names, args.episodes, 9, args.stream)
    shown = StickerClasses(world, tuned.names, 8 * len(tuned.names), 10, args.stream)
    examples = [
        Example.from_mask(picture.image, picture.mask(key), name)
        for index, picture in enumerate(shown[place] for place in range(len(shown)))
        for key, name in [(index % len(tuned.names), tuned.names[index % len(tuned.names)])]
    ]
    prompts = {"tuned": tuned}
    prompts |= {f"{shots} examples": segmenter.learn(examples[: shots * len(tuned.names)]) for shots in (1, 8)}
    scores = {name: EpisodeScores(dict(enumerate(tuned.names))) for name in prompts}
    for index in tqdm(range(len(queries))):
        query = queries[index]
        for name, learned in prompts.items():
            found = segmenter(query.image, learned)
            for key in query.shown(LEAST).tolist():
                scores[name].add(key, mask_of(found, tuned.names[key]), query.mask(key))
    return {f"mIoU {name}": 100 * score.result()["mIoU"] for name, score in scores.items()}


def labels_of(world: StickerWorld, side: str) -> np.ndarray:
    """Labels of base or novel names, or of all."""
    base = np.asarray(world.vocabulary.base_mask)[world.labels]
    labels: np.ndarray = world.labels[{"base": base, "novel": ~base, "all": base | ~base}[side]]
    return labels


def mask_of(found: Detections, name: str) -> np.ndarray:
    """(H, W) bool of one name's only mask; empty if it was not found."""
    for index, label in enumerate(found.labels):
        if found.class_names[label] == name:
            return found.mask(index)
    return np.zeros(found.size_hw, bool)


if __name__ == "__main__":
    sys.exit(run(main))
