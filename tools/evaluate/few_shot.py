"""One and few examples, judged: python tools/evaluate/few_shot.py pascal-5i --root data/VOC2012 --fold 0 --model M.

PASCAL-5i, COCO-20i, FSS-1000, LVIS-92i, one's own COCO-format folder, and the sticker world. Baselines that need no
training are judged on the same episodes in the same run. The result file carries its protocol; --episodes stores the
list of episodes, or reads it where it is there already.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ovdet.data.coco_segments import CocoSegments
from ovdet.data.episodes import EpisodeList, EpisodePictures, Episodes, read_episodes, write_episodes
from ovdet.data.fewshot import CocoClasses, FssPictures, class_episodes, coco_20i, fss_1000, lvis_92i, pascal_5i
from ovdet.data.label_maps import pascal_voc
from ovdet.data.stickers.episodes import StickerEpisodes, sticker_world
from ovdet.engine.launch import command_line, run
from ovdet.engine.protocol import file_digest, module_digest, write_result
from ovdet.errors import InputError
from ovdet.metrics.segmentation import EpisodeScores
from ovdet.seggpt.candidates import SURE_ENOUGH
from ovdet.seggpt.examples import Example, resize_labels
from ovdet.seggpt.postprocess import MaskRules
from ovdet.segmenter import Segmenter, weights_path
from ovdet.vlm.base import VLMBackbone
from ovdet.vlm.zoo import create_vlm

Answer = Callable[[EpisodePictures], np.ndarray | None]
"""(H, W) bool; None where nothing of any example's mask is left at the size of the network."""
FILES = ("pascal-5i", "coco-20i", "fss-1000", "lvis-92i", "own")
SPECK = 0.003
"""Of a picture's pixels: where the thing is absent, less than that does not count as a mark."""
BASELINES = ("everything", "histogram", "neighbours")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/evaluate/few_shot.py", description=__doc__.split("\n")[0])
    parser.add_argument("protocol", choices=(*FILES, "stickers"))
    parser.add_argument("--root", help="folder of the data set (pascal-5i, fss-1000)")
    parser.add_argument("--ann-file", help="COCO-format annotations (coco-20i, lvis-92i, own)")
    parser.add_argument("--images", help="folder of their pictures")
    parser.add_argument("--lists", help="published lists: pictures of the fold, or classes of FSS-1000")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--shots", type=int, default=1, help="examples of an episode (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="episodes (default: the protocol's own number; stickers: 1000)")
    parser.add_argument("--episodes", type=Path, metavar="FILE.json", help="list to write, or to read if it is there")
    parser.add_argument("--crowds", choices=("include", "ignore"), default="include", help="COCO's crowds")
    parser.add_argument("--split", default="75-25", help="stickers: of the names")
    streams = ("evaluation", "validation")
    parser.add_argument("--stream", choices=streams, default="evaluation", help="stickers: validation is for choices")
    parser.add_argument("--side", choices=("base", "novel", "all"), default="novel", help="stickers: names asked for")
    parser.add_argument("--styles", help="stickers: artist, such as twemoji (default: those of training)")
    parser.add_argument("--world-side", type=int, default=160, help="stickers: side of scenes in pixels (default: 160)")
    parser.add_argument("--objects", type=int, nargs=2, default=(1, 4), metavar="N", help="stickers: fewest and most")
    parser.add_argument("--long-side", type=float, nargs=2, default=(40, 140), metavar="PX", help="stickers: of things")
    parser.add_argument(
        "--absent", action="store_true", help="stickers: also count marks in pictures without the thing"
    )
    parser.add_argument("--model", help="segmenter, as `ovdet segment --model` takes it")
    parser.add_argument(
        "--baseline", choices=BASELINES, nargs="+", default=[], help="beside a model, or instead of one"
    )
    parser.add_argument("--neighbours-of", default="sticker-clip", metavar="NAME", help="zoo backbone that is matched")
    parser.add_argument("--neighbours-scale", type=float, default=2, metavar="F", help="enlarge pictures for it")
    parser.add_argument("--ensemble", choices=("feature", "spatial"), default="feature")
    parser.add_argument("--mode", choices=("semantic", "instance"), default="semantic")
    parser.add_argument("--candidates", choices=("detect",), help="masks of a detector that fit, instead of all paint")
    parser.add_argument("--detector", help="that finds candidates (default: suits the model's name)")
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="also look at examples and pictures in the mirror (default: as `ovdet segment` does with this model)",
    )
    parser.add_argument("--threshold", type=float, help="of the soft mask, or of a candidate's score")
    parser.add_argument("--scoring-size", type=int, help="side of the square to score at (default: the query's size)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result here")
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate as the arguments say; gives the metrics in percent."""
    args = build_parser().parse_args(argv)
    if args.model is None and not args.baseline:
        raise InputError("give --model, --baseline or both")
    if args.episodes and args.protocol == "stickers":
        raise InputError("--episodes is not for stickers; --seed, --stream and --count say which episodes they are")
    if args.absent and args.protocol != "stickers":
        raise InputError("--absent is for stickers; other protocols have no pictures that are known to lack the thing")
    episodes, names, data = open_stickers(args) if args.protocol == "stickers" else open_files(args)
    answers, facts = open_answers(args)
    size_hw = (args.scoring_size,) * 2 if args.scoring_size else None
    scores = {name: EpisodeScores(names, size_hw) for name in answers}
    marked = dict.fromkeys(answers if args.absent else (), 0)
    unusable = 0
    for index in tqdm(range(len(episodes)), unit="episode", disable=None):
        episode = episodes[index]
        for name, answer in answers.items():
            found = answer(episode)
            if found is None:
                found, unusable = np.zeros(episode.truth.shape, bool), unusable + 1
            scores[name].add(episode.label, found, episode.truth, episode.judged)
        if isinstance(episodes, StickerEpisodes) and marked:
            lacking = replace(episode, query=episodes.without(index))
            for name in marked:
                found = answers[name](lacking)
                marked[name] += found is not None and found.mean() > SPECK
    first, *others = answers  # the model, if there is one
    metrics = {metric: 100 * value for metric, value in scores[first].result().items()}
    metrics |= {f"{name}/{metric}": 100 * value for name in others for metric, value in scores[name].result().items()}
    for name, count in marked.items():
        metrics[f"{name}/absent_marked" if name != first else "absent_marked"] = 100 * count / len(episodes)
    protocol = {**data, **facts, **scores[first].stamp, "episodes_without_usable_example": unusable}
    if args.out:
        stamp = {"command": command_line(argv, "evaluate/few_shot")}
        detail = {"per_class": scores[first].per_class(), "protocol": protocol, "evaluator": "ovdet"}
        write_result(args.out, metrics, detail, stamp)
    print(", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
    return metrics


def open_files(args: argparse.Namespace) -> tuple[Episodes, dict[int, str], dict[str, Any]]:
    """Episodes of a data set on disk, its names, and what the protocol says of them."""
    wanted = ("root",) if args.protocol in ("pascal-5i", "fss-1000") else ("ann_file", "images")
    for field in wanted:
        if getattr(args, field) is None:
            raise InputError(f"{args.protocol} needs --{field.replace('_', '-')}")
    stored = read_episodes(args.episodes) if args.episodes and args.episodes.exists() else None
    more = {"seed": args.seed} | ({"count": args.count} if args.count else {})
    if args.protocol == "pascal-5i":
        pictures: Any = pascal_voc(args.root, part="" if args.lists else "val")
        found = stored or pascal_5i(pictures, args.fold, args.shots, args.lists, **more)
    elif args.protocol == "fss-1000":
        if args.lists is None and stored is None:
            raise InputError("fss-1000 needs --lists, the file with the names of the test classes")
        pictures = FssPictures(args.root)
        found = stored or fss_1000(args.root, args.lists, args.shots, seed=args.seed)
    else:
        segments = CocoSegments(args.ann_file, args.images)
        pictures = CocoClasses(segments, args.crowds)
        found = stored or coco_episodes(args, segments, more)
    check_stored(args, found)
    if args.episodes and stored is None:
        write_episodes(args.episodes, found)
    stamp = {**found.stamp, "crowds": args.crowds} if args.protocol in ("coco-20i", "lvis-92i", "own") else found.stamp
    return Episodes(found, pictures), found.names, stamp


def coco_episodes(args: argparse.Namespace, segments: CocoSegments, more: dict[str, int]) -> EpisodeList:
    """Episodes of a COCO-format file."""
    if args.protocol == "coco-20i":
        return coco_20i(segments, args.fold, args.shots, args.lists, **more)
    if args.protocol == "lvis-92i":
        return lvis_92i(segments, args.fold, args.shots, **more)
    shown = sorted({key for index in range(len(segments)) for key in segments.keys_of(index)})
    return class_episodes(segments, shown, args.shots, **more)


def check_stored(args: argparse.Namespace, found: EpisodeList) -> None:
    """Refuse a list of another protocol, fold or number of examples."""
    for field, mine in (("protocol", args.protocol), ("fold", args.fold), ("shots", args.shots)):
        if getattr(found, field) != mine:
            raise InputError(f"{args.episodes} is of {field} {getattr(found, field)!r}, asked for is {mine!r}")


def open_stickers(args: argparse.Namespace) -> tuple[StickerEpisodes, dict[int, str], dict[str, Any]]:
    """Episodes of the sticker world, in scenes that training never draws, from a stream of their own."""
    size = dict(side=args.world_side, objects=args.objects, long_side=args.long_side)
    world = sticker_world(args.split, args.stream, args.styles, **size)
    episodes = StickerEpisodes(world, args.count or 1000, args.shots, args.seed, stream=args.stream, side=args.side)
    names = {int(label): world.vocabulary.names[label] for label in episodes.labels}
    stamp = {
        "data": "stickers",
        "split": args.split,
        "names": args.side,
        "styles": list(world.styles),
        "stream": args.stream,
        "size_hw": list(world.config.size_hw),
        "objects": list(world.config.objects),
        "long_side": list(world.config.long_side),
        "pack": world.pack.digest,
        "shots": args.shots,
        "seed": args.seed,
        "episodes": len(episodes),
    }
    return episodes, names, stamp


def open_model(args: argparse.Namespace) -> tuple[Answer, dict[str, Any]]:
    """SegGPT with its examples joined, and what the protocol says of it."""
    segmenter = Segmenter(args.model, args.device, detector=args.detector, mirror=args.mirror)
    usual = SURE_ENOUGH if args.candidates else segmenter.desk.threshold
    threshold = usual if args.threshold is None else args.threshold
    rules = MaskRules(threshold)

    def answer(episode: EpisodePictures) -> np.ndarray | None:
        size_hw = segmenter.desk.model.config.picture_hw
        pairs = [pair for pair in episode.examples if resize_labels(pair[1].astype(np.int32), size_hw).any()]
        if not pairs:
            return None
        examples = [Example.from_mask(picture, mask) for picture, mask in pairs]
        prompt = segmenter.learn(examples, mode=args.mode, ensemble=args.ensemble, candidates=args.candidates)
        found = segmenter(episode.query, prompt, rules=rules)
        return found.masks[0] if len(found) else np.zeros(episode.query.shape[:2], bool)

    mirror = bool(args.mirror) if args.candidates or args.mirror is not None else segmenter.desk.mirror
    facts = {"mode": args.mode, "ensemble": args.ensemble, "mirror": mirror, "candidates": args.candidates}
    if args.candidates:
        facts["detector"] = segmenter.detector.name
    facts |= {"threshold": threshold, "mask_colour": "white"}
    return answer, {"model": Path(args.model).name, "weights_sha256": file_digest(weights_path(args.model)), **facts}


def open_answers(args: argparse.Namespace) -> tuple[dict[str, Answer], dict[str, Any]]:
    """Who answers, the model first if there is one, and what the protocol says of them."""
    answers: dict[str, Answer] = {}
    facts: dict[str, Any] = {"model": f"baseline: {args.baseline[0]}"} if args.baseline else {}
    if args.model:
        answers["model"], facts = open_model(args)
    for name in args.baseline:
        if name == "neighbours":
            matcher = Neighbours(create_vlm(args.neighbours_of, device=args.device), args.neighbours_scale)
            answers[name] = matcher
            facts["neighbours"] = {
                "backbone": args.neighbours_of,
                "weights_sha256": module_digest(matcher.backbone),
                "scale": args.neighbours_scale,
            }
        else:
            answers[name] = by_histogram if name == "histogram" else mark_everything
    return answers, facts


def mark_everything(episode: EpisodePictures) -> np.ndarray:
    """Every pixel."""
    return np.ones(episode.truth.shape, bool)


def by_histogram(episode: EpisodePictures) -> np.ndarray:
    """Back-projection: pixels of colours that are likelier in the examples' things than around them."""
    shares = []
    for inside in (True, False):
        counts = np.ones((8, 8, 8), np.float64)
        for picture, mask in episode.examples:
            chosen = picture[mask == inside] >> 5
            np.add.at(counts, tuple(chosen.T.astype(np.int64)), 1)
        shares.append(counts / counts.sum())
    likely = (shares[0] / (shares[0] + shares[1])).astype(np.float32)
    soft = likely[tuple((episode.query >> 5).transpose(2, 0, 1).astype(np.int64))]
    return cv2.GaussianBlur(soft, (0, 0), 2.0) > 0.5


