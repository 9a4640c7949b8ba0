"""What an example is: a picture, and which of its pixels belong to which class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ovdet.errors import InputError
from ovdet.seggpt.colours import check_names
from ovdet.seggpt.mask_files import read_mask
from ovdet.seggpt.views import resize_picture

Colour = tuple[int, int, int]

MOST_COLOURS = 256
"""A mask with more is taken for a photograph or a lossy copy."""

FIRST_GREY = 64
"""Greys that soft edges leave reach up to here at least; numbers of classes beside 255 seldom do."""

IGNORED = 255
"""Of a palette mask: pixels that nobody labelled, as in Pascal VOC; they count as background."""


@dataclass(frozen=True, eq=False)
class Example:
    """A picture and its classes.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) integers: 0 for background, i + 1 for names[i].
        names: of the classes; each has pixels.

    Raises:
        InputError: shapes differ, a class is empty or a label has no name.
    """

    image: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_picture(self.image, "the picture of an example")
        names = check_names(tuple(self.names))
        labels = np.asarray(self.labels)
        if labels.shape != self.image.shape[:2]:
            raise InputError(_sizes_differ(labels.shape[:2], self.image.shape[:2]))
        used = np.unique(labels)
        if used[0] < 0 or used[-1] > len(names):
            raise InputError(f"labels must lie in 0..{len(names)}, got {used[0]} to {used[-1]}")
        empty = [name for index, name in enumerate(names) if index + 1 not in used]
        if empty:
            raise InputError(f"the mask of {empty[0]!r} is empty: an example must show what it is an example of")
        object.__setattr__(self, "labels", labels.astype(np.int32))
        object.__setattr__(self, "names", names)

    @classmethod
    def from_mask(cls, image: np.ndarray, mask: np.ndarray, name: str = "thing", *, resize: bool = False) -> Example:
        """One class.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) bool, or numbers: 0 and 1, or greys up to 255 of which those above 127 count.
            name: of the class.
            resize: bring a mask of another size to the picture's (nearest pixel) instead of refusing it.
        """
        mask = np.asarray(mask)
        if mask.ndim != 2:
            raise InputError(f"a binary mask must be (H, W), got {mask.shape}")
        if mask.dtype != bool:
            mask = mask == 1 if mask.size and mask.max() <= 1 else mask > 127
        return cls(image, _fitted(mask.astype(np.int32), image, resize), (name,))

    @classmethod
    def from_palette(
        cls,
        image: np.ndarray,
        indices: np.ndarray,
        names: Mapping[int, str] | Sequence[str] | None = None,
        *,
        resize: bool = False,
    ) -> Example:
        """Classes or objects by number, as in the masks of Pascal VOC and DAVIS; 0 is background, 255 ignored.

        Args:
            image: (H, W, 3) uint8 RGB.
            indices: (H, W) integers.
            names: of the numbers, or of 1, 2, ... in order; those without a pixel are left out. None: every number
                names itself.
            resize: as for `from_mask`.

        Raises:
            InputError: a number has no name.
        """
        indices = np.asarray(indices)
        if indices.ndim != 2 or not (np.issubdtype(indices.dtype, np.integer) or indices.dtype == bool):
            raise InputError(f"a palette mask must be (H, W) integers, got {indices.shape} {indices.dtype}")
        _check_sizes(indices, image, resize)
        used = [int(index) for index in np.unique(indices) if index not in (0, IGNORED)]
        if names is None:
            names = {index: str(index) for index in used}
        elif not isinstance(names, Mapping):
            names = dict(enumerate(names, start=1))
        unknown = [index for index in used if index not in names]
        if unknown:
            pixels = int((indices == unknown[0]).sum())
            raise InputError(
                f"the mask holds number {unknown[0]} ({pixels} pixels), which has no name; named are "
                f"{', '.join(str(index) for index in sorted(names)) or 'none'}"
            )
        return cls._of_parts(image, [(names[index], indices == index) for index in used], resize)

    @classmethod
    def from_colours(
        cls, image: np.ndarray, mask: np.ndarray, names: Mapping[Colour, str] | None = None, *, resize: bool = False
    ) -> Example:
        """Classes by colour; black is background.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask: (H, W, 3) uint8 RGB.
            names: of the colours; those without a pixel are left out. None: every colour is a class, "#rrggbb".
            resize: as for `from_mask`.

        Raises:
            InputError: a colour has no name; or, without names, there are too many to be classes, or some are only
                found along edges.
        """
        mask = np.asarray(mask)
        if mask.ndim != 3 or mask.shape[2] != 3 or mask.dtype != np.uint8:
            raise InputError(f"a colour mask must be (H, W, 3) uint8, got {mask.shape} {mask.dtype}")
        _check_sizes(mask, image, resize)
        codes = mask.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)  # (H, W)
        used = [int(code) for code in np.unique(codes) if code]
        if names is None:
            if len(used) > MOST_COLOURS:
                raise InputError(
                    f"the mask has {len(used)} colours, too many to be classes; save it without loss and without "
                    "smooth edges (PNG), or name its colours"
                )
            _check_strays(codes, used)
            known = {code: f"#{code:06x}" for code in used}
        else:
            known = {(red << 16) + (green << 8) + blue: name for (red, green, blue), name in names.items()}
        unknown = [code for code in used if code not in known]
        if unknown:
            row, column = (int(place[0]) for place in np.nonzero(codes == unknown[0]))
            raise InputError(
                f"the mask has {len(unknown)} colours without a name, the first #{unknown[0]:06x} at column {column}, "
                f"row {row}; named are {', '.join(f'#{code:06x}' for code in known) or 'none'}"
            )
        return cls._of_parts(image, [(known[code], codes == code) for code in used], resize)

    @classmethod
    def of(
        cls, image: np.ndarray, mask: np.ndarray, names: Sequence[str] | str | None = None, *, resize: bool = False
    ) -> Example:
        """Take a mask of whichever form it seems to be.

        (H, W) of bool, or of no numbers but 0 and 1, 0 and 255, or greys (many, or few beside more white, as soft edges
        leave them): one class. (H, W) of other small integers: a palette mask. (H, W, 3): greys are one class, else
        each colour is one. Where this guesses wrong, call `from_mask`, `from_palette` or `from_colours`.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask: see above.
            names: one name, or those of palette numbers 1, 2, ...; colours name themselves.
            resize: as for `from_mask`.
        """
        mask = np.asarray(mask)
        given = [names] if isinstance(names, str) else list(names or ())
        if mask.ndim == 3 and mask.shape[2] == 3 and (mask == mask[:, :, :1]).all():
            mask = mask[:, :, 0]
        if mask.ndim == 3:
            example = cls.from_colours(image, mask, resize=resize)
            if not given:
                return example
            if len(given) != len(example.names):
                raise InputError(
                    f"{_count(given, 'name')} for a mask of {_count(example.names, 'colour')} "
                    f"({', '.join(example.names[:8])}); give one for each, in this order"
                )
            return cls(image, example.labels, tuple(given))
        if _is_one_class(mask):
            if len(given) > 1:
                raise InputError(f"{len(given)} names for a mask of one class")
            return cls.from_mask(image, mask, given[0] if given else "thing", resize=resize)
        return cls.from_palette(image, mask, given or None, resize=resize)

    @classmethod
    def from_file(
        cls, image: np.ndarray, path: str | Path, names: Sequence[str] | str | None = None, *, resize: bool = False
    ) -> Example:
        """Read a mask file, in the form that the file says: palette, or one that `of` recognises.

        Raises:
            InputError: it cannot be read, or what `of` and `from_palette` refuse; the file is named.
        """
        values, palette = read_mask(path)
        try:
            if palette and not isinstance(names, str) and len(np.unique(values)) > 2:
                return cls.from_palette(image, values, names or None, resize=resize)
            return cls.of(image, values, names, resize=resize)
        except InputError as error:
            raise InputError(f"mask {path}: {error}") from error

    @classmethod
    def of_masks(cls, image: np.ndarray, masks: Sequence[tuple[str, np.ndarray]]) -> Example:
        """Several classes by (name, (H, W) bool) each; where they overlap, the smaller mask counts.

        Raises:
            InputError: there is none, or one is empty or hidden by smaller ones.
        """
        return cls._of_parts(image, sorted(masks, key=lambda pair: -int(pair[1].sum())), resize=False)

    @classmethod
    def joined(cls, examples: Sequence[Example]) -> Example | None:
        """Several examples of one picture as one; None if there are none."""
        if len(examples) < 2:
            return examples[0] if examples else None
        parts = [(name, example.only(name)) for example in examples for name in example.names]
        return cls.of_masks(examples[0].image, parts)

    @classmethod
    def _of_parts(cls, image: np.ndarray, parts: Sequence[tuple[str, np.ndarray]], resize: bool) -> Example:
        """Join masks; several of one name become one class."""
        if not parts:
            raise InputError("the mask is empty: an example must show what it is an example of")
        names = tuple(dict.fromkeys(name for name, _ in parts))
        labels = np.zeros(parts[0][1].shape, np.int32)
        for name, mask in parts:
            labels[mask] = names.index(name) + 1
        return cls(image, _fitted(labels, image, resize), names)

    def resized(self, size_hw: tuple[int, int]) -> Example:
        """The same as a network of that size sees it, whatever the shape: bicubic picture, labels by the nearest pixel.

        Raises:
            InputError: nothing is left of a class.
        """
        if self.image.shape[:2] == size_hw:
            return self
        labels = resize_labels(self.labels, size_hw)
        left = np.unique(labels)
        for index, name in enumerate(self.names, start=1):
            if index not in left:
                raise InputError(
                    f"the mask of {name!r} is too small: nothing of it is left at the {size_hw[1]}x{size_hw[0]} pixels "
                    "that the network sees; crop the example around it"
                )
        return Example(resize_picture(self.image, size_hw), labels, self.names)

    def only(self, name: str) -> np.ndarray:
        """The mask of one class, (H, W) bool."""
        mask: np.ndarray = self.labels == self.names.index(name) + 1
        return mask


def check_picture(image: np.ndarray, what: str) -> None:
    """Refuse what is not (H, W, 3) uint8.

    Raises:
        InputError: it is not.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"{what} must be (H, W, 3) uint8 RGB, got {got}")
    if image.size == 0:
        raise InputError(f"{what} has no pixels ({image.shape[1]}x{image.shape[0]})")


