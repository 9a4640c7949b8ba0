"""Scenes: stickers on a ground, with a label, a style, a tight box and an exact visible mask for each.

A mask holds the pixels of a thing (alpha of one half and more) that nothing later covers; masks never overlap. Nothing
is drawn that cannot be seen well enough to be annotated, and nothing that has a name is left out of the annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ovdet.data.stickers.colours import colour_shares
from ovdet.data.stickers.curation import HELD_OUT_STYLES, TRAIN_STYLES
from ovdet.data.stickers.grounds import EVALUATION_PAINTERS, Ground, GroundSource
from ovdet.data.stickers.render import contact_shadow, darken, drop_shadow, overlap, paste, render_sprite, solid
from ovdet.data.stickers.sprites import SpriteKey, SpritePack
from ovdet.data.stickers.vocabulary import StickerVocabulary
from ovdet.errors import InputError
from ovdet.ops.masks import boxes_xyxy_of_masks

_PATIENCE = 200
"""Tries to place a first thing before giving up; with sensible configs the first one or two succeed."""


@dataclass(frozen=True)
class SceneConfig:
    """What scenes look like.

    Attributes:
        size_hw: of the picture, in pixels.
        objects: fewest and most things that are tried; crowding leaves some out.
        long_side: shortest and longest long side of a thing, in pixels.
        min_visible: share of a thing's pixels that must be seen, both of what is covered and of what is cut off.
        min_pixels: that must be seen.
        repeat_share: how often a thing takes the name of an earlier one.
        relative_share: how often it takes a near-duplicate name of an earlier one, if there is any.
        standing_share: how often things stand on the floor, the nearer the larger, where the ground has a floor.
        restyle_share: how often a thing is redrawn in another manner; for training alone.
    """

    size_hw: tuple[int, int] = (256, 256)
    objects: tuple[int, int] = (3, 9)
    long_side: tuple[float, float] = (24.0, 140.0)
    min_visible: float = 0.45
    min_pixels: int = 60
    repeat_share: float = 0.3
    relative_share: float = 0.08
    standing_share: float = 0.85
    restyle_share: float = 0.0

    def __post_init__(self) -> None:
        if min(self.size_hw) < 32:
            raise InputError(f"size_hw must be at least 32 pixels a side, got {self.size_hw}")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise InputError(f"objects must be at least 1 and in ascending order, got {self.objects}")
        if not 0 < self.min_visible <= 1:
            raise InputError(f"min_visible must be above 0 and at most 1, got {self.min_visible}")
        if not 8 <= self.long_side[0] <= self.long_side[1]:
            raise InputError(f"long_side must be at least 8 pixels and in ascending order, got {self.long_side}")


@dataclass(frozen=True, eq=False)
class Scene:
    """One scene; N things, the earlier ones behind the later ones.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, visible pixels; they do not overlap.
        boxes_xyxy: (N, 4) float32, tight around the masks, in pixel edges.
        labels: (N,) int64, each an index into the world's names.
        sprites: N drawings (style and row).
        colours: (N, 11) float32, shares of `colours.WORDS` among the visible pixels, as they look in the picture.
        ground: what a caption says of the ground; may be empty.
    """

    image: np.ndarray
    masks: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    sprites: tuple[SpriteKey, ...]
    colours: np.ndarray
    ground: str


class StickerWorld:
    """Draws scenes. The same generator state gives the same scene.

    Args:
        pack: the drawings.
        vocabulary: the names; labels are indices into them. Names that no style draws are never shown.
        grounds: what scenes lie on.
        styles: artists to draw with.
        config: what scenes look like.

    Raises:
        InputError: a style is not in the pack, no name is drawn by any of them, or a held-out style is mixed with
            training styles.
    """

    def __init__(
        self,
        pack: SpritePack,
        vocabulary: StickerVocabulary,
        grounds: GroundSource,
        styles: Sequence[str] = TRAIN_STYLES,
        config: SceneConfig | None = None,
    ) -> None:
        self.pack, self.vocabulary, self.grounds = pack, vocabulary, grounds
        self.styles, self.config = tuple(styles), config or SceneConfig()
        missing = [style for style in styles if style not in pack.styles]
        if missing:
            raise InputError(f"the sprite pack has no style {missing[0]!r}; it has {', '.join(pack.styles)}")
        held_out = [style for style in styles if style in HELD_OUT_STYLES]
        if held_out and len(held_out) < len(self.styles):
            raise InputError(f"the style {held_out[0]!r} is held out: it cannot be mixed with styles trained on")
        if held_out and not set(grounds.painters) <= set(EVALUATION_PAINTERS):
            raise InputError(f"the style {held_out[0]!r} is held out for evaluation: use evaluation grounds with it")
        self._drawings: list[list[list[SpriteKey]]] = []
        for name in vocabulary.names:
            by_style = pack.sprites_of(name)
            self._drawings.append([by_style[style] for style in self.styles if style in by_style])
        self.labels = np.flatnonzero([bool(drawings) for drawings in self._drawings])
        if not len(self.labels):
            raise InputError(f"none of the {len(vocabulary.names)} names is drawn by {', '.join(self.styles)}")
        by_family: dict[str, list[int]] = {}
        for label in self.labels.tolist():
            by_family.setdefault(vocabulary.families[label], []).append(label)
        self._relatives = {
            label: [other for other in alike if other != label] for alike in by_family.values() for label in alike
        }

    def draw(self, rng: np.random.Generator) -> Scene:
        """Draw one scene, with at least one thing in it."""
        canvas = _Canvas(self.grounds.draw(rng, self.config.size_hw), self.config)
        horizon = canvas.ground.horizon
        standing = horizon is not None and rng.random() < self.config.standing_share
        labels = self._choose_labels(rng)
        crowd = [self._stand(rng, horizon) if standing else self._float(rng) for _ in labels]
        if standing:
            crowd.sort(key=lambda place: place[2])
        _scatter_clutter(rng, canvas.image)
        for label, (long_side, degrees, foot) in zip(labels, crowd, strict=True):
            key = self.choose_drawing(rng, label)
            patch = self.render(rng, key, long_side, degrees)
            canvas.try_to_place(rng, patch, label, key, foot)
        for _ in range(_PATIENCE):
            if canvas.labels:
                break
            self._place_one(rng, canvas)
        else:
            raise InputError(f"no thing can be placed so that enough of it is seen: {self.config}")
        if rng.random() < 0.15:
            canvas.try_to_cover(rng)
        return canvas.finish(rng)

    def choose_drawing(self, rng: np.random.Generator, label: int) -> SpriteKey:
        """One drawing of a name: each style that draws it is as likely."""
        styles = self._drawings[label]
        drawings = styles[int(rng.integers(len(styles)))]
        return drawings[int(rng.integers(len(drawings)))]

    def render(self, rng: np.random.Generator, key: SpriteKey, long_side: float, degrees: float) -> np.ndarray:
        """One drawing made ready to be pasted, see `render_sprite`."""
        sprite = self.pack.sprite(key, long_side)
        return render_sprite(rng, sprite, long_side, degrees, restyle_share=self.config.restyle_share)

    def _choose_labels(self, rng: np.random.Generator) -> list[int]:
        low, high = self.config.objects
        chosen: list[int] = []
        for _ in range(int(rng.integers(low, high + 1))):
            luck, label = rng.random(), int(self.labels[rng.integers(len(self.labels))])
            if chosen and luck < self.config.repeat_share + self.config.relative_share:
                label = chosen[int(rng.integers(len(chosen)))]
                relatives = self._relatives[label]
                if luck >= self.config.repeat_share and relatives:
                    label = relatives[int(rng.integers(len(relatives)))]
            chosen.append(label)
        return chosen

    def _float(self, rng: np.random.Generator) -> tuple[float, float, float | None]:
        """(long side, degrees, None) of a thing anywhere: sizes spread evenly by their logarithm."""
        low, high = np.log(self.config.long_side)
        degrees = rng.uniform(-180, 180) if rng.random() < 0.1 else rng.normal(0, 14)
        return float(np.exp(rng.uniform(low, high))), float(degrees), None

    def _stand(self, rng: np.random.Generator, horizon: float | None) -> tuple[float, float, float]:
        """(long side, degrees, foot) of a thing on the floor: the lower its foot, the larger it is."""
        height = self.config.size_hw[0]
        nearness = float(rng.uniform(0.06, 1.0))
        foot = ((horizon or 0.0) + (1 - (horizon or 0.0)) * nearness) * height
        low, high = self.config.long_side
        long_side = high * nearness**0.75 * float(np.exp(rng.normal(-0.15, 0.25)))
        return float(np.clip(long_side, low, high)), float(rng.normal(0, 4)), foot

    def _place_one(self, rng: np.random.Generator, canvas: _Canvas) -> None:
        long_side, degrees, _ = self._float(rng)
        label = int(self.labels[rng.integers(len(self.labels))])
        key = self.choose_drawing(rng, label)
        patch = self.render(rng, key, long_side, degrees)
        canvas.try_to_place(rng, patch, label, key, None)


class _Canvas:
    """A picture in the making, and who owns each of its pixels."""

    def __init__(self, ground: Ground, config: SceneConfig) -> None:
        self.ground, self.config = ground, config
        self.image = np.ascontiguousarray(ground.image).copy()
        self.owner = np.full(config.size_hw, -1, np.int16)
        self.whole: list[int] = []
        self.visible: list[int] = []
        self.labels: list[int] = []
        self.sprites: list[SpriteKey] = []

    def try_to_place(
        self, rng: np.random.Generator, patch: np.ndarray, label: int, key: SpriteKey, foot: float | None
    ) -> bool:
        """Paste a thing where it hides no earlier one too much; give up after some tries."""
        inside = solid(patch)
        total = int(inside.sum())
        if total < self.config.min_pixels:
            return False
        height, width = self.config.size_hw
        for _ in range(5):
            slack_x, slack_y = width - 0.6 * patch.shape[1], height - 0.6 * patch.shape[0]  # a fifth may be cut off
            left = round(-0.2 * patch.shape[1] + rng.random() * slack_x)
            top = round(-0.2 * patch.shape[0] + rng.random() * slack_y)
            top = top if foot is None else round(foot) - patch.shape[0]
            area, seen = overlap(self.config.size_hw, patch.shape[:2], left, top)
            covered = np.bincount(self.owner[area][inside[seen]] + 1, minlength=len(self.labels) + 1)
            shown = int(inside[seen].sum())
            if shown >= max(self.config.min_pixels, self.config.min_visible * total) and self._bearable(covered[1:]):
                self._shade(rng, patch, left, top, foot is not None)
                paste(self.image, patch, left, top)
                self.owner[area][inside[seen]] = len(self.labels)
                self.visible = [count - int(lost) for count, lost in zip(self.visible, covered[1:], strict=True)]
                self.visible.append(shown)
                self.whole.append(total)
                self.labels.append(label)
                self.sprites.append(key)
                return True
        return False

    def try_to_cover(self, rng: np.random.Generator) -> None:
        """Lay a nameless bar or disc over the scene, if it hides nothing too much."""
        height, width = self.config.size_hw
        shape = np.zeros((height, width), np.uint8)
        first, second = (tuple(int(value) for value in rng.uniform(0, 1, 2) * (width, height)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.line(shape, first, second, 255, int(rng.integers(4, 12)))
        else:
            cv2.circle(shape, first, int(rng.uniform(0.04, 0.12) * width), 255, -1)
        inside = shape > 0
        covered = np.bincount(self.owner[inside] + 1, minlength=len(self.labels) + 1)[1:]
        if self._bearable(covered):
            self.image[inside] = rng.integers(0, 256, 3)
            self.owner[inside] = -1
            self.visible = [count - int(lost) for count, lost in zip(self.visible, covered, strict=True)]

    def finish(self, rng: np.random.Generator) -> Scene:
        """Blur or add noise now and then, and read the annotations off."""
        luck = rng.random()
        if luck < 0.15:
            self.image = cv2.GaussianBlur(self.image, (0, 0), float(rng.uniform(0.3, 0.9)))
        elif luck < 0.4:
            noise = rng.normal(0, rng.uniform(2, 9), self.image.shape).astype(np.float32)
            self.image = np.clip(self.image + noise, 0, 255).astype(np.uint8)
        masks = self.owner[None] == np.arange(len(self.labels), dtype=np.int16)[:, None, None]
        return Scene(
            image=self.image,
            masks=masks,
            boxes_xyxy=boxes_xyxy_of_masks(masks),
            labels=np.asarray(self.labels, dtype=np.int64),
            sprites=tuple(self.sprites),
            colours=np.stack([colour_shares(self.image[mask]) for mask in masks]),
            ground=self.ground.phrase,
        )

    def _bearable(self, covered: np.ndarray) -> bool:
        """Would every earlier thing still be seen well enough?"""
        return all(
            count - lost >= max(self.config.min_pixels, self.config.min_visible * whole)
            for count, lost, whole in zip(self.visible, covered, self.whole, strict=True)
            if lost
        )

    def _shade(self, rng: np.random.Generator, patch: np.ndarray, left: int, top: int, on_floor: bool) -> None:
        """A shadow: flat below what stands, cast to one side by what floats, or none."""
        if on_floor:
            shadow = contact_shadow(max(6, round(patch.shape[1] * 0.95)), float(rng.uniform(0.35, 0.7)))
            start = left + (patch.shape[1] - shadow.shape[1]) // 2
            darken(self.image, shadow, start, top + patch.shape[0] - round(shadow.shape[0] * 0.6))
        elif rng.random() < 0.4:
            blur = float(rng.uniform(0.8, 4.0))
            shadow, margin = drop_shadow(patch[..., 3], blur, float(rng.uniform(0.2, 0.6)))
            shift = rng.integers(-5, 6, 2)
            darken(self.image, shadow, left - margin + int(shift[0]), top - margin + abs(int(shift[1])))


def _scatter_clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """Small nameless specks, sticks and blobs on the ground of every other scene."""
    if rng.random() < 0.5:
        return
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(3, 30))):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        x, y = int(rng.integers(width)), int(rng.integers(height))
        reach = int(rng.integers(2, 14))
        if rng.random() < 0.5:
            cv2.ellipse(
                image, (x, y), (reach, max(1, reach // 2)), int(rng.integers(180)), 0, 360, colour, -1, cv2.LINE_AA
            )
        else:
            end = (x + int(rng.integers(-reach, reach + 1)), y + int(rng.integers(-reach, reach + 1)))
            cv2.line(image, (x, y), end, colour, int(rng.integers(1, 3)), cv2.LINE_AA)
