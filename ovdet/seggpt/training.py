"""Training: the model with its loss, and in-context tuning, where the model is frozen and the prompt learns.

`SegGPTTraining` keeps the promises of `ovdet.engine.contrastive.TowerTraining`: `loss(**batch)` and `predict(**batch)`
of samples as `ovdet.data.in_context` makes them.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.seggpt.colours import class_colours
from ovdet.seggpt.losses import BETA, painting_loss
from ovdet.seggpt.model import Kind, SegGPTModel
from ovdet.seggpt.prompts import TunedPrompt, facts_tensor, fingerprint
from ovdet.seggpt.stem import Levels, TrunkStem
from ovdet.seggpt.weights import THRESHOLD, load_model, save_compact, save_model, start_from_mae
from ovdet.vlm.trunks import trunk_weights

NAME_SHARPNESS = 20.0
"""Of the cosines of looks and names."""

NAME_WEIGHT = 0.1
"""Beside the loss of the painting."""

_PREFIX = "task.model."
"""Of the model's weights in a checkpoint of training."""


class SegGPTTraining(nn.Module):
    """In-context colouring (arXiv:2304.03284, section 3.1).

    Args:
        model: to train.
        threshold: of the soft mask in validation.
        beta: of the loss; see `seggpt_training`.
        names: how many names the samples tell, for `loss_names`; 0: none.

    Raises:
        InputError: names are for a model with a matcher.
    """

    def __init__(self, model: SegGPTModel, threshold: float = THRESHOLD, beta: float = BETA, names: int = 0) -> None:
        super().__init__()
        self.model, self.threshold, self.beta = model, threshold, beta
        self._seen: dict[int, tuple[Tensor, ...]] = {}
        if names and model.matcher is None:
            raise InputError("names teach the measure of likeness; a model without one (looks=0) cannot learn them")
        self.names = nn.Parameter(torch.randn(names, model.config.looks)) if names else None

    def loss(
        self,
        image: Tensor,
        painting: Tensor,
        masked: Tensor,
        kind: Tensor,
        valid: Tensor,
        pictures: Tensor | None = None,
        names: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Loss of a batch: of the painting, and with `names` also of what the matcher takes each thing for.

        Args:
            image: (N, 3, 2S, S) uint8, prompt above target.
            painting: (N, 3, 2S, S) uint8.
            masked: (N, h, w) bool, hidden patches.
            kind: (N,) 0 for categories, 1 for instances.
            valid: (N, 2S, S) bool, pixels that are judged.
            pictures: (N, 2) numbers of the pictures, prompt and target, where they come again and again: what a trunk
                that does not learn makes of them is kept, in half precision.
            names: (N, 2, h / 2, w) names of the patches of prompt and target, -1 for none.
        """
        wanted = self.model.normalise(painting)
        half = masked.shape[1] // 2
        lower = not masked[:, :half].any()
        known = pictures is not None and not _trunk_learns(_stem_of(self.model))
        seen = self._see_known(image, pictures) if known else None
        losses = {}
        if self.names is not None and names is not None:
            if seen is None:
                seen = _stem_of(self.model).levels(torch.cat(image.chunk(2, dim=2)).to(self.model.std.dtype) / 255)
            losses["loss_names"] = self._name_loss(seen, names)
        painted = self.model(self.model.normalise(image), wanted, masked, kind, lower=lower, seen=seen)
        if lower:  # what is above was shown, and is not judged
            side = painted.shape[2]
            wanted, masked, valid = wanted[:, :, side:], masked[:, half:], valid[:, side:]
        return {"loss_painting": painting_loss(painted, wanted, masked, valid, self.beta), **losses}

    def _name_loss(self, seen: Levels, names: Tensor) -> Tensor:
        """Cross-entropy of the names of things by their mean looks; of `seen`, all prompts come first."""
        assert self.names is not None and self.model.matcher is not None
        looks = self.model.matcher.looks(seen)  # (2 N, t, C)
        flat = names.transpose(0, 1).flatten(2).flatten(0, 1)  # (2 N, t)
        rows, tokens = (flat >= 0).nonzero(as_tuple=True)
        if not len(rows):
            return looks.sum() * 0
        things, where = torch.unique(rows * len(self.names) + flat[rows, tokens], return_inverse=True)
        means = looks.new_zeros(len(things), looks.shape[2]).index_add_(0, where, looks[rows, tokens])
        cosines = functional.normalize(means, dim=1) @ functional.normalize(self.names, dim=1).T
        return NAME_WEIGHT * functional.cross_entropy(
            NAME_SHARPNESS * cosines.float(), things % len(self.names), label_smoothing=0.1
        )

    def _see_known(self, image: Tensor, pictures: Tensor) -> Levels:
        """What the trunk makes of the pictures of canvases, 2 N rows, all prompts first; of each computed once."""
        stem = _stem_of(self.model)
        flat = pictures.T.flatten().tolist()
        new = [place for place, number in enumerate(flat) if number not in self._seen]
        if new:
            with torch.no_grad():
                levels = stem.levels(torch.cat(image.chunk(2, dim=2))[new].float() / 255)
            for place, *rows in zip(new, *levels, strict=True):
                self._seen[flat[place]] = tuple(row.to(torch.bfloat16).clone() for row in rows)
        levels = zip(*(self._seen[number] for number in flat), strict=True)
        return Levels(*(torch.stack(rows).to(self.model.std.dtype) for rows in levels))

    @torch.no_grad()
    def predict(
        self,
        image: Tensor,
        painting: Tensor,
        masked: Tensor,
        kind: Tensor,
        truth: Tensor,
        valid: Tensor,
        label: Tensor,
    ) -> Tensor:
        """Score one-shot episodes at the size of the canvas.

        Args:
            image: (N, 3, 2S, S) uint8.
            painting: (N, 3, 2S, S) uint8; what is below is not seen.
            masked: (N, h, w) bool, the lower half.
            kind: (N,).
            truth: (N, S, S) bool.
            valid: (N, S, S) bool.
            label: (N,) class of each; not used here.

        Returns:
            (N, 4) counts of judged pixels: intersection and union of the thing, then of all else.
        """
        soft = soft_masks(self.model, image, painting, masked, kind)
        found, truth = (soft > self.threshold) & valid, truth & valid
        rest, other = ~found & valid, ~truth & valid
        pairs = (found & truth, found | truth, rest & other, rest | other)
        return torch.stack([pair.flatten(1).sum(dim=1) for pair in pairs], dim=1).double()


def soft_masks(model: SegGPTModel, image: Tensor, painting: Tensor, masked: Tensor, kind: Tensor) -> Tensor:
    """Mean of the colours of the lower halves, (N, S, S) in [0, 1]: white is 1."""
    painted = model(model.normalise(image), model.normalise(painting), masked, kind, lower=True)
    return model.to_colours(painted).mean(dim=1) / 255


class PromptTuning(nn.Module):
    """In-context tuning (section 3.3): a frozen model, and a picture and a painting that learn to be the prompt.

    The paper tells neither what is learned besides the picture, nor how it starts, nor the schedule. Here both halves
    of the prompt are learned, from random numbers or from an example.

    Args:
        model: is frozen, and put to inference for good.
        picture: (3, S, S) uint8 to start from, with `painting`; None starts both from N(0, 0.02) in normalised
            colours.
        painting: (3, S, S) uint8.
        names: of the K classes that the painting tells apart.
        colours: (K, 3) uint8 of the classes in what is to be painted; None: those of `class_colours`.
        kind: 0 for categories, 1 for instances.
        seed: of the random start.

    Raises:
        InputError: half a start, one of another size than the model takes, or names that do not fit the colours.
    """

    def __init__(
        self,
        model: SegGPTModel,
        picture: Tensor | None = None,
        painting: Tensor | None = None,
        names: Sequence[str] = ("thing",),
        colours: np.ndarray | None = None,
        kind: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if (picture is None) != (painting is None):
            raise InputError("a prompt starts from a picture and its painting, or from neither; only one was given")
        shape = (3, *model.config.picture_hw)
        self.model = model.eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        for name, start in (("picture", picture), ("painting", painting)):
            if start is not None and tuple(start.shape) != shape:
                raise InputError(f"{name} must be {shape} as the model takes it, got {tuple(start.shape)}")
            value = torch.randn(shape, generator=generator) * 0.02
            if start is not None:
                value = model.normalise(start[None].to(model.std.device))[0]
            self.register_parameter(name, nn.Parameter(value.clone()))
        self.kind, self.names = Kind(kind), tuple(names)
        self.colours = class_colours(len(names)) if colours is None else colours
        self.prompt  # noqa: B018  (refuses names and colours that do not fit before anything is learned)

    picture: Tensor
    painting: Tensor

    def train(self, mode: bool = True) -> PromptTuning:
        """Only the prompt is ever in training."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Paint (N, 3, S, S) normalised pictures by the prompt: (N, 3, S, S) in normalised colours."""
        count, half = len(images), self.model.config.grid_hw[0] // 2
        masked = torch.zeros(1, *self.model.config.grid_hw, dtype=torch.bool, device=images.device)
        masked[:, half:] = True
        prompt = self.picture.expand(count, -1, -1, -1), self.painting.expand(count, -1, -1, -1)
        canvas = torch.cat([prompt[0], images], dim=2)
        paintings = torch.cat([prompt[1], torch.zeros_like(images)], dim=2)
        kinds = torch.full((count,), self.kind, device=images.device)
        return self.model(canvas, paintings, masked, kinds).chunk(2, dim=2)[1]

    def loss(self, image: Tensor, painting: Tensor, valid: Tensor, **_: Any) -> dict[str, Tensor]:
        """The same loss as in training, on whole target pictures.

        Args:
            image: (N, 3, S, S) uint8, or canvases (N, 3, 2S, S), of which the lower halves are taken.
            painting: alike, in the colours that the prompt is to learn.
            valid: (N, S, S) or (N, 2S, S) bool.
        """
        height = self.model.config.picture_hw[0]
        image, painting, valid = image[:, :, -height:], painting[:, :, -height:], valid[:, -height:]
        wanted = self.model.normalise(painting)
        painted = self(self.model.normalise(image))
        everything = torch.ones(1, 1, 1, dtype=torch.bool, device=image.device)
        return {"loss_painting": painting_loss(painted, wanted, everything, valid)}

    @property
    def prompt(self) -> TunedPrompt:
        """What was learned, as `SegGPTSegmenter.learn_tuned` takes it."""
        halves = (half.detach().float().cpu() for half in (self.picture, self.painting))
        return TunedPrompt(*halves, self.names, self.colours, self.kind, fingerprint(self.model))

    def get_extra_state(self) -> Tensor:
        """What a checkpoint of this training says of the prompt, so that it can be taken out without its data."""
        return facts_tensor(self.prompt)

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing to restore: names and colours are the config's."""


def seggpt_training(
    size: Callable[..., SegGPTModel] | str,
    init: str | None = None,
    mae: str | None = None,
    checkpointing: bool = False,
    trunk: str | None = None,
    trunk_learns: int = 0,
    matching: bool = False,
    threshold: float = THRESHOLD,
    beta: float = BETA,
    names: int = 0,
    **arguments: Any,
) -> SegGPTTraining:
    """A model to train as a config says it.

    Args:
        size: builder of the model, with `arguments`.
        init: checkpoint of this room to start from, of the same sizes; it may lack the matcher.
        mae: checkpoint of a masked auto-encoder whose encoder is the start, if `init` is none.
        checkpointing: compute blocks twice to save memory.
        trunk: whose compact trunk the stem takes, as of `trunk_weights`, if `init` is none.
        trunk_learns: how many of the trunk's last stages learn, but for their statistics.
        matching: start with attention that looks for tokens alike, see `start_matching`, if `init` is none.
        threshold: of the soft mask in validation.
        beta: where the loss turns from quadratic to linear, in normalised colours, of which black and white are 4.4
            apart. The published one asks for the likelier colour, and where nothing is known yet that is black all
            over; one above 4.4 asks for the mean of what may be, so that there is something to learn from.
        names: how many names the samples tell; see `SegGPTTraining`.
        **arguments: of the builder.

    Raises:
        InputError: both starts are given, or a file does not fit.
    """
    if init is not None and mae is not None:
        raise InputError("a model starts from `init` or from `mae`, not from both")
    model = (pkgutil.resolve_name(size) if isinstance(size, str) else size)(**arguments)
    if init is not None:
        other, _ = load_model(init)
        looks = other.config.looks or model.config.looks
        if replace(other.config, drop_path=model.config.drop_path, looks=looks) != model.config:
            raise InputError(f"init: {init} holds a model of other sizes ({other.config}) than the config's")
        model.load_state_dict(model.state_dict() | other.state_dict(), strict=True)
    if mae is not None:
        start_from_mae(model, load_checkpoint_file(mae))
    if init is None and trunk is not None:
        _stem_of(model).trunk.load_state_dict(trunk_weights(trunk), strict=True)
    if init is None and matching:
        start_matching(model)
    if trunk_learns:
        _stem_of(model).trunk.stages[-trunk_learns:].requires_grad_(True)
    model.checkpointing = checkpointing
    return SegGPTTraining(model, threshold, beta, names)


def start_matching(model: SegGPTModel) -> None:
    """Let each head compare tokens in a random part of their space, and hand on what it finds there.

    Queries and keys get the same rows of a random rotation, so that their products are cosines times the square root
    of a head's width; values and the projection that follows get the rows and columns of another.

    Args:
        model: changed in place.
    """
    width = model.config.width
    for block in model.blocks:
        same, carried = (torch.linalg.qr(torch.randn(width, width))[0] for _ in range(2))
        block.attn.qkv.weight.data.copy_(torch.cat([same, same, carried]))
        block.attn.proj.weight.data.copy_(carried.T)


def _stem_of(model: SegGPTModel) -> TrunkStem:
    if model.stem is None:
        raise InputError("a trunk is for models whose stem is 'trunk'; this one embeds patches")
    return model.stem


def _trunk_learns(stem: TrunkStem) -> bool:
    return any(value.requires_grad for value in stem.trunk.parameters())


def prompt_tuning(
    model: str,
    names: Sequence[str] | Mapping[str, Any] = ("thing",),
    palette: Callable[[int], np.ndarray] | str = class_colours,
    start: Mapping[str, Any] | None = None,
    kind: int = 0,
    seed: int = 0,
) -> PromptTuning:
    """In-context tuning of a checkpoint as a config says it.

    Args:
        model: file of the frozen model.
        names: of the classes, or `dict(type=..., **arguments)` of what gives them.
        palette: gives (K, 3) uint8 colours of K classes, as in the data.
        start: `dict(type=..., **arguments)` of data whose first sample is the start; None: random numbers.
        kind: 0 for categories, 1 for instances.
        seed: of the random start.
    """
    if isinstance(names, Mapping):
        names = _built(names)
    colours = (pkgutil.resolve_name(palette) if isinstance(palette, str) else palette)(len(names))
    first = {} if start is None else _built(start)[0]
    halves = first.get("image"), first.get("painting")
    return PromptTuning(load_model(model)[0], *halves, names, colours, kind, seed)


def _built(settings: Mapping[str, Any]) -> Any:
    arguments = dict(settings)
    builder = arguments.pop("type")
    return (pkgutil.resolve_name(builder) if isinstance(builder, str) else builder)(**arguments)


def export_trained(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: SegGPTModel,
    out: str | os.PathLike[str],
    threshold: float = THRESHOLD,
) -> None:
    """Take the model out of a checkpoint of tools/train.py and write it as `load_model` reads it.

    Args:
        checkpoints: file of training; or several of trainings that one began where another ended, for the mean of
            their weights (Wortsman et al., Model soups, 2022, the uniform one).
        model: of the config's sizes; gets the weights.
        out: .pth, or .safetensors for a compact file.
        threshold: of the soft mask.

    Raises:
        InputError: a file holds no such model, or cannot be written.
    """
    files = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else list(checkpoints)
    total: dict[str, Tensor] = {}
    for checkpoint in files:
        content = load_checkpoint_file(checkpoint)
        state = content.get("state_dict", content)
        weights = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"checkpoint '{checkpoint}' does not hold such a model in training: {reason}") from error
        for name, value in model.state_dict().items():
            total[name] = total[name] + value.double() if name in total else value.double()
    model.load_state_dict({name: value / len(files) for name, value in total.items()})
    (save_compact if Path(out).suffix == ".safetensors" else save_model)(model, out, threshold)