def _fitted(labels: np.ndarray, image: np.ndarray, resize: bool) -> np.ndarray:
    _check_sizes(labels, image, resize)
    return labels if labels.shape == image.shape[:2] else resize_labels(labels, (image.shape[0], image.shape[1]))


def _check_sizes(mask: np.ndarray, image: np.ndarray, resize: bool) -> None:
    """Refuse a mask of another size than its picture, before anything is said of what it holds.

    Raises:
        InputError: it is, and is not to be resized or has no pixels.
    """
    if mask.shape[:2] != image.shape[:2] and (not resize or mask.size == 0):
        raise InputError(_sizes_differ(mask.shape[:2], image.shape[:2]))


def _check_strays(codes: np.ndarray, used: Sequence[int]) -> None:
    """Refuse colours that are nowhere as large as 3x3 pixels beside others that are, as smooth edges leave them.

    Raises:
        InputError: there are some.
    """
    strays = [code for code in used if not cv2.erode((codes == code).astype(np.uint8), np.ones((3, 3))).any()]
    if strays and len(strays) < len(used):
        row, column = (int(place[0]) for place in np.nonzero(codes == strays[0]))
        raise InputError(
            f"{len(strays)} of the mask's {len(used)} colours are nowhere as large as 3x3 pixels, the first "
            f"#{strays[0]:06x} at column {column}, row {row}, as smooth edges leave them; save the mask without smooth "
            "edges, or name its colours (Example.from_colours)"
        )


