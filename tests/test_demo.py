import json
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovdet.cli.sentences import read_queries
from ovdet.media import VideoReader, read_picture
from ovdet.results import Detections

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo"
PICTURES = sorted(DEMO.glob("*.jpg"))


class LeftHalf:
    """Finds the first name in the left half of every picture: enough to see that a script draws what was found."""

    name = "left-half"
    asked: list

    def __init__(self):
        self.asked = []

    def embed(self, names):
        return torch.zeros(len(names), 1)

    def predict(self, images, names, class_embeddings, **options):
        self.asked += [(image.shape, tuple(names)) for image in images]
        return [
            Detections([(0, 0, image.shape[1] / 2, image.shape[0])], [0.8], [0], names, image.shape[:2])
            for image in images
        ]


@pytest.fixture
def predictor(monkeypatch, tmp_path):
    predictor = LeftHalf()
    monkeypatch.setattr("ovdet.detector.load_predictor", lambda model, device: predictor)
    monkeypatch.chdir(tmp_path)
    return predictor


def run_script(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(str(DEMO / script), run_name="__main__")


def test_pictures_are_small_and_their_licence_is_told():
    told = (DEMO / "README.md").read_text()
    assert len(PICTURES) == 5
    for file in [*PICTURES, DEMO / "video.mp4"]:
        assert f"| `{file.name}` |" in told
    for file in PICTURES:
        assert file.stat().st_size <= 150_000
        image = read_picture(file)
        assert min(image.shape[:2]) >= 240
        assert image.std() > 20


def test_video_is_small_and_moves():
    assert (DEMO / "video.mp4").stat().st_size <= 400_000
    with VideoReader(DEMO / "video.mp4") as video:
        frames = [frame.image for frame in video]
        assert video.fps == pytest.approx(12)
    assert len(frames) == 48
    assert frames[0].shape == (240, 360, 3)
    moved = [np.abs(one.astype(int) - other).mean() for one, other in pairwise(frames)]
    assert min(moved[k] for k in (8, 24, 40)) > 0.3  # the middle of each scene
    assert max(moved) > 20  # a cut


def test_video_is_what_its_script_makes():
    make = runpy.run_path(str(ROOT / "tools" / "data" / "make_demo_video.py"), run_name="made")["make_frames"]
    made, again = list(make()), list(make())
    with VideoReader(DEMO / "video.mp4") as video:
        kept = [frame.image for frame in video]
    assert len(made) == len(kept) == len(again)
    for frame, twin, other in zip(made, again, kept, strict=True):
        assert np.array_equal(frame, twin)
        assert np.abs(frame.astype(int) - other).mean() < 8  # the codec's loss


def test_rocket_rises():
    script = runpy.run_path(str(ROOT / "tools" / "data" / "make_demo_video.py"), run_name="made")
    frames = list(script["make_frames"]())[32:]
    columns = slice(170, 190)  # where the rocket stands: the only bright thing above the lamps
    tops = [int(np.argmax(frame[:180, columns].max(axis=(1, 2)) > 150)) for frame in frames]
    assert all(later <= earlier + 1 for earlier, later in pairwise(tops))
    assert tops[0] - tops[-1] > 50


def test_every_question_about_the_scenes_has_its_answer_among_what_they_show():
    shown = json.loads((DEMO / "stickers/expected.json").read_text())
    rows = [json.loads(line) for line in (DEMO / "stickers/questions.jsonl").read_text().splitlines()]
    for row, (source, expression) in zip(rows, read_queries(DEMO / "stickers/questions.jsonl"), strict=True):
        assert (source, expression) == (row["source"], row["expression"]) and (ROOT / source).is_file()
        names = [thing["name"] for thing in shown[Path(source).name]]
        assert row["answer"] in names if row["answer"] else all(name not in expression for name in names)
    asked = {(Path(row["source"]).name, row["answer"]) for row in rows}
    assert {(name, thing["name"]) for name, things in shown.items() for thing in things} <= asked


def test_image_demo_draws_the_default_picture(monkeypatch, predictor, tmp_path, capsys):
    run_script(monkeypatch, "image_demo.py")
    assert predictor.asked == [((400, 600, 3), ("coffee cup", "saucer", "spoon", "cat"))]
    assert "coffee cup: 0.80" in capsys.readouterr().out
    change = np.abs(read_picture(tmp_path / "image_demo.jpg").astype(int) - read_picture(DEMO / "coffee.jpg"))
    assert change[:, :290].mean() > 5 > change[:, 320:].mean()


def test_image_demo_takes_a_picture_and_names(monkeypatch, predictor, tmp_path):
    Image.new("RGB", (64, 48), "gray").save(tmp_path / "mine.png")
    run_script(monkeypatch, "image_demo.py", tmp_path / "mine.png", "dog", "beach umbrella")
    assert predictor.asked == [((48, 64, 3), ("dog", "beach umbrella"))]


def test_video_demo_draws_every_frame(monkeypatch, predictor, tmp_path):
    run_script(monkeypatch, "video_demo.py")
    assert len(predictor.asked) == 48
    with VideoReader(tmp_path / "video_demo.mp4") as video:
        assert sum(1 for _ in video) == 48
        assert video.fps == pytest.approx(12)
