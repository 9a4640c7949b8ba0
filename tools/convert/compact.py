"""Pack a trained detector into a file of a quarter of its size, and say what that changes.

python tools/convert/compact.py work_dirs/stickers_75_25_ensemble/iter_1500.pth stickers.safetensors --score 0.3
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from ovdet.data.stickers.curation import TRAIN_STYLES
from ovdet.data.stickers.sprites import SpritePack
from ovdet.detector import load_picture
from ovdet.errors import InputError
from ovdet.results import Detections
from ovdet.vild.predict import ViLDDetector
from ovdet.vild.weights import save_compact
from ovdet.vlm.zoo import create_vlm

DEMO = Path(__file__).parents[2] / "demo" / "stickers"
ATTRIBUTION = ("author", "url", "licence", "licence_url", "package", "version")
LEAST_COSINE = 0.98
"""Between a name's vectors by the tower of the training and by the shipped one, or they are different towers."""


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; 0, or 2 with one sentence on stderr."""
    usage, example = __doc__.splitlines()[0], __doc__.splitlines()[2]
    parser = argparse.ArgumentParser(description=usage, epilog=example, allow_abbrev=False)
    add = parser.add_argument
    add("source", type=Path, help="checkpoint of tools/train.py")
    add("target", type=Path, help="file to write (.safetensors)")
    add("--score", type=float, metavar="S", help="default score threshold, 0 to 1 (default: the checkpoint's own)")
    add("--crops", type=float, metavar="T", help="let the text tower name crops of the boxes, at temperature T")
    add("--training", default="", metavar="TEXT", help="how it was trained, for the file's own record")
    add("--pack", type=Path, metavar="DIR", help="sprite pack trained on: its artists are named in the file")
    add("--grounds", type=Path, metavar="DIR", help="photographs trained on: their licences.json goes into the file")
    add("--pictures", type=Path, nargs="+", metavar="FILE", help=f"to compare on (default: {DEMO.name}/*.png of demo/)")
    chosen = parser.parse_args(arguments)
    try:
        for line in convert(chosen):
            print(line)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def convert(chosen: argparse.Namespace) -> list[str]:
    """Pack with the shipped text tower, read again and compare; returns lines that say what came out."""
    about = {"licence": "Apache-2.0", "training": chosen.training, **attribution(chosen.pack, chosen.grounds)}
    before = ViLDDetector.load(chosen.source)
    if chosen.crops is not None:
        before = named_by_crops(before, chosen.crops)
    tower = create_vlm(before.text_tower.spec.name)
    names = list(before.facts.class_names)
    if not names:
        raise InputError(f"{chosen.source} names no classes to compare on")
    cosine = float((before.embed(names) * ViLDDetector(before.model, tower, before.facts).embed(names)).sum(1).min())
    if cosine < LEAST_COSINE:
        raise InputError(
            f"{chosen.source} was trained with another {tower.spec.name!r} than this ovdet ships: the vectors of its "
            f"names agree to {cosine:.3f} at worst; ship its text tower first"
        )
    score = before.facts.score_threshold if chosen.score is None else chosen.score
    if not 0 <= score <= 1:
        raise InputError(f"--score must be from 0 to 1, got {score}")
    facts = replace(
        before.facts, text_tower={"name": tower.spec.name, "fingerprint": tower.fingerprint}, score_threshold=score
    )
    save_compact(before.model, facts, chosen.target, about)
    after = ViLDDetector.load(chosen.target)
    before.facts = replace(before.facts, score_threshold=score)
    was, size_mb = (path.stat().st_size / 1e6 for path in (chosen.source, chosen.target))
    size = f"{chosen.target}: {size_mb:.2f} MB, the checkpoint {was:.2f} MB"
    words = f"names: lowest cosine with the vectors of the training's text tower {cosine:.4f}"
    return [size, words, compare(before, after, names, chosen.pictures or sorted(DEMO.glob("*.png")))]


def named_by_crops(detector: ViLDDetector, temperature: float) -> ViLDDetector:
    """The same boxes and masks, named by the text tower's picture side on crops.

    Raises:
        InputError: the detector is of another builder, or the temperature is not above 0.
    """
    if detector.facts.builder != "vild_stickers" or not temperature > 0:
        raise InputError("--crops is for detectors of vild_stickers, with a temperature above 0")
    kept = ("variant", "embed_dim", "with_mask", "score_thr", "max_per_img", "closed_classes", "mean", "std")
    kept += ("fine_masks", "mask_threshold")
    arguments = {key: value for key, value in detector.facts.arguments.items() if key in kept}
    facts = replace(detector.facts, builder="vild_stickers_crops", arguments={**arguments, "temperature": temperature})
    model = facts.build()
    model.load_state_dict(detector.model.state_dict(), strict=True)
    return ViLDDetector(model.eval(), detector.text_tower, facts)


def attribution(pack: Path | None, grounds: Path | None) -> dict[str, Any]:
    """Who made what was trained on.

    Raises:
        InputError: the pack or the record of licences cannot be read.
    """
    found: dict[str, Any] = {}
    if pack is not None:
        records = SpritePack(pack).records
        found["drawings"] = {style: {key: records[style][key] for key in ATTRIBUTION} for style in TRAIN_STYLES}
    if grounds is not None:
        try:
            rows = json.loads((grounds / "licences.json").read_bytes())
            found["photographs"] = [row for row in rows if row["file"].startswith("training/")]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{grounds} has no licences.json that can be read ({error})") from error
    return found


def compare(before: ViLDDetector, after: ViLDDetector, names: Sequence[str], pictures: Sequence[Path]) -> str:
    """What packing changed in the detections of some pictures, in one line."""
    if not pictures:
        return "no pictures to compare detections on"
    images = [load_picture(path) for path in pictures]
    ours, theirs = (each.predict(images, names, each.embed(names), masks=False) for each in (before, after))
    total = sum(map(len, ours))
    changes = [change for one, two in zip(ours, theirs, strict=True) for change in score_changes(one, two)]
    largest = f", scores change by at most {max(changes):.3f}, {np.mean(changes):.4f} on average" if changes else ""
    found = f"{len(changes)} of {total} detections are found again with the same name (IoU 0.9)"
    return f"{len(pictures)} pictures: {found}, {sum(map(len, theirs))} in all{largest}"


def score_changes(before: Detections, after: Detections) -> list[float]:
    """Change of score of every detection that is found again: same name, IoU of 0.9 and more."""
    overlaps = box_iou(torch.from_numpy(before.boxes_xyxy), torch.from_numpy(after.boxes_xyxy)).numpy()  # (n, m)
    alike = (overlaps >= 0.9) & (before.labels[:, None] == after.labels[None])
    rows = np.flatnonzero(alike.any(axis=1))
    return [
        float(abs(before.scores[row] - after.scores[np.where(alike[row], overlaps[row], -1).argmax()])) for row in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