def _is_one_class(mask: np.ndarray) -> bool:
    """Is (H, W) black and white rather than numbers of classes?

    Soft edges and lossy files leave greys beside the white; numbers of classes that reach as far up are no rarer
    than what nobody labelled.
    """
    if mask.dtype == bool:
        return True
    values, counts = np.unique(mask, return_counts=True)
    used = {int(value) for value in values}
    if used <= {0, 1} or used <= {0, IGNORED} or len(used) > MOST_COLOURS // 4:
        return True
    between, white = (values > 0) & (values < IGNORED), values == IGNORED
    is_grey = values[-1] == IGNORED and values[between][-1] >= FIRST_GREY
    return bool(is_grey and counts[white].sum() > counts[between].sum())


def resize_labels(labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) integers to another size, by the nearest pixel."""
    resized = Image.fromarray(labels.astype(np.int32)).resize(size_hw[::-1], Image.Resampling.NEAREST)
    return np.asarray(resized, dtype=np.int32)


def _count(things: Sequence[str], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _sizes_differ(mask_hw: Sequence[int], image_hw: Sequence[int]) -> str:
    return (
        f"the mask has {mask_hw[1]}x{mask_hw[0]} pixels and its picture {image_hw[1]}x{image_hw[0]}; "
        "give a mask of the same size, or ask for it to be resized"
    )
