"""Trainings that configs name: a model of the published sizes, its tokens, its losses, and what it starts from."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.vlm.zoo import create_vlm
from ovdet.xvlm.build import GRID_WINDOWS, AnyXVLM, xvlm
from ovdet.xvlm.config import ImageSizes, SwinSizes, TextSizes, image_sizes, text_sizes
from ovdet.xvlm.images import ViTImages
from ovdet.xvlm.masking import WordMasking
from ovdet.xvlm.official import OfficialWeights, convert_official, resize_weights
from ovdet.xvlm.task_training import (
    CaptionTask,
    PairTask,
    QuestionTask,
    RetrievalTask,
    SelfCriticalTask,
    WeakGroundingTask,
)
from ovdet.xvlm.tokens import SentenceTokens, read_vocabulary
from ovdet.xvlm.training import LOSSES, XVLMTraining
from ovdet.xvlm.weights import load_model

_LOG = logging.getLogger(__name__)

AnyTraining = XVLMTraining | QuestionTask | PairTask | CaptionTask

NEW = {
    "pretrain": r"fusion\.layers\.\d+\.(cross_attn\.|norm2\.)|space\.|match_head\.|box_head\.",
    "retrieval": "$^",
    "box": "$^",
    "vqa": r"answer_layers\.layers\.\d+\.cross_attn\.(key|value)\.",
    "nlvr": r"head\.",
    "nlvr-pretrain": r"head\.",
    "caption": "$^",
}
"""Weights of each task that have nothing to start from, and learn from random numbers."""


def base_training(
    task: str,
    vocabulary: str,
    image_size: int = 384,
    max_words: int = 30,
    max_tokens: int = 40,
    *,
    start: str | None = None,
    swin: str | None = None,
    vision: str | None = None,
    bert: str | None = None,
    image: ImageSizes | Mapping[str, Any] | None = None,
    text: TextSizes | Mapping[str, Any] | None = None,
    **settings: Any,
) -> AnyTraining:
    """X-VLM base for one task, ready to be trained.

    Args:
        task: of `ovdet.xvlm.config.TASKS`.
        vocabulary: path of bert-base-uncased's vocab.txt.
        image_size: 224, 384 or 480 pixels.
        max_words: of a sentence.
        max_tokens: of a sentence, [CLS] counted in; at most the positions of the text part.
        start: checkpoint of ours to start from (tools/convert/xvlm.py makes one of an official file); positions are
            brought to the picture size.
        swin: in place of `start`, for pre-training: official Swin-B weights of ImageNet-22k.
        vision: in place of `swin`, where `image` is a vision transformer: a backbone of the zoo whose picture tower is
            one of these sizes ("openai-vit-b-16"); positions are brought to the picture size.
        bert: with `swin` or `vision`: weights of bert-base-uncased.
        image: other sizes than Swin-B's.
        text: other sizes than BERT-base's.
        settings: of the task: losses, max_masks, by_picture and clamp_temperature of `XVLMTraining`; heat=True makes
            it a `WeakGroundingTask`; answers (or their file) and k of `QuestionTask`; prompt and smoothing of
            `CaptionTask`; samples makes it a `SelfCriticalTask`.

    Raises:
        InputError: a file is missing, or does not fit the task.
    """
    wanted = image_sizes(image) if image is not None else SwinSizes(image_size, GRID_WINDOWS[image_size])
    words = text_sizes(text) if text is not None else TextSizes()
    tokens = SentenceTokens(read_vocabulary(vocabulary), max_words, min(max_tokens, words.positions))
    if len(tokens.vocabulary) != words.vocabulary:
        raise InputError(f"{vocabulary} has {len(tokens.vocabulary)} tokens, the model {words.vocabulary}")
    model = xvlm(task, wanted, words)
    if start is not None:
        start_from(model, task, start, wanted)
    elif bert is not None and (swin is not None) != (vision is not None):
        parts = swin_weights(swin) if swin is not None else zoo_weights(str(vision), model.image_encoder)
        start_from_parts(model, parts, bert, wanted, words, origin=f"{swin or vision} and {bert}")
    elif (swin, vision, bert) != (None, None, None):
        raise InputError("a pre-training starts from `bert` and one of `swin` and `vision`; give both, or neither")
    return _training(task, model, tokens, settings)


def _training(task: str, model: AnyXVLM, tokens: SentenceTokens, settings: dict[str, Any]) -> AnyTraining:
    if task == "vqa":
        answers = settings.pop("answers", ())
        return QuestionTask(model, tokens, read_answers(answers) if isinstance(answers, str) else answers, **settings)
    if task in ("nlvr", "nlvr-pretrain"):
        return PairTask(model, tokens, **settings)
    if task == "caption":
        return (SelfCriticalTask if "samples" in settings else CaptionTask)(model, tokens, **settings)
    most = settings.pop("max_masks", 8)
    losses: Sequence[str] = settings.pop(
        "losses", {"retrieval": ("contrast", "match"), "box": ("box",)}.get(task, LOSSES)
    )
    masking = None
    if "words" in losses:
        masking = WordMasking(tokens.vocabulary, mask=tokens.wordpiece.id_of("[MASK]"), most=most)
    kind = RetrievalTask if task == "retrieval" else XVLMTraining
    if settings.pop("heat", False):
        kind = WeakGroundingTask
    return kind(model, tokens, losses, masking=masking, **settings)


def read_answers(path: str | Path) -> list[str]:
    """A list of answers as a JSON file (the official `answer_list.json`).

    Raises:
        InputError: it cannot be read, or is no list of texts.
    """
    try:
        answers = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the answers {path}: {error}") from error
    if not isinstance(answers, list) or not answers or not all(isinstance(one, str) for one in answers):
        raise InputError(f"{path} holds no list of answers")
    return answers


def start_from(model: nn.Module, task: str, checkpoint: str | Path, image: ImageSizes) -> list[str]:
    """Load the weights that a model for a task shares with a checkpoint of another (or the same) task.

    Args:
        model: of the task.
        task: name of it.
        checkpoint: of ours.
        image: sizes of the model's image encoder, to which positions are brought.

    Returns:
        Names of the weights that keep their random numbers.

    Raises:
        InputError: a weight that should be there is not, or has another shape.
    """
    source, facts = load_model(checkpoint)
    found = resize_weights(OfficialWeights(source.state_dict(), dict(facts.arguments), []), image).state_dict
    return load_carried(model, carry_over(found, model.state_dict(), task), task, str(checkpoint))


def swin_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights of an official Swin file under the names of an official X-VLM; its classifier is left out."""
    return {f"vision_encoder.{key}": value for key, value in _state_of(path).items() if not key.startswith("head.")}


