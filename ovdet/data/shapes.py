"""Generated pictures: coloured shapes with names, boxes and exact masks, as a COCO folder. For tests and first steps.

What is drawn is what is annotated: a mask holds the pixels of its shape that no later shape covers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ovdet.errors import InputError
from ovdet.files import write_whole
from ovdet.ops.masks import areas, boxes_xyxy_of_masks, encode_masks

COLOURS = {"red": (214, 40, 40), "green": (56, 161, 60), "blue": (42, 92, 214)}
FORMS = ("circle", "square", "triangle")
NOVEL = ("green circle", "blue square", "red triangle")
"""Each colour and each form is seen in training, but these three pairings are not."""
NAMES = tuple(f"{colour} {form}" for form in FORMS for colour in COLOURS)
MIN_VISIBLE = 0.5
"""A shape of which less is left to see is not drawn at all."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One generated picture.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, the visible pixels of each shape; they do not overlap.
        labels: (N,) int64, each an index into `NAMES`.
    """

    image: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


def draw_scene(rng: np.random.Generator, size_hw: tuple[int, int], max_shapes: int = 4) -> Scene:
    """Draw one to `max_shapes` shapes on a grey, slightly noisy ground.

    Args:
        rng: source of all randomness.
        size_hw: of the picture, each side at least 32 pixels.
        max_shapes: as wanted; fewer where they would hide each other.
    """
    height, width = size_hw
    ground = rng.integers(90, 200) + rng.normal(0, 6, (height, width, 3))  # (H, W, 3)
    image = ground.clip(0, 255).astype(np.uint8)
    masks: list[np.ndarray] = []
    whole: list[int] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, max_shapes + 1))):
        label = int(rng.integers(len(NAMES)))
        colour, form = NAMES[label].split()
        shape = _shape_mask(rng, form, size_hw)  # (H, W)
        visible = [mask & ~shape for mask in masks]
        if any(mask.sum() < MIN_VISIBLE * area for mask, area in zip(visible, whole, strict=True)):
            continue
        masks = [*visible, shape]
        whole.append(int(shape.sum()))
        labels.append(label)
        shade = np.asarray(COLOURS[colour]) + rng.integers(-25, 26, 3) + rng.normal(0, 6, (int(shape.sum()), 3))
        image[shape] = shade.clip(0, 255).astype(np.uint8)
    return Scene(image, np.stack(masks), np.asarray(labels, dtype=np.int64))


def write_shapes(out: str | Path, images: int, seed: int = 0, side: int = 128) -> Path:
    """Write a COCO folder: `images/` and `annotations.json`, whose categories state base or novel.

    Args:
        out: folder, made where it is missing; one that holds annotations already is refused.
        images: how many pictures.
        seed: equal seeds give equal folders.
        side: of the pictures is drawn from 3/4 to 5/4 of this, in pixels.

    Returns:
        Path of the annotation file.

    Raises:
        InputError: there is a data set in the folder already, or a number makes no sense.
    """
    out = Path(out)
    if images < 1 or side < 44:
        raise InputError(f"images must be at least 1 and side at least 44 pixels, got {images} and {side}")
    path = out / "annotations.json"
    if path.exists():
        raise InputError(f"{path} exists already; choose another folder or remove it")
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror or error}") from error
    rows: list[dict] = []
    pictures = []
    for index in range(images):
        rng = np.random.default_rng((seed, index))
        size_hw = (int(rng.integers(side * 3 // 4, side * 5 // 4)), int(rng.integers(side * 3 // 4, side * 5 // 4)))
        scene = draw_scene(rng, size_hw)
        file_name = f"{index:06d}.png"
        Image.fromarray(scene.image).save(out / "images" / file_name)
        pictures.append({"id": index + 1, "file_name": file_name, "height": size_hw[0], "width": size_hw[1]})
        rows += _annotations(scene, image_id=index + 1, first_id=len(rows) + 1)
    categories = [
        {"id": label + 1, "name": name, "split": "novel" if name in NOVEL else "base"}
        for label, name in enumerate(NAMES)
    ]
    write_whole(path, json.dumps({"images": pictures, "annotations": rows, "categories": categories}).encode())
    return path


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict]:
    """COCO rows of one scene: run-length masks, tight boxes."""
    rles = encode_masks(scene.masks)
    rows = []
    for index, (box, rle) in enumerate(zip(boxes_xyxy_of_masks(scene.masks).tolist(), rles, strict=True)):
        left, top, right, bottom = box
        rows.append(
            {
                "id": first_id + index,
                "image_id": image_id,
                "category_id": int(scene.labels[index]) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": int(areas([rle])[0]),
                "segmentation": rle,
                "iscrowd": 0,
            }
        )
    return rows


def _shape_mask(rng: np.random.Generator, form: str, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of one shape at a random place, its side a sixth to a half of the picture's short side."""
    height, width = size_hw
    short = min(size_hw)
    side = int(rng.integers(short // 6, short // 2 + 1))
    left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    right, bottom = left + side, top + side
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    if form == "circle":
        draw.ellipse((left, top, right, bottom), fill=1)
    elif form == "square":
        draw.rectangle((left, top, right, bottom), fill=1)
    else:
        draw.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=1)
    return np.asarray(canvas)
