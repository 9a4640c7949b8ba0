"""Checkpoints of our own and of trainings, which say how to build themselves; official.py reads foreign ones."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.files import replacing
from ovdet.layers.compact import read_compact, write_compact
from ovdet.layers.rooms import check_room
from ovdet.xvlm.build import BUILDERS, AnyXVLM, needs_tower, tower_fingerprint
from ovdet.xvlm.small import TowerTokens
from ovdet.xvlm.tokens import SentenceTokens

FORMAT = 1
"""Of the dictionary under "ovdet"."""

WANTED_BY = {
    "pretrain": "`ovdet ground`, `ovdet match` and `ovdet retrieve`",
    "retrieval": "`ovdet match` and `ovdet retrieve`, and `ovdet ground` with candidates",
    "box": "`ovdet ground`",
    "vqa": "`tools/test.py configs/xvlm/vqa.py`",
    "nlvr": "`tools/test.py configs/xvlm/nlvr2.py`",
    "nlvr-pretrain": "`tools/train.py configs/xvlm/nlvr2.py`, which starts from it",
    "caption": "`tools/test.py configs/xvlm/caption.py`",
}
"""Who uses a checkpoint of each task, for messages."""


@dataclass(frozen=True)
class XVLMFacts:
    """What a checkpoint says about itself, beside the weights, under the key "ovdet".

    Attributes:
        builder: a key of `BUILDERS`.
        arguments: plain values for it.
        vocabulary: word pieces in order of their ids; empty for models on the sentence tower, or if it is given when
            the checkpoint is used.
        max_words: of a sentence.
        max_tokens: of a sentence, special ones counted in.
        threshold: match below which what a sentence says is taken to be absent; 0 takes everything to be there.
        tower: fingerprint of the sentence tower that it was trained on, or None.
        trained_on: what the weights come from, in a few words.
    """

    builder: str
    arguments: dict[str, Any] = field(default_factory=dict)
    vocabulary: Sequence[str] = ()
    max_words: int = 30
    max_tokens: int = 40
    threshold: float = 0.0
    tower: str | None = None
    trained_on: str = ""

    def __post_init__(self) -> None:
        if self.builder not in BUILDERS:
            raise InputError(f"the builder must be one of {', '.join(BUILDERS)}, got {self.builder!r}")
        if not isinstance(self.arguments, Mapping):
            raise InputError(f"arguments must be a dictionary, got {self.arguments!r}")
        if not all(isinstance(token, str) for token in self.vocabulary):
            raise InputError("vocabulary must be texts")
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        if not isinstance(self.threshold, int | float) or not 0 <= self.threshold <= 1:
            raise InputError(f"threshold must lie in [0, 1], got {self.threshold!r}")

    @property
    def task(self) -> str:
        """What the model was built for."""
        return str(self.arguments.get("task", "pretrain"))

    def build(self) -> AnyXVLM:
        """Build the model, with random weights."""
        try:
            return BUILDERS[self.builder](**self.arguments)
        except TypeError as error:
            raise InputError(f"{self.builder} does not take these arguments: {error}") from error

    def make_tokens(self, vocabulary: Sequence[str] | None = None) -> SentenceTokens:
        """What splits sentences for the model.

        Args:
            vocabulary: in place of the checkpoint's own.

        Raises:
            InputError: there is none, or it has another number of tokens than the model.
        """
        if needs_tower(self.builder):
            return TowerTokens(None, self.max_words, self.max_tokens)
        vocabulary = vocabulary or self.vocabulary
        if not vocabulary:
            raise InputError("the checkpoint holds no vocabulary; give vocab.txt of bert-base-uncased with it")
        sizes = dict(self.arguments.get("text", {}))
        wanted = sizes.get("vocabulary", 30522)
        if len(vocabulary) != wanted:
            raise InputError(f"the vocabulary has {len(vocabulary)} tokens, the model {wanted}; give the model's own")
        return SentenceTokens(vocabulary, self.max_words, min(self.max_tokens, sizes.get("positions", 512)))


def load_model(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> tuple[AnyXVLM, XVLMFacts]:
    """Build the model that a checkpoint describes and load its weights, strictly; nothing in the file is run.

    Args:
        path: a checkpoint, or a compact file (.safetensors).
        device: of the model.

    Raises:
        InputError: no such file, damaged, not made by this room, or the weights do not fit.
    """
    compact = Path(path).suffix == ".safetensors"
    if compact:
        state, said = read_compact(Path(path))
    else:
        checkpoint = load_checkpoint_file(path)
        state, said = checkpoint.get("state_dict", {}), checkpoint.get("ovdet", {})
        if not said:
            state, said = _of_training(state)
        if not said:
            _refuse_official(path, checkpoint)
    try:
        facts = read_facts(said)
        if facts.tower is not None and facts.tower != tower_fingerprint():
            raise InputError("it was trained on another sentence tower than the one shipped; train it again")
        model = facts.build()
        model.load_state_dict(state, strict=True)
    except InputError as error:
        raise InputError(f"checkpoint '{path}': {error}") from error
    except RuntimeError as error:  # torch's list of keys that do not fit
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"checkpoint '{path}' does not fit the model that it names: {reason}") from error
    return model.to(device).eval(), facts


def _refuse_official(path: str | os.PathLike[str], checkpoint: Mapping[str, Any]) -> None:
    """Say which task a file of the authors is of; anything else is left to `read_facts`.

    Raises:
        InputError: it is such a file.
    """
    from ovdet.xvlm.official import task_of

    state = checkpoint.get("model", checkpoint)
    try:
        task = task_of(state if isinstance(state, Mapping) else {})
    except InputError:
        return
    raise InputError(
        f"checkpoint '{path}' is the authors' own file of the task {task!r}, for {WANTED_BY[task]}; turn it into one "
        "that ovdet loads with tools/convert/xvlm.py"
    )


def facts_of(model: AnyXVLM, tokens: SentenceTokens) -> XVLMFacts:
    """What a checkpoint should say of a model that is trained with these tokens."""
    tower = needs_tower(model.recipe["builder"])
    return XVLMFacts(
        **model.recipe,
        vocabulary=() if tower else tokens.vocabulary,
        max_words=tokens.max_words,
        max_tokens=tokens.max_tokens,
        tower=tower_fingerprint() if tower else None,
    )


FACTS = "_extra_state"
"""Key of a training's state dict that ends so holds the facts, as bytes of JSON."""


