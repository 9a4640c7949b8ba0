"""Data sets as sources of contexts, by what a config can say: paths, kinds and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ovdet.data.coco_segments import CocoSegments, PanopticSegments
from ovdet.data.contexts import PictureContexts
from ovdet.data.davis import ClipFrames, clip_folders, davis_2017, youtube_vos
from ovdet.data.label_maps import ade20k, label_folders, pascal_voc
from ovdet.errors import InputError

CLIPS = {"davis": davis_2017, "youtube-vos": youtube_vos, "folders": clip_folders}
"""Layouts of video data sets."""


def coco_contexts(
    ann_file: str, images: str, kind: str = "semantic", same_picture: float | None = None, cut_parts: bool = False
) -> PictureContexts:
    """Any COCO-format folder: COCO, LVIS, PACO (its parts are categories), iSAID, one's own."""
    return PictureContexts(CocoSegments(ann_file, images), kind, same_picture, cut_parts=cut_parts)


def panoptic_contexts(
    ann_file: str, maps: str, images: str, kind: str = "semantic", same_picture: float | None = None
) -> PictureContexts:
    """COCO panoptic, as classes or as instances."""
    return PictureContexts(PanopticSegments(ann_file, maps, images), kind, same_picture)


def ade20k_contexts(root: str, part: str = "training", same_picture: float | None = None) -> PictureContexts:
    """ADE20K's 150 classes."""
    return PictureContexts(ade20k(root, part), "semantic", same_picture)


def voc_contexts(
    root: str, part: str = "train_aug", maps: str = "SegmentationClassAug", same_picture: float | None = None
) -> PictureContexts:
    """Pascal VOC's 20 classes."""
    return PictureContexts(pascal_voc(root, part, maps), "semantic", same_picture)


def folder_contexts(
    images: str,
    maps: str,
    classes: Sequence[str] | int,
    kind: str = "semantic",
    same_picture: float | None = None,
    first_label: int = 0,
    nothing: Sequence[int] = (),
    ignored: Sequence[int] = (255,),
    images_end: str = "",
    maps_end: str = "",
) -> PictureContexts:
    """Two folders of photographs and label pictures; see `label_folders`. Annotated parts have the kind "part"."""
    source = label_folders(images, maps, classes, first_label, nothing, ignored, images_end, maps_end)
    return PictureContexts(source, kind, same_picture)


def clip_contexts(root: str, layout: str = "davis", same_picture: float = 0.3, **arguments: str) -> PictureContexts:
    """Frames of clips, an object in one as the context of the same object in another.

    Raises:
        InputError: there is no such layout.
    """
    if layout not in CLIPS:
        raise InputError(f"there is no layout of clips {layout!r}; choose one of {', '.join(CLIPS)}")
    frames = ClipFrames(CLIPS[layout](root, **arguments))
    return PictureContexts(frames, "instance", same_picture, same_objects=True)
