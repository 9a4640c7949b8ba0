"""Trainings that configs name: a model of the published sizes, its tokens, its losses, and what it starts from."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.xvlm.build import GRID_WINDOWS, AnyXVLM, xvlm
from ovdet.xvlm.config import ImageSizes, SwinSizes, TextSizes, image_sizes, text_sizes
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
        max_tokens: of a sentence, [CLS] counted in.
        start: checkpoint of ours to start from (tools/convert/xvlm.py makes one of an official file); positions are
            brought to the picture size.
        swin: in place of `start`, for pre-training: official Swin-B weights of ImageNet-22k.
        bert: with `swin`: weights of bert-base-uncased.
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
    tokens = SentenceTokens(read_vocabulary(vocabulary), max_words, max_tokens)
    if len(tokens.vocabulary) != words.vocabulary:
        raise InputError(f"{vocabulary} has {len(tokens.vocabulary)} tokens, the model {words.vocabulary}")
    model = xvlm(task, wanted, words)
    if start is not None:
        start_from(model, task, start, wanted)
    elif swin is not None and bert is not None:
        start_from_parts(model, swin, bert, wanted, words)
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


def start_from_parts(
    model: nn.Module, swin: str | Path, bert: str | Path, image: ImageSizes, text: TextSizes
) -> list[str]:
    """Load an ImageNet Swin and a BERT into a model for pre-training, as published.

    Args:
        model: of task "pretrain".
        swin: official file of Swin-B; its classifier is left out.
        bert: bert-base-uncased, `pytorch_model.bin` or `model.safetensors`; pooler and next-sentence head are left out.
        image: sizes of the model's image encoder.
        text: sizes of its text part.

    Raises:
        InputError: as `start_from`.
    """
    state: dict[str, Tensor] = {}
    for key, value in _state_of(swin).items():
        if not key.startswith("head."):
            state[f"vision_encoder.{key}"] = value
    for key, value in _state_of(bert).items():
        if not key.startswith(("bert.pooler.", "cls.seq_relationship.")):
            state["text_encoder." + key.replace("gamma", "weight").replace("beta", "bias")] = value
    weights = resize_weights(convert_official(state, image, text, embed_dim=256), image)
    return load_carried(model, weights.state_dict, "pretrain", f"{swin} and {bert}")


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
