from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ovdet.data.davis import clip_folders, objects_of
from ovdet.data.stickers import clips
from ovdet.data.stickers.clips import draw_clip, write_clips
from ovdet.data.stickers.render import solid
from ovdet.errors import InputError


@pytest.fixture(scope="module")
def small_world(make_world):
    return make_world(size_hw=(64, 96), long_side=(20.0, 36.0))


def drawn(world, seed, **options):
    return list(draw_clip(world, np.random.default_rng(seed), **options))


def test_clips_repeat_and_differ(small_world):
    one, again, other = (drawn(small_world, seed, frames=5) for seed in (3, 3, 4))
    for (image, labels), (twin, its_labels) in zip(one, again, strict=True):
        assert np.array_equal(image, twin) and np.array_equal(labels, its_labels)
    assert not np.array_equal(one[0][0], other[0][0])
    assert one[0][0].shape == (64, 96, 3) and one[0][1].shape == (64, 96) and len(one) == 5


def test_labels_are_what_is_seen(small_world, monkeypatch):
    """Every patch is recorded as it is pasted and painted again, back to front."""
    pasted = []
    paste = clips.paste
    monkeypatch.setattr(clips, "paste", lambda canvas, *where: (pasted.append(where), paste(canvas, *where))[1])
    for seed in range(6):
        pasted.clear()
        stream = draw_clip(small_world, np.random.default_rng(seed), frames=4, things=(3, 3))
        for image, labels in stream:
            again = np.zeros((64 + 200, 96 + 200), np.uint8)
            for number, (patch, left, top) in enumerate(pasted[-3:], start=1):
                again[100 + top :, 100 + left :][: patch.shape[0], : patch.shape[1]][solid(patch)] = number
            np.testing.assert_array_equal(labels, again[100:-100, 100:-100])
            assert image.shape == (64, 96, 3)


def test_things_are_seen_at_first_and_move_a_little_at_a_time(small_world):
    for seed in range(4):
        frames = drawn(small_world, seed, frames=8, things=(1, 2))
        count = frames[0][1].max()
        assert set(np.unique(frames[0][1])) == set(range(count + 1)) and count in (1, 2)
        for (_, before), (_, after) in pairwise(frames):
            if count == 1 and (before > 0).any():
                where = [np.argwhere(labels > 0).mean(axis=0) for labels in (before, after)]
                assert np.abs(where[0] - where[1]).max() < 12
    assert any((drawn(small_world, seed, frames=2)[0][0] != drawn(small_world, seed)[1][0]).any() for seed in range(3))


def test_folders_are_those_of_mose(small_world, tmp_path):
    write_clips(tmp_path, small_world, 2, frames=3, things=(2, 2), seed=5)
    first, second = clip_folders(tmp_path)
    assert [path.name for path in first.frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert objects_of(first) == objects_of(second) == [1, 2]
    assert np.abs(first.image(0).astype(int) - second.image(0)).mean() > 1
    before = Path(first.frames[2]).read_bytes()
    write_clips(tmp_path, small_world, 1, frames=3, things=(2, 2), seed=5)
    assert Path(first.frames[2]).read_bytes() == before


def test_things_too_large_for_the_frame_are_refused(make_world, monkeypatch):
    monkeypatch.setattr(clips, "_PATIENCE", 4)
    world = make_world(size_hw=(64, 64), long_side=(200.0, 220.0))
    with pytest.raises(InputError, match="can be placed in frames of"):
        drawn(world, 0, things=(6, 6))
