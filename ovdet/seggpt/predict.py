"""The desk of the room: examples and pictures in, `Detections` with masks out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ovdet.errors import InputError
from ovdet.ops.masks import Rle, boxes_xyxy_of_masks, encode_masks
from ovdet.results import Detections
from ovdet.seggpt.colours import class_colours, paint_labels, soft_masks
from ovdet.seggpt.examples import Example, check_picture
from ovdet.seggpt.model import ExampleTokens, Kind, SegGPTModel
from ovdet.seggpt.postprocess import MaskRules, things, tidy
from ovdet.seggpt.prompts import TunedPrompt
from ovdet.seggpt.stem import Levels
from ovdet.seggpt.views import Windows, enlarge, find_windows, resize_picture, tile
from ovdet.seggpt.weights import THRESHOLD, load_model, save_model

Mode = Literal["semantic", "instance", "similar"]
Ensemble = Literal["feature", "spatial"]
Precision = Literal["fp32", "bf16", "fp16"]

MANY_EXAMPLES = 32
"""The most that the paper tried; time and memory grow with each."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pass:
    """One run of the network: the classes that it paints.

    Attributes:
        tokens: of the examples, computed once.
        labels: which of the prompt's names it paints.
        colours: (k, 3) uint8, one for each.
    """

    tokens: ExampleTokens
    labels: tuple[int, ...]
    colours: np.ndarray


@dataclass(frozen=True, eq=False)
class Prompt:
    """Examples made ready by `SegGPTSegmenter.learn`, for any number of pictures.

    Attributes:
        names: of the classes, in the order in which the examples first show them.
        mode: what an answer is.
        passes: over the network, for each picture.
        rows: (K, D), what a detector takes for the classes in the place of names, if candidates are to be its masks.
        mirror: whether pictures are looked at in the mirror too, as the examples were.
    """

    names: tuple[str, ...]
    mode: Mode
    passes: tuple[Pass, ...]
    rows: Tensor | None = None
    mirror: bool = False


