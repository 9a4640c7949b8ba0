"""Tiny folders laid out like DAVIS 2017, YouTube-VOS and MOSE."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from ovdet.data.contexts import PictureContexts
from ovdet.data.davis import (
    ClipFrames,
    clip_folders,
    clip_stamp,
    davis_2017,
    objects_of,
    palette,
    read_answers,
    truth_frames,
    write_label_png,
    write_submission,
    youtube_vos,
)
from ovdet.data.segments import IGNORED, NOTHING
from ovdet.errors import InputError

SIZE_HW = (10, 20)


def labels_at(frame, *labels):
    """Object k is a column block that moves by a pixel a frame."""
    array = np.zeros(SIZE_HW, np.uint8)
    for label in labels:
        array[2:8, 5 * label - 4 + frame : 5 * label - 1 + frame] = label
    return array


def write_clip(images, maps, name, frames, objects, masks=None):
    (images / name).mkdir(parents=True)
    for frame in range(frames):
        Image.fromarray(np.full((*SIZE_HW, 3), 10 * frame, np.uint8)).save(images / name / f"{frame:05d}.jpg")
        if masks is None or frame in masks:
            write_label_png(maps / name / f"{frame:05d}.png", labels_at(frame, *(objects(frame))))


@pytest.fixture
def davis(tmp_path):
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("dogs\nbike\n")
    for name, objects in (("bike", lambda _: (1,)), ("dogs", lambda _: (1, 2)), ("other", lambda _: (1,))):
        write_clip(tmp_path / "JPEGImages" / "480p", tmp_path / "Annotations" / "480p", name, 4, objects)
    return tmp_path


def test_davis_2017(davis):
    clips = davis_2017(davis)
    assert [clip.name for clip in clips] == ["dogs", "bike"] and len(clips[0].frames) == 4
    assert objects_of(clips[0]) == [1, 2] and objects_of(clips[1]) == [1]
    assert truth_frames(clips[0]) == [1, 2], "the first and the last frame are not scored"
    prompts = clips[0].prompts()
    assert list(prompts) == [0] and set(prompts[0]) == {1, 2}
    assert np.array_equal(prompts[0][2], labels_at(0, 2) == 2)
    assert clips[0].image(3).mean() == pytest.approx(30, abs=1)
    stamp = clip_stamp(clips, "davis-2017 val")
    digest = stamp.pop("clips_sha256")
    assert stamp == {"data": "davis-2017 val", "clips": 2, "frames": 8} and len(digest) == 64
    assert clip_stamp(clips[:1], "davis-2017 val")["clips_sha256"] != digest


def test_the_palette_is_that_of_pascal_voc():
    rows = np.asarray(palette()).reshape(256, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128)}
    known |= {8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {label: tuple(rows[label].tolist()) for label in known} == known
    assert len(np.unique(rows, axis=0)) == 256


def test_label_pictures_survive_writing(tmp_path):
    labels = np.random.default_rng(0).integers(0, 256, (9, 7))
    write_label_png(tmp_path / "deep" / "a.png", labels)
    with Image.open(tmp_path / "deep" / "a.png") as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image), labels)
        assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    with pytest.raises(InputError, match=r"in 0\.\.255"):
        write_label_png(tmp_path / "b.png", labels + 1)


def youtube(root):
    write_clip(root / "JPEGImages", root / "Annotations", "0a", 5, lambda frame: (1, 2) if frame >= 2 else (1,), {0, 2})
    write_clip(root / "JPEGImages", root / "Annotations", "0b", 4, lambda _: (1,), {1})
    frames = [f"{frame:05d}" for frame in range(5)]
    videos = {
        "0b": {"objects": {"1": {"category": "ape", "frames": frames[1:4]}}},
        "0a": {
            "objects": {
                "1": {"category": "dog", "frames": frames},
                "2": {"category": "cat", "frames": frames[2:]},
            }
        },
    }
    (root / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


def test_youtube_vos_gives_objects_where_they_first_appear(tmp_path):
    clips = youtube_vos(youtube(tmp_path))
    assert [clip.name for clip in clips] == ["0a", "0b"] and clips[0].categories == {1: "dog", 2: "cat"}
    prompts = clips[0].prompts()
    assert {frame: list(masks) for frame, masks in prompts.items()} == {0: [1], 2: [2]}
    assert np.array_equal(prompts[2][2], labels_at(2, 1, 2) == 2)
    assert list(clips[1].prompts()) == [1]
    (tmp_path / "meta.json").write_text('{"videos": {"0a": {"objects": {"7": {"frames": ["00000"]}}}}}')
    with pytest.raises(InputError, match="object 7 is not in the label picture of frame 00000"):
        youtube_vos(tmp_path)[0].prompts()
    (tmp_path / "meta.json").write_text('{"videos": []}')
    with pytest.raises(InputError, match=r"no meta\.json of YouTube-VOS"):
        youtube_vos(tmp_path)


def answer(folder, clips, change=None):
    for clip in clips:
        for frame in clip.frames:
            labels = labels_at(int(frame.stem), 1)
            write_label_png(folder / clip.name / f"{frame.stem}.png", labels if change is None else change(labels))


def test_submissions_are_laid_out_as_the_servers_want_them(tmp_path):
    clips = youtube_vos(youtube(tmp_path / "data"))
    answer(tmp_path / "answers", clips)
    assert write_submission(tmp_path / "out.zip", tmp_path / "answers", clips, "youtube-vos") == 5 + 3
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = archive.namelist()
        assert names[0] == "Annotations/0a/00000.png" and names[-1] == "Annotations/0b/00003.png"
        assert "Annotations/0b/00000.png" not in names, "nothing is given yet in that frame"
        with Image.open(archive.open(names[1])) as image:
            assert image.mode == "P" and np.array_equal(np.asarray(image), labels_at(1, 1))
    mose = tmp_path / "mose"
    write_clip(mose / "JPEGImages", mose / "Annotations", "ab12", 3, lambda _: (1,), {0})
    clips = clip_folders(mose)
    answer(tmp_path / "answers", clips)
    assert write_submission(tmp_path / "mose.zip", tmp_path / "answers", clips, "mose") == 3
    with zipfile.ZipFile(tmp_path / "mose.zip") as archive:
        assert archive.namelist() == [f"ab12/{frame:05d}.png" for frame in range(3)]


def test_wrong_answers_are_named_and_nothing_is_left_behind(tmp_path):
    mose = tmp_path / "mose"
    write_clip(mose / "JPEGImages", mose / "Annotations", "ab12", 3, lambda _: (1,), {0})
    clips = clip_folders(mose)
    for change, told in (
        (lambda labels: labels * 3, "has an object 3, which the clip does not give"),
        (lambda labels: labels[:5], "is 20 x 5, its frame 20 x 10"),
    ):
        answer(tmp_path / "answers", clips, change)
        with pytest.raises(InputError, match=told):
            write_submission(tmp_path / "out.zip", tmp_path / "answers", clips, "mose")
    answer(tmp_path / "answers", clips)
    (tmp_path / "answers" / "ab12" / "00002.png").unlink()
    with pytest.raises(InputError, match=r"there is no picture .*00002\.png"):
        write_submission(tmp_path / "out.zip", tmp_path / "answers", clips, "mose")
    with pytest.raises(InputError, match="no server 'kaggle'"):
        write_submission(tmp_path / "out.zip", tmp_path / "answers", clips, "kaggle")
    assert not (tmp_path / "out.zip").exists() and not list(tmp_path.glob(".ovdet-*"))


def test_answers_are_read_back(tmp_path, davis):
    clips = davis_2017(davis)
    answer(tmp_path / "answers", clips)
    found = read_answers(tmp_path / "answers", clips[0], truth_frames(clips[0]))
    assert len(found) == 2 and np.array_equal(found[0], labels_at(1, 1))


def test_frames_of_a_clip_share_their_objects(davis):
    frames = ClipFrames(davis_2017(davis))
    assert len(frames) == 8 and len(set(frames.keys_of(0)) & set(frames.keys_of(3))) == 2
    assert not set(frames.keys_of(0)) & set(frames.keys_of(7)), "objects of two clips are never the same"
    picture = frames[1]
    assert picture.key_map[4, 2] == frames.keys_of(0)[0] and picture.key_map[0, 0] == NOTHING
    contexts = PictureContexts(frames, "instance", 0.0, same_objects=True)
    first, second = contexts.draw(np.random.default_rng(0), 0, 2).pictures
    assert set(first.shown()) & set(second.shown()) and not np.array_equal(first.image, second.image)


def test_void_pixels_are_ignored(davis):
    path = davis / "Annotations" / "480p" / "bike" / "00001.png"
    labels = labels_at(1, 1)
    labels[0] = 255
    write_label_png(path, labels)
    frames = ClipFrames([davis_2017(davis)[1]])
    assert (frames[1].key_map[0] == IGNORED).all() and len(frames.keys_of(1)) == 1


def test_missing_folders_are_named(tmp_path, davis):
    with pytest.raises(InputError, match="no folder JPEGImages"):
        clip_folders(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot read the list"):
        davis_2017(davis, "test-dev")
    (davis / "ImageSets" / "2017" / "val.txt").write_text("absent\n")
    with pytest.raises(InputError, match="has no frames"):
        davis_2017(davis)
    (davis / "Annotations" / "480p" / "bike" / "00000.png").unlink()
    (davis / "ImageSets" / "2017" / "val.txt").write_text("bike\n")
    with pytest.raises(InputError, match="no label picture of frame 00000"):
        davis_2017(davis)[0].labels(0)
