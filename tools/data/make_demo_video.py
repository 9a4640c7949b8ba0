"""Make the demo's short video out of the demo's photographs: a zoom, a pan, and a rocket that lifts off.

    python tools/data/make_demo_video.py --out demo/video.mp4

The frames are the same at every run; the file's bytes depend on OpenCV's encoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ovdet.media import write_video

DEMO = Path(__file__).parents[2] / "demo"
FRAME_HW = (240, 360)
FPS = 12.0
FRAMES_A_SCENE = 16
ROCKET_XYXY = (300, 120, 345, 406)
"""Around the rocket, down to its table, in pixels of demo/rocket.jpg."""


def make_frames(demo: Path = DEMO) -> Iterator[np.ndarray]:
    """Yield 48 frames, (240, 360, 3) uint8 RGB, four seconds of them."""
    coffee, tiger, rocket = (_read(demo / f"{name}.jpg") for name in ("coffee", "tiger", "rocket"))
    height, width = coffee.shape[:2]
    for step in _steps():
        yield _view(coffee, (width / 2 - 30 * step, height / 2), width * (1 - 0.35 * step))
    height, width = tiger.shape[:2]
    for step in _steps():
        yield _view(tiger, (width * (0.42 + 0.16 * step), height / 2), width * 0.8)
    launch = _LiftOff(rocket)
    height, width = rocket.shape[:2]
    for step in _steps():
        yield _view(launch.at(130 * step**2), (width / 2, height / 2), width)


class _LiftOff:
    """The rocket as a cut-out that moves up in front of a sky without it."""

    def __init__(self, picture: np.ndarray) -> None:
        x1, y1, x2, y2 = ROCKET_XYXY
        hole = np.zeros(picture.shape[:2], np.uint8)
        hole[y1:y2, x1:x2] = 255
        self.sky = cv2.inpaint(picture, hole, 5, cv2.INPAINT_TELEA)
        self.rocket = picture[y1:y2, x1:x2].astype(np.float32)
        other = np.abs(self.rocket - self.sky[y1:y2, x1:x2]).max(axis=2)  # (h, w): what is not sky
        self.alpha = np.clip((cv2.GaussianBlur(other, (0, 0), 1.0) - 12) / 24, 0, 1)[:, :, None]

    def at(self, height: float) -> np.ndarray:
        """The scene with the rocket `height` pixels above its table; it may leave the picture at the top."""
        x1, y1, x2, y2 = ROCKET_XYXY
        up = round(height)
        cut = max(0, up - y1)
        scene = self.sky.astype(np.float32)
        place = scene[y1 - up + cut : y2 - up, x1:x2]
        alpha = self.alpha[cut:]
        place[:] = alpha * self.rocket[cut:] + (1 - alpha) * place
        return scene.astype(np.uint8)


def _steps() -> np.ndarray:
    return np.linspace(0, 1, FRAMES_A_SCENE)


def _read(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _view(picture: np.ndarray, center_xy: tuple[float, float], width: float) -> np.ndarray:
    """Cut a window of the frame's proportions, no larger than the picture and inside it, and scale it to a frame."""
    limits = np.array(picture.shape[1::-1], dtype=float)
    out_height, out_width = FRAME_HW
    size = np.array([width, width * out_height / out_width])
    size *= min(1.0, *(limits / size))
    corner = np.clip(np.array(center_xy) - size / 2, 0, limits - size)
    scale = out_width / size[0]
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    small = cv2.GaussianBlur(picture, (0, 0), 0.5 / scale) if scale < 0.8 else picture
    return cv2.warpAffine(
        small, matrix, (out_width, out_height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def main() -> None:
    """Write the video."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEMO / "video.mp4")
    options = parser.parse_args()
    with write_video(options.out, FPS) as video:
        for frame in make_frames():
            video.write(frame)


if __name__ == "__main__":
    main()