def pack_facts(facts: XVLMFacts) -> Tensor:
    """Facts as a tensor, which every kind of checkpoint can hold."""
    said = {"format": FORMAT, "room": "xvlm", **_plain(asdict(facts))}
    return torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8).clone()


def _of_training(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and facts out of the state dict of a training; both empty if it is none."""
    for key, value in state.items():
        if key.endswith(FACTS) and isinstance(value, Tensor) and value.dtype == torch.uint8:
            prefix = f"{key.removesuffix(FACTS)}model."
            try:
                said = json.loads(bytes(value.tolist()))
            except ValueError:
                continue
            return {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}, said
    return {}, {}


def read_facts(said: Mapping[str, Any]) -> XVLMFacts:
    """Read and check what a checkpoint says about itself; unknown entries are left alone.

    Raises:
        InputError: nothing is said, or something that cannot be.
    """
    if not isinstance(said, Mapping) or not said:
        raise InputError(
            "it does not say how to build its model (no 'ovdet' entry); convert an official file with "
            "tools/convert/xvlm.py"
        )
    check_room(said, "xvlm", FORMAT)
    known = {name: said[name] for name in XVLMFacts.__dataclass_fields__ if said.get(name) is not None}
    try:
        return XVLMFacts(**known)
    except TypeError as error:
        raise InputError(f"its 'ovdet' entry is damaged: {error}") from error


def save_model(
    model: AnyXVLM, facts: XVLMFacts, path: str | os.PathLike[str], *, state: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint that `load_model` reads; it is whole or not there.

    Args:
        model: built by one of `BUILDERS`.
        facts: of it.
        path: a file; one that ends in .safetensors is written in bytes with a scale a channel (ovdet.layers.compact).
        state: in place of the model's own weights.

    Raises:
        InputError: it cannot be written.
    """
    said = {"format": FORMAT, "room": "xvlm", **_plain(asdict(facts))}
    weights = dict(model.state_dict() if state is None else state)
    file = Path(path)
    if file.suffix == ".safetensors":
        write_compact(file, weights, said)
        return
    try:
        with replacing(file) as temporary:
            torch.save({"state_dict": weights, "ovdet": said}, temporary)
    except RuntimeError as error:  # as which torch reports a full disk
        raise InputError(f"cannot write checkpoint '{file}': {error}") from error


def _plain(value: Any) -> Any:
    """Lists for tuples, all the way down: what weights-only loading and JSON both take."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
