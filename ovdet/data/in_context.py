"""Samples of in-context colouring (SegGPT, arXiv:2304.03284, section 3.1), drawn when they are asked for.

A sample is a canvas, the prompt above the target, and what it should be painted in. What shares a key gets the same
colour in both halves, and colours are drawn anew for every sample, so that only the context says what is meant.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ovdet.data.canvas import block_mask, half_mask
from ovdet.data.colouring import (
    View,
    ViewConfig,
    draw_colours,
    nearest,
    paint,
    random_box,
    random_view,
    resized,
    stitch,
    whole_view,
)
from ovdet.data.contexts import SEG_TYPES, Context, ContextSource
from ovdet.data.episodes import EpisodePictures
from ovdet.data.segments import shown_keys
from ovdet.errors import InputError

_TRIES = 8
"""Pairs of views tried until both show a common key; then whole pictures are taken."""


@dataclass(frozen=True)
class CanvasConfig:
    """What training samples look like. Figures are Painter's released ones where SegGPT says nothing; "ours" is ours.

    Attributes:
        view: of the single pictures.
        patch: side of a patch, in pixels.
        hidden_share: of the patches that block masks hide.
        half_mask_share: how often the target's half is hidden instead, as at inference.
        max_colours: most keys that are coloured; how many are is drawn evenly from 1 up (ours).
        min_distance: of colours, see `draw_colours` (ours).
        white_share: how often a single key is white, as a mask is at inference (ours).
        min_pixels: that a key must have in both halves to be coloured, of a view of 448 x 448; as many per area in
            smaller ones (Painter leaves out samples with fewer than 100).
        mix_share: how often both halves are stitched of several pictures, then cropped (SegGPT's mix-context;
            neither share nor layout is published).
        ensemble_share: how often the prompt's half is a grid of several contexts, as the spatial ensemble shows them
            at inference (section 3.2; that training shows them too is ours).
        crop_share: how often the canvas as a whole is cropped and resized, unless the half mask is used or the
            context is of instances (Painter's second crop).
        crop_scale: share of the canvas that this crop has.
        crop_ratio: its width / height.
    """

    view: ViewConfig = field(default_factory=ViewConfig)
    patch: int = 16
    hidden_share: float = 0.5
    half_mask_share: float = 0.1
    max_colours: int = 8
    min_distance: int = 60
    white_share: float = 0.0
    min_pixels: int = 100
    mix_share: float = 0.25
    ensemble_share: float = 0.1
    crop_share: float = 1.0
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_ratio: tuple[float, float] = (0.3, 0.7)

    def __post_init__(self) -> None:
        if self.patch < 1 or self.view.size % self.patch:
            raise InputError(f"a view of {self.view.size} pixels is no multiple of patches of {self.patch}")
        for name in ("hidden_share", "half_mask_share", "white_share", "mix_share", "ensemble_share", "crop_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.mix_share + self.ensemble_share > 1:
            raise InputError(
                f"mix_share and ensemble_share exclude one another: their sum must be at most 1, got "
                f"{self.mix_share} + {self.ensemble_share}"
            )
        if self.max_colours < 1:
            raise InputError(f"max_colours must be at least 1, got {self.max_colours}")

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Patches of the canvas, (h, w)."""
        side = self.view.size // self.patch
        return 2 * side, side

    @property
    def least(self) -> int:
        """Pixels that a key must have in each half."""
        return max(1, round(self.min_pixels * (self.view.size / 448) ** 2))


class InContextSamples(Dataset):
    """Endless samples out of several sources, cut off at `length`.

    A sample is a dict: "image" and "painting" (3, 2S, S) uint8, "valid" (2S, S) bool (False where nobody judges),
    "masked" (h, w) bool over the patches (True where the painting is hidden), "kind" int (0 for categories, 1 for
    instances). It is a function of seed and index alone; with `SeededSampler`, of seed and draw.

    Args:
        sources: of contexts.
        weights: how often each source is drawn; they need not sum to 1. None: equally often.
        config: what samples look like.
        length: number of samples.
        seed: equal seeds give equal samples.

    Raises:
        InputError: there is no source, or the weights are no weights of them.
    """

    def __init__(
        self,
        sources: Sequence[ContextSource],
        weights: Sequence[float] | None = None,
        config: CanvasConfig | None = None,
        length: int = 1_000_000,
        seed: int = 0,
    ) -> None:
        weights = [1.0] * len(sources) if weights is None else [float(weight) for weight in weights]
        if not sources or len(weights) != len(sources) or min(weights) < 0 or sum(weights) <= 0:
            raise InputError(
                f"{len(sources)} sources want as many weights, none negative and one above 0, got {weights}"
            )
        if length < 1 or seed < 0:
            raise InputError(f"length must be at least 1 and seed at least 0, got {length} and {seed}")
        self.sources, self.config = list(sources), config or CanvasConfig()
        self.shares = np.asarray(weights) / sum(weights)
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} of {self.length}")
        number = int(getattr(index, "number", index))
        rng = np.random.default_rng((self.seed, number))
        source = self.sources[int(rng.choice(len(self.sources), p=self.shares))]
        return draw_sample(rng, source, number, self.config)


