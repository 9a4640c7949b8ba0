"""The demo's scenes: what is committed hangs together, and the script draws what it says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet.cli.vocabulary import parse_classes
from ovdet.data.stickers.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools" / "data"))

import make_demo_scenes as tool  # noqa: E402


@pytest.fixture(scope="module")
def content():
    return json.loads((tool.OUT / "expected.json").read_text())


def test_pictures_names_and_boxes_fit_together(content):
    asked = parse_classes(str(tool.OUT / "names.txt"))
    shown = {row["name"] for rows in content.values() for row in rows}
    assert shown < set(asked) <= set(load_vocabulary("75-25").names)
    assert {path.name for path in tool.OUT.glob("*.png")} == set(content) and len(content) == len(tool.SCENES)
    for name, rows in content.items():
        width, height = Image.open(tool.OUT / name).size
        assert (height, width) == tool.SIZE_HW and len(rows) >= 4
        for row in rows:
            left, top, right, bottom = row["box_xyxy"]
            assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_the_licences_are_told():
    readme, notice = (ROOT / "demo/README.md").read_text(), (ROOT / "NOTICE").read_text()
    assert "Twemoji" in readme and "CC BY 4.0" in readme and "Twemoji" in notice
    for artist in ("Google", "Microsoft", "Mozilla", "EmojiTwo"):
        assert artist in notice


def test_it_writes_what_was_drawn(tmp_path, monkeypatch):
    class World:
        vocabulary = load_vocabulary("75-25")

        def draw(self, rng):
            image = rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)
            label = self.vocabulary.names.index("fox")
            return type(
                "S", (), {"image": image, "labels": np.array([label]), "boxes_xyxy": np.array([[1.0, 2, 5, 6]])}
            )

    tool.write_demo(World(), tmp_path)
    again = json.loads((tmp_path / "expected.json").read_text())
    assert again["scene1.png"] == [{"name": "fox", "box_xyxy": [1.0, 2.0, 5.0, 6.0]}]
    assert len(again) == len(list(tmp_path.glob("*.png"))) == len(tool.SCENES)
    assert "fox" in (tmp_path / "names.txt").read_text().splitlines()


def test_a_missing_pack_is_one_sentence(tmp_path, capsys):
    assert tool.main(["--pack", str(tmp_path), "--grounds", str(tmp_path)]) == 2
    assert "no sprite pack" in capsys.readouterr().err
