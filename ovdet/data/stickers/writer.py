"""Scenes on disk: a COCO-format data set with captions, texts of regions and expressions beside it.

Written in blocks: a run that was killed goes on where it stopped, and the same arguments give the same files.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ovdet.data.stickers.dataset import StickerScenes, scene_texts
from ovdet.errors import InputError
from ovdet.files import write_whole
from ovdet.ops.masks import areas, encode_masks

BLOCK = 100
"""Pictures that are lost at most when a run is killed."""
TEXT_FILES = ("captions", "regions", "expressions")
_MAX_THINGS = 1000


def write_coco(out: str | Path, scenes: StickerScenes, *, progress: bool = False) -> Path:
    """Write a data set.

    `OUT/images/*.png`, `OUT/annotations.json` (COCO; categories state "base" or "novel"), `OUT/captions.jsonl`,
    `OUT/regions.jsonl` and `OUT/expressions.jsonl` (one text a line, with `image_id`, `annotation_ids` and `bbox` as
    x, y, width, height), `OUT/splits.json` (names by split). Novel things of `base_only` scenes are in the pictures
    but in no file; a scene with nothing to give away has no caption.

    Args:
        out: folder, made where it is missing.
        scenes: what to write, all of it.
        progress: show a bar.

    Returns:
        Path of the annotation file.

    Raises:
        InputError: a data set is there already, an unfinished one was made with other arguments, or the folder cannot
            be written.
    """
    out = Path(out)
    plan = _plan(scenes)
    path, parts = out / "annotations.json", out / ".parts"
    if path.exists():
        raise InputError(f"{path} exists already; choose another folder or remove it")
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        parts.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror or error}") from error
    _check_plan(parts / "plan.json", plan)
    with tqdm(total=len(scenes), unit="scene", disable=not progress) as bar:
        for start in range(0, len(scenes), BLOCK):
            stop = min(start + BLOCK, len(scenes))
            part = parts / f"{start:08d}.json"
            if not part.exists():
                rows = [_write_scene(out, scenes, index) for index in range(start, stop)]
                write_whole(part, json.dumps(rows).encode())
            bar.update(stop - start)
    _join(out, scenes, plan)
    shutil.rmtree(parts)
    return path


def _plan(scenes: StickerScenes) -> dict[str, Any]:
    """All that the files depend on."""
    world = scenes.world
    return {
        "generator": "ovdet stickers 1",
        "images": len(scenes),
        "seed": scenes.seed,
        "stream": scenes.stream,
        "base_only": scenes.base_only,
        "split": world.vocabulary.split,
        "styles": list(world.styles),
        "grounds": [painter.__name__ for painter in world.grounds.painters],
        "photographs": [
            hashlib.sha256(np.ascontiguousarray(one)).hexdigest()[:16] for one in world.grounds.photographs
        ],
        "config": str(world.config),
        "pack": world.pack.digest,
        "licences": {style: world.pack.records[style]["licence"] for style in world.styles},
    }


def _check_plan(path: Path, plan: dict[str, Any]) -> None:
    """Leave the plan for the next run, or compare with what the last one left."""
    if not path.exists():
        write_whole(path, json.dumps(plan).encode())
        return
    before = json.loads(path.read_bytes())
    changed = [key for key in plan if before.get(key) != plan[key]]
    if changed:
        raise InputError(
            f"{path.parent.parent} holds an unfinished data set of another {changed[0]} ({before.get(changed[0])} "
            f"instead of {plan[changed[0]]}); repeat those arguments, or choose another folder"
        )


def _write_scene(out: Path, scenes: StickerScenes, index: int) -> dict[str, Any]:
    """Write one picture; its rows for the other files are returned."""
    scene = scenes.scene(index)
    shown = scenes.shown(scene)
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "PNG", compress_level=4)
    name = f"{index:08d}.png"
    write_whole(out / "images" / name, buffer.getvalue())
    height, width = scene.image.shape[:2]
    ids = [index * _MAX_THINGS + place + 1 for place in range(int(shown.sum()))]
    return {
        "image": {"id": index + 1, "file_name": name, "height": height, "width": width},
        "annotations": list(_annotations(scene, shown, index + 1, ids)),
        **_texts(scene_texts(scene, scenes.world, shown), index + 1, ids),
    }


def _annotations(scene: Any, shown: np.ndarray, image_id: int, ids: Sequence[int]) -> Iterable[dict[str, Any]]:
    """COCO rows: run-length masks, tight boxes; the style beside them."""
    places = np.flatnonzero(shown)
    rles = encode_masks(scene.masks[places])
    for annotation_id, place, rle in zip(ids, places, rles, strict=True):
        left, top, right, bottom = scene.boxes_xyxy[place].tolist()
        yield {
            "id": annotation_id,
            "image_id": image_id,
            "category_id": int(scene.labels[place]) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": int(areas([rle])[0]),
            "segmentation": rle,
            "iscrowd": 0,
            "style": scene.sprites[place].style,
        }


def _texts(texts: dict[str, Any], image_id: int, ids: Sequence[int]) -> dict[str, Any]:
    """Rows of the text files."""

    def rows(expressions: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            {
                "image_id": image_id,
                "annotation_ids": [ids[thing] for thing in one.things],
                "kind": one.kind,
                "text": one.text,
                "bbox": [
                    one.box_xyxy[0],
                    one.box_xyxy[1],
                    one.box_xyxy[2] - one.box_xyxy[0],
                    one.box_xyxy[3] - one.box_xyxy[1],
                ],
            }
            for one in expressions
        ]

    return {
        "captions": [{"image_id": image_id, "text": texts["caption"]}] if ids else [],
        "regions": rows(texts["regions"]),
        "expressions": rows(texts["expressions"]),
    }


def _join(out: Path, scenes: StickerScenes, plan: dict[str, Any]) -> None:
    """Make the files out of the blocks; the annotation file comes last, since it says that all is there."""
    blocks = [json.loads(path.read_bytes()) for path in sorted((out / ".parts").glob("[0-9]*.json"))]
    rows = [row for block in blocks for row in block]
    for field in TEXT_FILES:
        lines = [json.dumps(line, ensure_ascii=False) for row in rows for line in row[field]]
        write_whole(out / f"{field}.jsonl", "".join(f"{line}\n" for line in lines).encode())
    vocabulary = scenes.world.vocabulary
    sides = ["base" if flag else "novel" for flag in vocabulary.base_mask]
    splits = {
        side: [n for n, s in zip(vocabulary.names, sides, strict=True) if s == side] for side in ("base", "novel")
    }
    write_whole(out / "splits.json", json.dumps({vocabulary.split: splits}, indent=1).encode())
    content = {
        "info": plan,
        "images": [row["image"] for row in rows],
        "annotations": [annotation for row in rows for annotation in row["annotations"]],
        "categories": [
            {"id": label + 1, "name": concept.name, "supercategory": concept.group, "split": side}
            for label, (concept, side) in enumerate(zip(vocabulary.concepts, sides, strict=True))
        ],
    }
    write_whole(out / "annotations.json", json.dumps(content).encode())