def draw_sample(rng: np.random.Generator, source: ContextSource, number: int, config: CanvasConfig) -> dict[str, Any]:
    """One sample out of one source; see `InContextSamples`."""
    luck = rng.random()
    mixed = luck < config.mix_share
    ensemble = not mixed and luck < config.mix_share + config.ensemble_share
    context = source.draw(rng, number, 4 if mixed else 5 if ensemble else 2)
    prompt, target, shared = _halves(rng, context, config, mixed, ensemble)
    canvas = View(
        np.concatenate([prompt.image, target.image], axis=0), np.concatenate([prompt.key_map, target.key_map], axis=0)
    )
    by_half = rng.random() < config.half_mask_share
    if not by_half and context.kind != "instance" and rng.random() < config.crop_share:
        canvas, shared = _cropped(rng, canvas, shared, config)
    keys, colours = _choose(rng, shared, config)
    painted, valid = paint(canvas.key_map, keys, colours)
    hidden = half_mask(config.grid_hw) if by_half else block_mask(rng, config.grid_hw, config.hidden_share)
    return {
        "image": torch.from_numpy(np.ascontiguousarray(canvas.image.transpose(2, 0, 1))),  # (3, 2S, S)
        "painting": torch.from_numpy(np.ascontiguousarray(painted.transpose(2, 0, 1))),
        "valid": torch.from_numpy(valid),
        "masked": torch.from_numpy(hidden),
        "kind": SEG_TYPES[context.kind],
    }


def _halves(
    rng: np.random.Generator, context: Context, config: CanvasConfig, mixed: bool, ensemble: bool
) -> tuple[View, View, np.ndarray]:
    """Prompt, target, and the keys that both show."""
    for attempt in range(_TRIES + 1):
        if attempt == _TRIES:
            prompt, target = (whole_view(one, config.view.size) for one in (context.pictures[1], context.pictures[0]))
        elif mixed:
            prompt, target = _mix(rng, context, config)
        else:
            target = random_view(rng, context.pictures[0], config.view)
            prompt = _tiles(rng, context, config) if ensemble else random_view(rng, context.pictures[1], config.view)
        shared = np.intersect1d(shown_keys(prompt.key_map, config.least), shown_keys(target.key_map, config.least))
        if len(shared):
            return prompt, target, shared
    return prompt, target, np.intersect1d(shown_keys(prompt.key_map), shown_keys(target.key_map))


def _mix(rng: np.random.Generator, context: Context, config: CanvasConfig) -> tuple[View, View]:
    """Both halves stitched of two or four views, then cropped to a view's size."""
    size = config.view.size
    halves = []
    for own in (context.pictures[2:], context.pictures[:2]):
        grid = ((1, 2), (2, 1), (2, 2))[int(rng.integers(3))]
        views = [random_view(rng, own[place % len(own)], config.view) for place in range(grid[0] * grid[1])]
        whole = stitch(views, grid)
        box = random_box(rng, whole.key_map.shape, config.view.scale, config.view.ratio)
        halves.append(resized(whole, box, (size, size)))
    return halves[0], halves[1]


def _tiles(rng: np.random.Generator, context: Context, config: CanvasConfig) -> View:
    """Four contexts in one prompt, each at half its size."""
    views = [random_view(rng, picture, config.view) for picture in context.pictures[1:5]]
    size = config.view.size
    return resized(stitch(views, (2, 2)), (0, 0, 2 * size, 2 * size), (size, size))


