import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovdet.data.stickers import sprites
from ovdet.data.stickers.vocabulary import load_vocabulary

SCRIPT = Path(__file__).parents[3] / "tools" / "data" / "make_stickers.py"


@pytest.fixture
def main():
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory):
    """Plain rectangles for all names of the small split, by one artist for training and one that is held out."""
    folder = tmp_path_factory.mktemp("pack")
    names = load_vocabulary("48-17").names
    artist = sprites.ArtistRecord("none", "1", "sha512-none", "the tests", "https://example.org", "CC0-1.0", "")
    rng = np.random.default_rng(0)
    pictures = []
    for _ in names:
        colour = np.array([*rng.integers(0, 256, 3), 255], np.uint8)
        pictures.append(np.full((128, int(rng.integers(60, 129)), 4), colour))
    rows = {}
    for style in ("noto", "openmoji"):
        rows[style] = sprites.write_sheet(folder, sprites.SpriteSheet(style, artist, names, names, tuple(pictures)))
    sprites.write_pack(folder, rows)
    return folder


def test_it_writes_a_data_set(main, tmp_path, pack_folder):
    common = ["--pack", str(pack_folder), "--images", "4", "--names", "48-17", "--side", "96"]
    assert main(["--out", str(tmp_path / "a"), "--split", "base", "--styles", "noto", *common]) == 0
    content = json.loads((tmp_path / "a" / "annotations.json").read_text())
    novel = {row["id"] for row in content["categories"] if row["split"] == "novel"}
    assert len(content["images"]) == 4 and len(content["categories"]) == 65 and len(novel) == 17
    assert not novel & {row["category_id"] for row in content["annotations"]}
    held_out = ["--styles", "openmoji", "--stream", "evaluation", *common]
    assert main(["--out", str(tmp_path / "b"), "--split", "all", *held_out]) == 0
    content = json.loads((tmp_path / "b" / "annotations.json").read_text())
    assert {row["style"] for row in content["annotations"]} == {"openmoji"}
    assert set(content["info"]["grounds"]) <= {"cells", "hills", "marble", "plaid"}


def test_photographs_become_grounds(main, tmp_path, pack_folder):
    (tmp_path / "photos").mkdir()
    for shade in range(12):
        Image.new("RGB", (50, 40), (shade, 0, 0)).save(tmp_path / "photos" / f"{shade}.png")
    common = ["--pack", str(pack_folder), "--images", "6", "--names", "48-17", "--styles", "noto", "--side", "96"]
    used = {}
    for stream in ("train", "evaluation"):
        more = ["--stream", stream, "--photographs", str(tmp_path / "photos")]
        assert main(["--out", str(tmp_path / stream), *common, *more]) == 0
        used[stream] = set(json.loads((tmp_path / stream / "annotations.json").read_text())["info"]["photographs"])
    assert len(used["train"] | used["evaluation"]) == 12 and not used["train"] & used["evaluation"]
    captions = (tmp_path / "train" / "captions.jsonl").read_text()
    assert "in a photograph" in captions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "--images must be at least 1"),
        (["--images", "1", "--styles", "openmoji"], "held-out styles are never trained on"),
        (["--images", "1", "--styles", "crayon"], "has no style 'crayon'"),
        (["--images", "1", "--styles", "noto", "--seed", "-4"], "must not be negative"),
        (["--images", "1", "--styles", "noto", "--side", "5"], "at least 32 pixels"),
        (["--images", "1", "--pack", "nowhere"], "nowhere is no sprite pack"),
    ],
)
def test_mistakes_are_told(main, tmp_path, pack_folder, capsys, arguments, message):
    assert main(["--out", str(tmp_path / "set"), "--pack", str(pack_folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert "Traceback" not in error and not (tmp_path / "set" / "annotations.json").exists()


def test_the_help_opens_with_a_command(main, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python tools/data/make_stickers.py --pack DIR" in capsys.readouterr().out