@dataclass(frozen=True, eq=False)
class SoftMaps:
    """How sure the network is of each class in one picture; iterate over the classes' maps at the picture's size.

    Attributes:
        small: (K, windows, h, w) float32 in [0, 1], at the network's size.
        place: where the windows lie in the picture.
    """

    small: np.ndarray
    place: Windows

    def __len__(self) -> int:
        return len(self.small)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W) float32 of each class, enlarged when its turn comes."""
        return (enlarge(maps, self.place) for maps in self.small)

    def winners(self) -> np.ndarray:
        """Which class is surest of each pixel, (H, W)."""
        maps = iter(self)
        best, winner = next(maps), np.zeros(self.place.size_hw, np.int32)
        for label, soft in enumerate(maps, start=1):
            better = soft > best
            best[better], winner[better] = soft[better], label
        return winner


class Sights:
    """What a network's trunk makes of pictures that come again: for several classes, or frame after frame.

    A picture is known by its very array, which is kept as long as what was seen in it.

    Args:
        model: that sees; one without a trunk sees nothing, and nothing is kept.
    """

    def __init__(self, model: SegGPTModel) -> None:
        self.model = model
        self._seen: dict[tuple[int, bool], tuple[np.ndarray, Levels]] = {}

    @torch.no_grad()
    def of(self, pictures: Sequence[np.ndarray], inputs: Tensor, mirrored: bool = False) -> Levels | None:
        """What is seen of P pictures; only of new ones it is computed.

        Args:
            pictures: (h, w, 3) uint8 each.
            inputs: (P, 3, h, w), the same normalised, and flipped if `mirrored`.
            mirrored: whether they are.
        """
        keys = [(id(picture), mirrored) for picture in pictures]
        new = [place for place, key in enumerate(keys) if key not in self._seen and key not in keys[:place]]
        levels = self.model.see(inputs[new]) if new else None
        if new and levels is None:
            return None
        for row, place in enumerate(new):
            assert levels is not None
            own = Levels(*(level[row : row + 1] for level in levels))
            self._seen[keys[place]] = pictures[place], own
        return Levels(*(torch.cat(rows) for rows in zip(*(self._seen[key][1] for key in keys), strict=True)))

    def keep(self, pictures: Sequence[np.ndarray]) -> None:
        """Forget all but these."""
        kept = {id(picture) for picture in pictures}
        self._seen = {key: value for key, value in self._seen.items() if key[0] in kept}


class SegGPTSegmenter:
    """Segments pictures by examples.

    Args:
        model: built and loaded.
        threshold: of the soft mask, where a call names none.
        name: shown in results.
        batch_size: pictures that go through the network at once; more help on a GPU.
        precision: of the matrix products; "bf16" and "fp16" go through autocast.
        max_aspect: pictures longer than this are looked at in overlapping windows, since the network sees every
            picture as one of its own shape. `math.inf` always squeezes, as the authors' tool does.
        mirror: also show each example in the mirror, and look at each picture in the mirror too, of which the soft maps
            are averaged: surer, for more than twice the time with one example. Where a call does not say.
    """

    def __init__(
        self,
        model: SegGPTModel,
        *,
        threshold: float = THRESHOLD,
        name: str = "seggpt",
        batch_size: int = 1,
        precision: Precision = "fp32",
        max_aspect: float = 4.0,
        mirror: bool = False,
    ) -> None:
        if precision not in get_args(Precision):
            raise InputError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
        if batch_size < 1 or max_aspect < 1:
            raise InputError(f"batch_size and max_aspect must be at least 1, got {batch_size} and {max_aspect}")
        self.model = model.eval()
        self.threshold = threshold
        self.name = name
        self.batch_size = batch_size
        self.precision = precision
        self.max_aspect = max_aspect
        self.mirror = mirror

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        *,
        batch_size: int = 1,
        precision: Precision = "fp32",
    ) -> SegGPTSegmenter:
        """Read a file of tools/convert/seggpt.py, or of `save`; nothing in it is run.

        Raises:
            InputError: the file cannot be used.
        """
        model, facts = load_model(checkpoint, device)
        name = f"seggpt:{Path(checkpoint).name}"
        return cls(model, threshold=facts.threshold, name=name, batch_size=batch_size, precision=precision)

    def save(self, checkpoint: str | os.PathLike[str]) -> None:
        """Write a checkpoint that `load` reads."""
        save_model(self.model, checkpoint, self.threshold)

    def learn(
        self,
        examples: Sequence[Example],
        *,
        mode: Mode = "semantic",
        ensemble: Ensemble = "feature",
        together: bool = False,
        mirror: bool | None = None,
        sights: Sights | None = None,
    ) -> Prompt:
        """Compute once what examples give for every picture.

        Kept are the embedded example pictures and the whole stream of paintings up to the block where it meets the
        stream of pictures; after that block all tokens depend on the picture in question.

        Args:
            examples: each with one class or several. A class may be in several examples, which are then joined.
            mode: "semantic" asks for all of a class, one mask each; "instance" for the very things of the example,
                one mask each; "similar" for all things of the class, a mask for each connected part.
            ensemble: "feature" averages what a picture sees in each example, in every block; "spatial" tiles the
                examples into one canvas, at the cost of one, in less detail.
            together: paint all classes in one pass, each in a colour of its own, instead of one pass a class.
                Faster, and less exact the more classes there are. Every example then joins in for every class.
            mirror: see the class; None is what it says.
            sights: what was seen of the examples' pictures by earlier calls, and what will be; None: only in this one.

        Raises:
            InputError: no example, or a class is too small to be seen at the network's size.
        """
        for what, value, known in (("mode", mode, get_args(Mode)), ("ensemble", ensemble, get_args(Ensemble))):
            if value not in known:
                raise InputError(f"{what} must be one of {', '.join(known)}, got {value!r}")
        if not examples:
            raise InputError("at least one example is needed")
        names = tuple(dict.fromkeys(name for example in examples for name in example.names))
        examples = [example.resized(self.model.config.picture_hw) for example in examples]
        groups = [names] if together else [(name,) for name in names]
        sights = sights or Sights(self.model)
        mirror = self.mirror if mirror is None else mirror
        passes = []
        for group in groups:
            tokens = self._encode(self._pairs(examples, group, ensemble), _kind_of(mode), sights, mirror)
            passes.append(Pass(tokens, tuple(names.index(name) for name in group), class_colours(len(group))))
        return Prompt(names, mode, tuple(passes), mirror=mirror)

    def learn_tuned(self, tuned: TunedPrompt, mode: Mode | None = None) -> Prompt:
        """Take a prompt that in-context tuning made: one pass for all its classes.

        Args:
            tuned: for this model.
            mode: see `learn`; None is what it was tuned for, "semantic" or "instance".

        Raises:
            InputError: it was tuned for another model.
        """
        tuned.check(self.model)
        mode = mode or ("instance" if tuned.kind == Kind.INSTANCE else "semantic")
        device = self.model.mean.device
        halves = tuned.picture[None].to(device), tuned.painting[None].to(device)
        if self.mirror:
            picture, painting = halves
            halves = torch.cat([picture, picture.flip(3)]), torch.cat([painting, painting.flip(3)])
        with self._autocast():
            tokens = self.model.encode_examples(*halves, tuned.kind)
        only = Pass(tokens, tuple(range(len(tuned.names))), tuned.colours)
        return Prompt(tuned.names, mode, (only,), mirror=self.mirror)

    def soft_masks(self, images: Sequence[np.ndarray], prompt: Prompt) -> list[np.ndarray]:
        """How sure the network is of each class at each pixel.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            prompt: of `learn`.

        Returns:
            For each picture (K, H, W) float32 in [0, 1], at the picture's size; row k is prompt.names[k].
        """
        return [np.stack(list(soft)) for soft in self.look(images, prompt)]

    def predict(
        self, images: Sequence[np.ndarray], prompt: Prompt, *, rules: MaskRules | None = None, max_dets: int = 100
    ) -> list[Detections]:
        """Segment pictures.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            prompt: of `learn`.
            rules: how masks are made of soft maps.
            max_dets: masks kept of a picture, surest first.

        Returns:
            For each picture `Detections` with masks, tight boxes, and as score the mean of the soft map inside;
            labels index prompt.names. What was not found is not listed.
        """
        return [self.decide(soft, prompt, rules, max_dets) for soft in self.look(images, prompt)]

    def decide(
        self, soft_maps: SoftMaps, prompt: Prompt, rules: MaskRules | None = None, max_dets: int = 100
    ) -> Detections:
        """Masks of one picture out of its soft maps, one class at a time; see `predict`."""
        rules = rules or MaskRules()
        if rules.threshold is None:
            rules = replace(rules, threshold=self.threshold)
        winner = soft_maps.winners() if rules.exclusive and len(soft_maps) > 1 else None
        found: list[tuple[float, int, np.ndarray, Rle]] = []
        for label, soft in enumerate(soft_maps):
            mask = soft > rules.threshold if winner is None else (soft > rules.threshold) & (winner == label)
            mask = tidy(mask, rules)
            for part in things(mask, max_dets) if prompt.mode == "similar" else [mask]:
                if part.any():
                    score, box_xyxy = float(soft[part].mean(dtype=np.float64)), boxes_xyxy_of_masks(part[None])[0]
                    found.append((score, label, box_xyxy, encode_masks(part[None])[0]))
        found.sort(key=lambda each: -each[0])
        found = found[:max_dets]
        return Detections(
            np.array([box for _, _, box, _ in found], np.float32).reshape(-1, 4),
            np.clip([score for score, *_ in found], 0, 1),
            np.array([label for _, label, *_ in found], np.int64),
            prompt.names,
            soft_maps.place.size_hw,
            tuple(rle for *_, rle in found),
            model=self.name,
        )

    def look(self, images: Sequence[np.ndarray], prompt: Prompt) -> Iterator[SoftMaps]:
        """The soft maps of each picture, by batches; `soft_masks` and `predict` are made of them."""
        places = []
        for index, image in enumerate(images):
            check_picture(image, f"picture {index}")
            places.append(
                find_windows((image.shape[0], image.shape[1]), self.max_aspect, max(self.model.config.picture_hw))
            )
        views = ((image, view) for image, place in zip(images, places, strict=True) for view in place.views)
        maps = self._view_maps(views, prompt)
        for place in places:
            yield SoftMaps(np.stack([next(maps) for _ in place.views], axis=1), place)

    def _view_maps(
        self, views: Iterator[tuple[np.ndarray, tuple[slice, slice]]], prompt: Prompt
    ) -> Iterator[np.ndarray]:
        """(K, h, w) of each view, by batches."""
        batch: list[np.ndarray] = []
        for image, view in views:
            batch.append(resize_picture(image[view], self.model.config.picture_hw))
            if len(batch) == self.batch_size:
                yield from self._paint(batch, prompt)
                batch = []
        if batch:
            yield from self._paint(batch, prompt)

    def _paint(self, pictures: Sequence[np.ndarray], prompt: Prompt) -> np.ndarray:
        """(B, K, h, w) soft maps of pictures of the network's size."""
        targets = self._to_input(pictures)
        if prompt.mirror:
            targets = torch.cat([targets, targets.flip(3)])
        maps = np.zeros((len(pictures), len(prompt.names), *targets.shape[2:]), np.float32)
        with torch.no_grad(), self._autocast():
            seen = self.model.see(targets)
        for run in prompt.passes:
            with self._autocast():
                painted = self.model.paint(run.tokens, targets, seen)
            soft = soft_masks(self.model.to_colours(painted), run.colours)  # (B or 2 B, k, h, w)
            if prompt.mirror:
                straight, mirrored = soft.chunk(2)
                soft = (straight + mirrored.flip(3)) / 2
            maps[:, list(run.labels)] = soft.cpu().numpy()
        return maps

    def _pairs(
        self, examples: Sequence[Example], group: Sequence[str], ensemble: Ensemble
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The examples that show a class of the group, as pictures and paintings of the network's size."""
        shown = [example for example in examples if set(group) & set(example.names)]
        if len(shown) > MANY_EXAMPLES and ensemble == "feature":
            logger.warning("%d examples of %r: every picture takes as many times longer", len(shown), group[0])
        colours = class_colours(len(group))
        pairs = [self._picture_and_painting(example, group, colours) for example in shown]
        return [tile(pairs)] if ensemble == "spatial" else pairs

    def _picture_and_painting(
        self, example: Example, group: Sequence[str], colours: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """An example at the network's size: picture, and its classes in their colours, both (h, w, 3) uint8."""
        ids = np.zeros(len(example.names) + 1, np.int32)
        for index, name in enumerate(example.names):
            ids[index + 1] = group.index(name) + 1 if name in group else 0
        return example.image, paint_labels(ids[example.labels], colours)

    def _encode(
        self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], kind: Kind, sights: Sights, mirror: bool
    ) -> ExampleTokens:
        """Tokens of examples, in the mirror too if that is wanted."""
        pictures, paintings = zip(*pairs, strict=True)
        shown, painted = self._to_input(pictures), self._to_input(paintings)
        with self._autocast():
            seen = sights.of(pictures, shown)
            if mirror:
                flipped = shown.flip(3)
                other = sights.of(pictures, flipped, mirrored=True)
                shown, painted = torch.cat([shown, flipped]), torch.cat([painted, painted.flip(3)])
                if seen is not None and other is not None:
                    seen = Levels(*(torch.cat(levels) for levels in zip(seen, other, strict=True)))
            return self.model.encode_examples(shown, painted, kind, seen)

    def _to_input(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """(N, 3, h, w), normalised, where the model is."""
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return self.model.normalise(stacked.to(self.model.mean.device))

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.model.mean.device.type, dtype)


def _kind_of(mode: Mode) -> Kind:
    return Kind.INSTANCE if mode == "instance" else Kind.SEMANTIC
