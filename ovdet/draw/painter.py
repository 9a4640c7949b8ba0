"""Draw what was found: translucent masks with an outline, boxes, and labels that never leave the picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ovdet.draw.fonts import Text, typeset
from ovdet.results import Detections

PALETTE_RGB = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
    (136, 34, 85),
    (153, 153, 51),
    (51, 34, 136),
    (68, 170, 153),
    (221, 204, 119),
)
"""Told apart by most colour-blind eyes: Okabe and Ito's seven colours, then five of Paul Tol's muted ones."""

_MASK_OPACITY = 0.4
_SMALLEST_FONT = 9
_MOST_LETTERS = 4
"""Letters for each pixel of a picture's width; what comes after has no room in any label."""


def draw_detections(image_rgb: np.ndarray, detections: Detections) -> np.ndarray:
    """Draw boxes, masks if there are any, and labels with scores; the best detection lies on top.

    Args:
        image_rgb: (H, W, 3) uint8 RGB, of the detections' size.
        detections: of this picture.

    Returns:
        (H, W, 3) uint8 RGB, a copy.

    Raises:
        ValueError: the picture is not of that shape, dtype or size.
    """
    if image_rgb.dtype != np.uint8 or image_rgb.shape != (*detections.size_hw, 3):
        raise ValueError(
            f"image_rgb must be ({detections.size_hw[0]}, {detections.size_hw[1]}, 3) uint8 like the detections, "
            f"got {image_rgb.shape} {image_rgb.dtype}"
        )
    canvas = np.array(image_rgb)
    style = Style.for_size(detections.size_hw)
    order = range(len(detections) - 1, -1, -1)
    for index in order:
        color = color_of_label(int(detections.labels[index]))
        if detections.rles is not None:
            _paint_mask(canvas, detections.mask(index), color, style.line)
    for index in order:
        _paint_box(canvas, detections.boxes_xyxy[index], color_of_label(int(detections.labels[index])), style.line)
    return _paint_labels(canvas, detections, style)


def color_of_label(label: int) -> tuple[int, int, int]:
    """RGB of a label, the same in every picture."""
    return PALETTE_RGB[label % len(PALETTE_RGB)]


@dataclass(frozen=True)
class Style:
    """Sizes that suit a picture: width of lines and height of letters, in pixels."""

    line: int
    font: int

    @classmethod
    def for_size(cls, size_hw: tuple[int, int]) -> Style:
        """Grow with the picture, so that a drawn picture can be read when it is shown whole."""
        height, width = size_hw
        scale = min(max(height, width) / 640, min(height, width) / 160)
        return cls(line=max(1, round(2.4 * scale)), font=max(_SMALLEST_FONT, round(15 * scale)))