def zoo_weights(name: str, encoder: nn.Module) -> dict[str, Tensor]:
    """Weights of the picture tower of one of the zoo's contrastive models, for an encoder of its form.

    Names and sizes of positions are brought over by timm, which knows open_clip's towers.

    Args:
        name: of the backbone.
        encoder: that they are for.

    Returns:
        Weights under this package's names, "image_encoder.trunk...".

    Raises:
        InputError: the backbone has no such tower, or the encoder is no vision transformer.
    """
    from ovdet.vlm.contrastive.clip import OpenClipBackbone

    backbone = create_vlm(name)
    if not isinstance(encoder, ViTImages):
        raise InputError(f"{name} starts a vision transformer; give its sizes as `image`")
    if not isinstance(backbone, OpenClipBackbone):
        raise InputError(f"{name} has no vision transformer of open_clip to start from")
    tower = {key: value for key, value in backbone.model.state_dict().items() if key.startswith("visual.")}
    found = checkpoint_filter_fn(tower, encoder.trunk)
    kept = {key: value for key, value in found.items() if not key.startswith(("head.", "fc_norm."))}
    return {f"image_encoder.trunk.{key}": value.float() for key, value in kept.items()}


def start_from_parts(
    model: nn.Module,
    parts: Mapping[str, Tensor],
    bert: str | Path,
    image: ImageSizes,
    text: TextSizes,
    origin: str = "parts",
) -> list[str]:
    """Load an image encoder and a BERT into a model for pre-training, as published.

    Args:
        model: of task "pretrain".
        parts: weights of the image encoder, of `swin_weights` or `zoo_weights`.
        bert: bert-base-uncased, `pytorch_model.bin` or `model.safetensors`; pooler and next-sentence head are left out.
        image: sizes of the model's image encoder.
        text: sizes of its text part.
        origin: what messages call them.

    Raises:
        InputError: as `start_from`.
    """
    ours = {key: value for key, value in parts.items() if key.startswith("image_encoder.")}
    state = {key: value for key, value in parts.items() if key not in ours}
    for key, value in _state_of(bert).items():
        if not key.startswith(("bert.pooler.", "cls.seq_relationship.")):
            state["text_encoder." + key.replace("gamma", "weight").replace("beta", "bias")] = value
    official = convert_official(state, image, text, embed_dim=256, task="pretrain")
    weights = official.state_dict if ours else resize_weights(official, image).state_dict
    return load_carried(model, {**weights, **ours}, "pretrain", origin)


def carry_over(source: Mapping[str, Tensor], mine: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
    """What of a checkpoint's weights goes where in a model of a task.

    Args:
        source: weights of the checkpoint.
        mine: weights of the model, for their names.
        task: of the model.
    """
    twice = task in ("nlvr", "nlvr-pretrain") and not _is_pair(source)
    found: dict[str, Tensor] = {}
    for name in mine:
        origin = name
        if task == "vqa" and name not in source:
            origin = name.replace("answer_embedding.", "text_encoder.embedding.").replace("answer_layers.", "fusion.")
        elif twice:
            origin = re.sub(r"^fusion\.layers\.(\d+)", lambda place: f"fusion.layers.{int(place[1]) // 2}", name)
            origin = origin.replace("image_projection.", "space.image.")
        same_task = name in source and origin == name
        if origin in source and (same_task or not re.match(NEW[task], name)):
            found[name] = source[origin]
    return found


def _is_pair(source: Mapping[str, Tensor]) -> bool:
    """Are the layers there twice already?"""
    return any(name.startswith("head.") for name in source)


def load_carried(model: nn.Module, weights: Mapping[str, Tensor], task: str, origin: str) -> list[str]:
    """Load weights; what is missing must be what the task learns anew.

    Raises:
        InputError: another weight is missing, or one has another shape.
    """
    mine = model.state_dict()
    missing = [name for name in mine if name not in weights]
    wrong = [name for name in missing if not re.match(NEW[task], name)]
    if wrong:
        raise InputError(f"{origin} cannot start the task {task!r}: it lacks {wrong[0]} ({len(wrong)} weights in all)")
    for name, value in weights.items():
        if name in mine and value.shape != mine[name].shape:
            raise InputError(f"{origin}: {name} is {tuple(value.shape)}, the model has {tuple(mine[name].shape)}")
    model.load_state_dict({name: value for name, value in weights.items() if name in mine}, strict=False)
    _LOG.info("started from %s; %d weights are new", origin, len(missing))
    return missing


def _state_of(path: str | Path) -> dict[str, Tensor]:
    content = load_checkpoint_file(path)
    state = content.get("model", content)
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
