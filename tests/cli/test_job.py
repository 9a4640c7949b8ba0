"""Names of outputs, and a video beside its own frames."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from ovdet.cli.job import StemBook
from ovdet.media import write_video


@pytest.mark.parametrize("order", list(itertools.permutations([("clip", True), ("Clip_000001", False)])))
def test_no_source_takes_the_name_of_a_video_s_frame(order):
    book = StemBook()
    chosen = {stem: book.claim(stem, video=video) for stem, video in order}
    frame = f"{chosen['clip']}_000001"
    assert frame.casefold() != chosen["Clip_000001"].casefold()
    assert sum(chosen[stem] == stem for stem, _ in order) == 1  # only the later one is renamed


def test_numbered_pictures_without_a_video_keep_their_names():
    book = StemBook()
    stems = ["clip", "clip_000001", "clip_000002", "clip_000001"]
    assert [book.claim(stem) for stem in stems] == ["clip", "clip_000001", "clip_000002", "clip_000001-2"]


def test_a_video_beside_its_frames_gets_labels_of_its_own(run_ovdet, tmp_path, paint):
    frames = [paint((64, 64), ("red", (5, 5, 30, 30))), np.full((64, 64, 3), 90, np.uint8)]
    (tmp_path / "in").mkdir()
    with write_video(tmp_path / "in/clip.mp4", 8) as writer:
        for frame in frames:
            writer.write(frame)
    Image.fromarray(frames[0]).save(tmp_path / "in/clip_000001.png")
    outcome = run_ovdet("detect", tmp_path / "in", "--classes", "red", "--format", "yolo", "--no-save")
    assert outcome.code == 0
    labels = tmp_path / "outputs/labels"
    assert sorted(os.listdir(labels)) == ["clip_000000.txt", "clip_000001-2.txt", "clip_000001.txt"]
    assert (labels / "clip_000001.txt").read_text() == "" and (labels / "clip_000001-2.txt").read_text()
