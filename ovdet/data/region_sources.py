"""Lines for pre-training out of annotation files: regions and captions (see regions.py and captions.py).

Regions (COCO's objects, Visual Genome's objects and regions, RefCOCO) are rows `{"elems": [...], "image_rpath": ...,
"image_id": ...}`, captions (COCO's, Karpathy's splits) `{"caption": [...], "image_rpath": ..., "image_id": ...}`. Each
function counts what it leaves out in a `Counter` by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ovdet.data.karpathy import CaptionedPicture
from ovdet.data.refcoco import Referral

Row = dict[str, Any]


def coco_objects(
    content: Mapping[str, Any], prefix: str = "", *, without: Collection[int] = (), left_out: Counter[str] | None = None
) -> Iterator[Row]:
    """A COCO annotation file's objects, each said by its category's name.

    Args:
        content: of the file, as `ovdet.data.coco.read_annotations` gives it.
        prefix: folder before file names.
        without: ids of pictures to leave out (RefCOCO's tests).
        left_out: counts what is not used.
    """
    left_out = Counter() if left_out is None else left_out
    names = {row["id"]: row["name"] for row in content["categories"]}
    sizes = {row["id"]: (row["width"], row["height"]) for row in content["images"]}
    elements: dict[int, list[Row]] = {}
    for row in content["annotations"]:
        if row.get("iscrowd"):
            left_out["crowd"] += 1
        elif row["image_id"] not in sizes:
            left_out["object of an unknown picture"] += 1
        else:
            element = _element(names[row["category_id"]], row["bbox"], sizes[row["image_id"]], left_out)
            if element:
                elements.setdefault(row["image_id"], []).append(element)
    for image in content["images"]:
        yield from _row(image["id"], f"{prefix}{image['file_name']}", elements.get(image["id"], []), without, left_out)


def genome_objects(
    objects: Iterable[Mapping[str, Any]],
    images: Iterable[Mapping[str, Any]],
    attributes: Iterable[Mapping[str, Any]] = (),
    *,
    without: Collection[int] = (),
    left_out: Counter[str] | None = None,
) -> Iterator[Row]:
    """Visual Genome's `objects.json`, with attributes where `attributes.json` has some for the object.

    Args:
        objects: pictures with "image_id" and "objects" (x, y, w, h, names, object_id).
        images: `image_data.json` (image_id, width, height, url, coco_id).
        attributes: pictures with "attributes" (object_id, attributes).
        without: COCO ids of pictures to leave out.
        left_out: counts what is not used.
    """
    left_out = Counter() if left_out is None else left_out
    pictures = {row["image_id"]: row for row in images}
    said = {
        (picture["image_id"], one["object_id"]): one["attributes"]
        for picture in attributes
        for one in picture["attributes"]
        if one.get("attributes")
    }
    for picture in objects:
        facts = pictures.get(picture["image_id"])
        if facts is None:
            left_out["picture without data"] += 1
            continue
        found = []
        for one in picture["objects"]:
            names = [name for name in one.get("names", ()) if name.strip()]
            element = _element(names, (one["x"], one["y"], one["w"], one["h"]), _size(facts), left_out)
            if element:
                words = said.get((picture["image_id"], one.get("object_id")))
                found.append(element | ({"attributes": words} if words else {}))
        yield from _genome_row(facts, found, without, left_out)


def genome_regions(
    regions: Iterable[Mapping[str, Any]],
    images: Iterable[Mapping[str, Any]],
    *,
    without: Collection[int] = (),
    left_out: Counter[str] | None = None,
) -> Iterator[Row]:
    """Visual Genome's `region_descriptions.json`: phrases of regions.

    Args:
        regions: pictures with "id" and "regions" (image_id, x, y, width, height, phrase).
        images: `image_data.json`.
        without: COCO ids of pictures to leave out.
        left_out: counts what is not used.
    """
    left_out = Counter() if left_out is None else left_out
    pictures = {row["image_id"]: row for row in images}
    for picture in regions:
        facts = pictures.get(picture["id"])
        if facts is None:
            left_out["picture without data"] += 1
            continue
        found = []
        for one in picture["regions"]:
            box = (one["x"], one["y"], one["width"], one["height"])
            element = _element(one["phrase"], box, _size(facts), left_out)
            if element:
                found.append(element)
        yield from _genome_row(facts, found, without, left_out)


def referrals(
    rows: Iterable[Referral], prefix: str = "", *, without: Collection[int] = (), left_out: Counter[str] | None = None
) -> Iterator[Row]:
    """RefCOCO's objects with all that was said of each (give it training sentences alone)."""
    left_out = Counter() if left_out is None else left_out
    by_picture: dict[int, dict[int, list[Referral]]] = {}
    for one in rows:
        by_picture.setdefault(one.image_id, {}).setdefault(one.ref_id, []).append(one)
    for image_id, objects in by_picture.items():
        found = []
        for said in objects.values():
            height, width = said[0].size_hw
            element = _element([one.text for one in said], said[0].box_xywh, (width, height), left_out)
            if element:
                found.append(element)
        file_name = next(iter(objects.values()))[0].file_name
        yield from _row(image_id, f"{prefix}{file_name}", found, without, left_out)


def coco_captions(
    pictures: Iterable[Mapping[str, Any]],
    captions: Iterable[Mapping[str, Any]],
    prefix: str = "",
    *,
    without: Collection[int] = (),
    left_out: Counter[str] | None = None,
) -> Iterator[Row]:
    """COCO's `captions_train2014.json`: a row for each picture, with all its captions.

    Args:
        pictures: its "images" (id, file_name).
        captions: its "annotations" (image_id, caption).
        prefix: folder before file names.
        without: ids of pictures to leave out.
        left_out: counts what is not used.
    """
    left_out = Counter() if left_out is None else left_out
    known = {row["id"]: row["file_name"] for row in pictures}
    said: dict[int, list[str]] = {}
    for row in captions:
        if row["image_id"] not in known:
            left_out["caption of an unknown picture"] += 1
        else:
            said.setdefault(row["image_id"], []).append(row["caption"])
    found = (CaptionedPicture(name, tuple(said.get(key, ())), key) for key, name in known.items())
    yield from captioned(found, prefix, without=without, left_out=left_out)


def captioned(
    pictures: Iterable[CaptionedPicture],
    prefix: str = "",
    *,
    without: Collection[int] = (),
    left_out: Counter[str] | None = None,
) -> Iterator[Row]:
    """Pictures with their captions, as of Karpathy's splits (give it those of training alone)."""
    left_out = Counter() if left_out is None else left_out
    for one in pictures:
        texts = [text for text in one.captions if text.strip()]
        left_out["no text"] += len(one.captions) - len(texts)
        if one.image_id in without:
            left_out["picture of a test"] += 1
        elif not texts:
            left_out["picture without a caption"] += 1
        else:
            yield {"caption": texts, "image_rpath": f"{prefix}{one.file_name}", "image_id": one.image_id}


def _element(
    text: str | Sequence[str], box_xywh: Sequence[float], size_wh: tuple[float, float], left_out: Counter[str]
) -> Row | None:
    """One element with its box cut at the picture's border; None where nothing is left to say or see."""
    said = text if isinstance(text, str) else list(text)
    if not said or (isinstance(said, str) and not said.strip()):
        left_out["no text"] += 1
        return None
    left, top = max(box_xywh[0], 0), max(box_xywh[1], 0)
    width = min(box_xywh[0] + box_xywh[2], size_wh[0]) - left
    height = min(box_xywh[1] + box_xywh[3], size_wh[1]) - top
    if int(width) < 1 or int(height) < 1:
        left_out["box without area inside the picture"] += 1
        return None
    caption = said[0] if not isinstance(said, str) and len(said) == 1 else said
    return {"caption": caption, "bb": [left, top, width, height]}


def _row(
    image_id: int, path: str, elements: list[Row], without: Collection[int], left_out: Counter[str]
) -> Iterator[Row]:
    if image_id in without:
        left_out["picture of a test"] += 1
    elif not elements:
        left_out["picture without a region"] += 1
    else:
        yield {"elems": elements, "image_rpath": path, "image_id": image_id}


def _size(facts: Mapping[str, Any]) -> tuple[float, float]:
    return facts["width"], facts["height"]


def _genome_row(
    facts: Mapping[str, Any], elements: list[Row], without: Collection[int], left_out: Counter[str]
) -> Iterator[Row]:
    """A row of Visual Genome; its pictures are left out by their COCO ids."""
    path = "/".join(str(facts["url"]).split("/")[-2:])
    coco_id = facts.get("coco_id")
    for row in _row(facts["image_id"] if coco_id is None else coco_id, path, elements, without, left_out):
        yield row | {"image_id": facts["image_id"]}
