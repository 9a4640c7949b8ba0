"""The demo's examples and clip: what is committed hangs together, and the script draws what it says."""

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ovdet.data.stickers.grounds import evaluation_grounds
from ovdet.data.stickers.sprites import SpritePack
from ovdet.data.stickers.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools" / "data"))

import make_demo_examples as tool  # noqa: E402
import make_demo_scenes  # noqa: E402

HOME = tool.OUT / "examples"


def test_each_example_has_its_mask():
    for name in tool.THINGS:
        picture, mask = Image.open(HOME / f"{name}.jpg"), np.asarray(Image.open(HOME / f"{name}_mask.png"))
        assert picture.size == (256, 256) and mask.shape == (256, 256)
        assert set(np.unique(mask)) == {0, 255} and 0.03 < (mask > 0).mean() < 0.4
    assert {path.stem for path in HOME.glob("*.jpg")} == set(tool.THINGS)


def test_the_clip_begins_with_what_its_mask_shows():
    video = cv2.VideoCapture(str(HOME / "clip.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == tool.FRAMES
    found, frame = video.read()
    labels = np.asarray(Image.open(HOME / "clip_first.png"))
    assert found and frame.shape[:2] == labels.shape and set(np.unique(labels)) == {0, 1, 2}
    shades = [frame[labels == number].mean() for number in (1, 2)]
    assert shades[0] + 60 < shades[1], "a dark projector and a light newspaper"


def test_the_licences_are_told():
    readme = (ROOT / "demo/README.md").read_text()
    assert "Noto" in readme and "Apache" in readme


def test_it_writes_what_was_drawn(real_names_pack, tmp_path, monkeypatch):
    drawn = SpritePack(real_names_pack).sprites_of
    names = [name for name in load_vocabulary("75-25").names if drawn(name)]
    monkeypatch.setattr(tool, "THINGS", names[:1])
    monkeypatch.setattr(tool, "FRAMES", 3)
    monkeypatch.setattr(make_demo_scenes, "evaluation_grounds", lambda folder: evaluation_grounds())
    tool.write_demo(real_names_pack, tmp_path, tmp_path)
    picture, mask = (np.asarray(Image.open(tmp_path / f"{names[0]}{end}")) for end in (".jpg", "_mask.png"))
    assert picture.shape == (256, 256, 3) and mask.any()
    assert cv2.VideoCapture(str(tmp_path / "clip.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