class Neighbours:
    """Nearest-neighbour matching: a place belongs to the thing if the place most like it in the examples does.

    Args:
        backbone: whose map of the picture is matched, by cosines.
        scale: pictures are enlarged by it, since maps are coarse.
    """

    def __init__(self, backbone: VLMBackbone, scale: float) -> None:
        self.backbone, self.scale = backbone, scale

    def __call__(self, episode: EpisodePictures) -> np.ndarray:
        """The mask of an episode."""
        query = self.features(episode.query)
        best = {True: torch.full(query.shape[1:], -2.0), False: torch.full(query.shape[1:], -2.0)}
        for picture, mask in episode.examples:
            features = self.features(picture)
            share = cv2.resize(mask.astype(np.float32), features.shape[:0:-1], interpolation=cv2.INTER_AREA)
            inside = torch.from_numpy(share >= min(0.5, share.max()))  # the fullest place of a small thing
            for side in best:
                if (inside == side).any():
                    alike = torch.einsum("dhw,dn->hwn", query, features[:, inside == side]).amax(dim=2)
                    best[side] = best[side].maximum(alike)
        surer = (best[True] - best[False]).numpy()
        return cv2.resize(surer, episode.truth.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0

    @torch.no_grad()
    def features(self, picture: np.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 -> (D, h, w) of unit length."""
        sides = (max(1, round(picture.shape[1] * self.scale)), max(1, round(picture.shape[0] * self.scale)))
        large = cv2.resize(picture, sides, interpolation=cv2.INTER_LINEAR)
        pixels = torch.from_numpy(large).to(self.backbone.mean.device).permute(2, 0, 1)[None].float() / 255
        return self.backbone.forward_dense(pixels)[0].cpu()


if __name__ == "__main__":
    sys.exit(run(main))