def _paint_mask(canvas: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], line: int) -> None:
    """Tint the mask and outline it; works in the mask's own corner of the picture."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width == 0:
        return
    window = np.s_[top : top + height, left : left + width]
    part, inside = canvas[window], mask[window]
    tinted = part[inside] * (1 - _MASK_OPACITY) + np.array(color) * _MASK_OPACITY
    part[inside] = np.rint(tinted).astype(np.uint8)
    padded = np.pad(inside.view(np.uint8), 1)
    outlines, _ = cv2.findContours(padded, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, color, line, cv2.LINE_AA, offset=(left - 1, top - 1))


def _paint_box(canvas: np.ndarray, box_xyxy: np.ndarray, color: tuple[int, int, int], line: int) -> None:
    """Draw a box with its line inside the picture, also where the box touches the border."""
    height, width = canvas.shape[:2]
    inset = line // 2
    x1, y1, x2, y2 = np.rint(box_xyxy).astype(int)  # on pixel edges: the last pixel inside is x2 - 1
    left, right = np.clip([x1, x2 - 1], min(inset, width - 1), max(width - 1 - inset, 0)).tolist()
    top, bottom = np.clip([y1, y2 - 1], min(inset, height - 1), max(height - 1 - inset, 0)).tolist()
    cv2.rectangle(canvas, (left, top), (right, bottom), color, line)


def _paint_labels(canvas: np.ndarray, detections: Detections, style: Style) -> np.ndarray:
    """Write name and score at each box, the best detection first to choose its place and last to be painted."""
    size_hw = detections.size_hw
    taken: list[tuple[int, int, int, int]] = []
    placed = []
    for index, name in enumerate(detections.names):
        text = fit_text(name, f"{detections.scores[index]:.2f}", style.font, size_hw)
        if text is not None:
            place_xyxy = place_label(text, detections.boxes_xyxy[index], size_hw, style, taken)
            taken.append(place_xyxy)
            placed.append((text, place_xyxy, color_of_label(int(detections.labels[index]))))
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for text, (x1, y1, x2, y2), color in reversed(placed):
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
        left, top, _, _ = text.box_xyxy
        pad = _padding(text)
        pen.text((x1 + pad - left, y1 + pad - top), text.text, font=text.font, fill=_ink_on(color))
    return np.asarray(picture).copy()


def fit_text(name: str, score: str, font_size: int, size_hw: tuple[int, int]) -> Text | None:
    """Typeset "name score" so that it fits into the picture: smaller, then cut, then without score, then not at all.

    Args:
        name: of the class.
        score: as text.
        font_size: in pixels, to start from.
        size_hw: of the picture.
    """
    name = name[: _MOST_LETTERS * size_hw[1]]
    sizes = sorted({font_size, (font_size + _SMALLEST_FONT) // 2, _SMALLEST_FONT}, reverse=True)
    for size in sizes:
        text = typeset(f"{name} {score}", size)
        if _fits(text, size_hw):
            return text
    for tail in (f" {score}", ""):
        longest = _longest_cut(name, tail, size_hw)
        if longest is not None:
            return longest
    return None


def place_label(
    text: Text,
    box_xyxy: np.ndarray,
    size_hw: tuple[int, int],
    style: Style,
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Choose where a label goes: above its box, inside, or below; where free, and never out of the picture.

    Args:
        text: that fits into the picture.
        box_xyxy: (4,), pixels.
        size_hw: of the picture.
        style: for the width of the box's line.
        taken: places of labels that stand already.

    Returns:
        x1, y1, x2, y2 of the label's background in whole pixels.
    """
    width, height = _label_size(text)
    x1, y1, x2, y2 = (round(float(edge)) for edge in box_xyxy)
    candidates = [(x1, y1 - height), (x1, y1), (x1, y2), (x1, y2 - height), (x2 - width, y1 - height), (x2 - width, y1)]
    places = []
    for left, top in candidates:
        left = min(max(left, 0), size_hw[1] - width)
        top = min(max(top, 0), size_hw[0] - height)
        places.append((left, top, left + width, top + height))
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _longest_cut(name: str, tail: str, size_hw: tuple[int, int]) -> Text | None:
    """The most of a name that fits with a tail behind; None if not even its first letter does."""
    best, least, most = None, 1, len(name) - (tail != "")
    while least <= most:
        length = (least + most) // 2
        ellipsis = "" if length == len(name) else "…"
        text = typeset(f"{name[:length].rstrip()}{ellipsis}{tail}", _SMALLEST_FONT)
        if _fits(text, size_hw):
            best, least = text, length + 1
        else:
            most = length - 1
    return best


def _padding(text: Text) -> int:
    return max(1, round(getattr(text.font, "size", 10) / 6))


def _label_size(text: Text) -> tuple[int, int]:
    left, top, right, bottom = text.box_xyxy
    pad = _padding(text)
    return right - left + 2 * pad, bottom - top + 2 * pad


def _fits(text: Text, size_hw: tuple[int, int]) -> bool:
    width, height = _label_size(text)
    return width <= size_hw[1] and height <= size_hw[0]


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def _ink_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out (luminance of ITU-R BT.601)."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
