"""How the parts fit. A published model is a line of literal numbers here; checkpoints name these functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ovdet.errors import InputError
from ovdet.xvlm.config import TASKS, ImageSizes, SwinSizes, TextSizes, image_sizes, plain, text_sizes
from ovdet.xvlm.images import make_image_encoder
from ovdet.xvlm.model import JointSpace, XVLMModel, mlp_head
from ovdet.xvlm.small import PointedBox, Pointer, SmallXVLM, TowerSentences, TrunkImages, shipped_tower
from ovdet.xvlm.tasks import AnswerModel, CaptionModel, PairModel
from ovdet.xvlm.text import CrossEncoder, PairCrossEncoder, TextEmbedding, TextEncoder, WordHead

AnyXVLM = XVLMModel | AnswerModel | PairModel | CaptionModel

GRID_WINDOWS = {224: 7, 384: 12, 480: 15}
"""Swin-B's window for each published picture size."""


def xvlm(
    task: str = "pretrain",
    image: ImageSizes | Mapping[str, Any] = SwinSizes(),  # noqa: B008 (frozen)
    text: TextSizes | Mapping[str, Any] = TextSizes(),  # noqa: B008
    embed_dim: int = 256,
) -> AnyXVLM:
    """An X-VLM for one task, with random weights.

    Args:
        task: "pretrain" has all heads; "retrieval" (also for weakly supervised grounding) those of the joint space and
            of matching; "box" the box head alone; "vqa", "nlvr", "nlvr-pretrain" and "caption" are models of tasks.py.
        image: sizes of the image encoder, or `plain` values of them.
        text: sizes of the text part, likewise.
        embed_dim: of the joint space.

    Raises:
        InputError: no such task, or sizes that cannot be.
    """
    if task not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    image, text = image_sizes(image), text_sizes(text)
    make = {"vqa": _answers, "nlvr": _pairs, "nlvr-pretrain": _pairs, "caption": _captions}.get(task, _aligned)
    model = make(task, image, text, embed_dim)
    arguments = {"task": task, "image": plain(image), "text": plain(text), "embed_dim": embed_dim}
    model.recipe = {"builder": "xvlm", "arguments": arguments}
    return model


def xvlm_swin_base(task: str = "pretrain", image_size: int = 224) -> AnyXVLM:
    """X-VLM base as published: Swin-B and BERT-base; 215,772,601 parameters with all heads at 384 pixels.

    Args:
        task: see `xvlm`.
        image_size: 224 (pre-training), 384 (fine-tuning) or 480 (questions).
    """
    if image_size not in GRID_WINDOWS:
        raise InputError(f"X-VLM base was published for {list(GRID_WINDOWS)} pixels, got {image_size}")
    return xvlm(task, SwinSizes(image_size, GRID_WINDOWS[image_size]), TextSizes())


def xvlm_small(
    image_size: int = 256,
    width: int = 256,
    text_layers: int = 1,
    fusion_layers: int = 3,
    dropout: float = 0.0,
    frozen_stages: int = 0,
) -> SmallXVLM:
    """A small X-VLM for the offline world, on the frozen sentence tower, with matching, box and joint-space heads.

    Args:
        image_size: side of the square input in pixels, a multiple of 32.
        width: of all tokens, a multiple of 32.
        text_layers: of its own on the sentence tower's states.
        fusion_layers: cross-modal ones.
        dropout: of the layers.
        frozen_stages: of the trunk.
    """
    if width % 32:
        raise InputError(f"width must be a multiple of 32, got {width}")
    sizes = TextSizes(
        vocabulary=1,
        width=width,
        heads=width // 32,
        hidden=4 * width,
        fusion_layers=fusion_layers,
        dropout=dropout,
        attention_dropout=dropout,
        eps=1e-5,
    )
    images = TrunkImages(image_size, width, frozen_stages=frozen_stages)
    pointed = 2 * width + 4
    model = SmallXVLM(
        images,
        TowerSentences(width, text_layers, width // 32, dropout),
        CrossEncoder(sizes, width),
        space=JointSpace(width, width),
        match_head=mlp_head(pointed, 2),
        box_head=PointedBox(mlp_head(2 * width, 4)),
        pointer=Pointer(width, image_size // 16),
    )
    arguments = dict(
        image_size=image_size, width=width, text_layers=text_layers, fusion_layers=fusion_layers, dropout=dropout
    )
    model.recipe = {"builder": "xvlm_small", "arguments": arguments}
    return model


BUILDERS: dict[str, Callable[..., AnyXVLM]] = {"xvlm": xvlm, "xvlm_small": xvlm_small}


def needs_tower(builder: str) -> bool:
    """Does a model of this builder read sentences through the shipped sentence tower?"""
    return builder == "xvlm_small"


def tower_fingerprint() -> str:
    """Of the shipped sentence tower."""
    return shipped_tower().fingerprint


def _aligned(task: str, image: ImageSizes, text: TextSizes, embed_dim: int) -> XVLMModel:
    with_space, with_boxes = task != "box", task != "retrieval"
    return XVLMModel(
        make_image_encoder(image),
        TextEncoder(text),
        CrossEncoder(text, image.out_width),
        space=JointSpace(image.out_width, text.width, embed_dim) if with_space else None,
        match_head=mlp_head(text.width, 2) if with_space else None,
        box_head=mlp_head(text.width, 4) if with_boxes else None,
        word_head=WordHead(text) if task == "pretrain" else None,
    )


def _answers(task: str, image: ImageSizes, text: TextSizes, embed_dim: int) -> AnswerModel:
    return AnswerModel(
        make_image_encoder(image),
        TextEncoder(text),
        CrossEncoder(text, image.out_width),
        TextEmbedding(text),
        CrossEncoder(text, text.width, causal=True),
        WordHead(text),
    )


def _pairs(task: str, image: ImageSizes, text: TextSizes, embed_dim: int) -> PairModel:
    first_stage = task == "nlvr-pretrain"
    return PairModel(
        make_image_encoder(image),
        TextEncoder(text),
        PairCrossEncoder(text, image.out_width),
        nn.Linear(text.width, 3) if first_stage else mlp_head(text.width, 2),
        nn.Linear(image.out_width, embed_dim) if first_stage else None,
    )


def _captions(task: str, image: ImageSizes, text: TextSizes, embed_dim: int) -> CaptionModel:
    return CaptionModel(
        make_image_encoder(image), TextEncoder(text), CrossEncoder(text, image.out_width, causal=True), WordHead(text)
    )


def with_image_size(arguments: Mapping[str, Any], image_size: int, window: int | None = None) -> dict[str, Any]:
    """Arguments of `xvlm` for another picture size, and for a Swin another window; weights must be resized too."""
    sizes = image_sizes(arguments["image"])
    changed = {"image_size": image_size} | ({"window": window} if window and isinstance(sizes, SwinSizes) else {})
    return {**arguments, "image": plain(replace(sizes, **changed))}