def _cropped(
    rng: np.random.Generator, canvas: View, shared: np.ndarray, config: CanvasConfig
) -> tuple[View, np.ndarray]:
    """A crop of the canvas that still has some of the shared keys on both sides of its seam, else all of it."""
    size_hw = canvas.key_map.shape
    for _ in range(_TRIES):
        box = random_box(rng, size_hw, config.crop_scale, config.crop_ratio)
        above = box[0] + nearest(box[2], size_hw[0]) < size_hw[0] // 2  # (2S,)
        crop = resized(canvas, box, size_hw)
        left = np.intersect1d(
            shown_keys(crop.key_map[above], config.least), shown_keys(crop.key_map[~above], config.least)
        )
        left = np.intersect1d(left, shared)
        if len(left):
            return crop, left
    return canvas, shared


def _choose(rng: np.random.Generator, shared: np.ndarray, config: CanvasConfig) -> tuple[list[int], np.ndarray]:
    """Some of the shared keys, at least one where there is any, and a colour for each."""
    count = min(int(rng.integers(1, config.max_colours + 1)), len(shared))
    keys = rng.permutation(shared)[:count].tolist()
    colours = draw_colours(rng, count, config.min_distance)
    if count == 1 and rng.random() < config.white_share:
        colours[:] = 255
    return keys, colours


class EpisodeCanvases(Dataset):
    """One-shot episodes as canvases, for validation during training.

    A sample is a dict: "image" and "painting" (3, 2S, S) uint8, the first example above, white on black, and the
    query below; "masked" (h, w) bool, the lower half; "kind" int; "truth" and "valid" (S, S) bool; "label" int.

    Args:
        episodes: `Episodes` or `StickerEpisodes`; of several examples the first is shown.
        size: side S of a picture.
        patch: side of a patch.
        kind: 0 for categories, 1 for instances.
    """

    def __init__(self, episodes: Any, size: int = 448, patch: int = 16, kind: int = 0) -> None:
        if size % patch:
            raise InputError(f"a picture of {size} pixels is no multiple of patches of {patch}")
        self.episodes, self.size, self.patch, self.kind = episodes, size, patch, kind

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        episode: EpisodePictures = self.episodes[int(index)]
        (picture, mask), *_ = episode.examples
        prompt = self._square(picture, mask)
        query = self._square(episode.query, episode.truth)
        judged = self._square(episode.query, episode.judged).key_map
        painting = np.concatenate([prompt.key_map, np.zeros_like(prompt.key_map)], axis=0).astype(np.uint8) * 255
        image = np.concatenate([prompt.image, query.image], axis=0)
        side = self.size // self.patch
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "painting": torch.from_numpy(painting)[None].repeat(3, 1, 1),
            "masked": torch.from_numpy(half_mask((2 * side, side))),
            "kind": self.kind,
            "truth": torch.from_numpy(query.key_map > 0),
            "valid": torch.from_numpy(judged > 0),
            "label": episode.label,
        }

    def _square(self, image: np.ndarray, mask: np.ndarray) -> View:
        """Image and mask at the size of the view; the aspect ratio is not kept."""
        return resized(View(image, mask.astype(np.int64)), (0, 0, *mask.shape), (self.size, self.size))


def mixture(
    sources: Sequence[Mapping[str, Any]],
    view: Mapping[str, Any] | None = None,
    canvas: Mapping[str, Any] | None = None,
    length: int = 1_000_000,
    seed: int = 0,
) -> InContextSamples:
    """What a config says, built: each source `dict(type=..., weight=..., **arguments)`.

    Args:
        sources: builders of context sources, with their weights (1 where none is stated).
        view: fields of `ViewConfig`.
        canvas: fields of `CanvasConfig` but for the view.
        length: number of samples.
        seed: of the samples.

    Raises:
        InputError: what the builders and `InContextSamples` refuse.
    """
    built, weights = [], []
    for settings in sources:
        arguments = dict(settings)
        builder = arguments.pop("type")
        weights.append(float(arguments.pop("weight", 1.0)))
        built.append((pkgutil.resolve_name(builder) if isinstance(builder, str) else builder)(**arguments))
    config = CanvasConfig(view=ViewConfig(**_tuples(view)), **_tuples(canvas))
    return InContextSamples(built, weights, config, length, seed)


def _tuples(fields: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields with tuples for lists: configs that were written out and read again have lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in (fields or {}).items()}
