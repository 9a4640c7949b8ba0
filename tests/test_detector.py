"""The front desk with a detector that really looks at colours: every kind of picture, batches, streams, threads."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovdet import Detections, Detector, InputError
from ovdet.detector import choose_device
from ovdet.errors import CapabilityError
from ovdet.media import read_video, write_video

NAMES = ["blue", "red"]


@pytest.fixture
def detector(blob_detector) -> Detector:
    return Detector(blob_detector)


def same(first: Detections, second: Detections) -> None:
    assert first.to_dict() == {**second.to_dict(), "source": first.source}


def test_a_path_gives_one_result(detector, picture):
    result = detector(picture, NAMES)
    assert isinstance(result, Detections) and result.source == str(picture) and result.model == "blobs"
    assert sorted(zip(result.names, result.boxes_xyxy.tolist(), strict=True)) == [
        ("blue", [50, 20, 70, 50]),
        ("red", [5, 10, 35, 40]),
    ]
    assert result.class_names == tuple(NAMES) and result.size_hw == (60, 80) and result.masks.sum() == 900 + 600


def test_every_kind_of_picture_gives_the_same(detector, picture):
    expected = detector(picture, NAMES)
    rgb = np.asarray(Image.open(picture))
    same(detector(str(picture), NAMES), expected)
    same(detector(Image.open(picture), NAMES), expected)
    same(detector(rgb, NAMES), expected)
    same(detector(rgb[..., ::-1], NAMES, color="bgr"), expected)
    assert detector(rgb, NAMES).source is None and detector(Image.open(picture), NAMES).source == str(picture)
    assert sorted(detector(rgb[..., ::-1], NAMES).names) == ["blue", "red"]  # read as RGB, the colours are exchanged
    assert detector(rgb[..., ::-1], NAMES).boxes_xyxy.tolist() != expected.boxes_xyxy.tolist()


def test_a_camera_picture_is_turned_upright(detector, picture, tmp_path):
    turned = Image.open(picture).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    same(detector(tmp_path / "turned.png", NAMES), detector(picture, NAMES))
    same(detector(Image.open(tmp_path / "turned.png"), NAMES), detector(picture, NAMES))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_batches_of_mixed_sizes_equal_one_at_a_time(detector, paint, batch_size):
    pictures = [
        paint((40 + 7 * i, 90 - 9 * i), ("red", (i, 5, i + 20, 25)), ("blue", (30, 0, 40, 12))) for i in range(5)
    ]
    alone = [detector(picture, NAMES) for picture in pictures]
    detector.predictor.batch_sizes.clear()
    for ours, expected in zip(detector(pictures, NAMES, batch_size=batch_size), alone, strict=True):
        same(ours, expected)
    sizes = detector.predictor.batch_sizes
    assert sum(sizes) == 5 and max(sizes) == min(batch_size, 5)


def test_lists_give_lists_and_iterators_give_streams(detector, picture):
    assert detector([], NAMES) == [] and len(detector((picture, picture), NAMES)) == 2
    taken = []
    detector.predictor.embedded.clear()

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield picture

    stream = detector(endless(), NAMES, batch_size=3)
    assert taken == []  # nothing is read before a result is asked for
    for expected in (3, 3, 3, 6):
        assert len(next(stream)) == 2
        assert len(taken) == expected
    assert detector.predictor.embedded == [tuple(NAMES)]  # the vocabulary is embedded once


def test_frames_of_a_video(detector, paint, tmp_path):
    with write_video(tmp_path / "clip.mp4", 10) as writer:
        for step in range(6):
            writer.write(paint((96, 128), ("red", (10 + step, 20, 60 + step, 70))))
    results = list(detector(read_video(tmp_path / "clip.mp4"), ["red"], batch_size=4))
    lefts = [result.boxes_xyxy[0, 0] for result in results]
    assert len(results) == 6 and np.abs(np.array(lefts) - np.arange(10, 16)).max() <= 2
    with pytest.raises(InputError, match=r"clip\.mp4 is a video; give its frames"):
        detector(tmp_path / "clip.mp4", ["red"])


def test_options_reach_the_model(detector, picture):
    assert detector(picture, NAMES, masks=False).rles is None
    assert len(detector(picture, NAMES, max_dets=1)) == 1
    assert len(detector(picture, ["nothing like it"], score=0.99)) == 0


def test_pictures_stand_for_classes_beside_words(detector, picture, paint):
    red = paint((30, 30), ("red", (5, 5, 25, 25)))
    result = detector(picture, ["blue"], class_images={"cherry": (red, (5, 5, 25, 25))})
    assert sorted(zip(result.names, result.labels.tolist(), strict=True)) == [("blue", 0), ("cherry", 1)]
    alone = detector(picture, [], class_images={"cherry": (red, (5, 5, 25, 25))})
    assert alone.names == ["cherry"] and alone.class_names == ("cherry",)
    assert alone.boxes_xyxy.tolist() == [[5, 10, 35, 40]]
    whole = detector(picture, [], class_images={"grey": np.full((9, 9, 3), 128, np.uint8)})
    assert whole.boxes_xyxy.tolist() == [[0, 0, 80, 60]]


@pytest.mark.parametrize(
    ("names", "class_images", "sentence"),
    [
        (["red"], {"Red": "picture.png"}, "same as class name 0"),
        (["red"], {"a": "gone.png"}, "class picture 'a': there is no file gone.png"),
        (["red"], {"a": (np.zeros((9, 9, 3), np.uint8), (20, 0, 30, 5))}, "'a': the box .* holds no pixel"),
        (["red"], {"a": (np.zeros((9, 9, 3), np.uint8), (1, 2, 3))}, "must be four numbers"),
        (["red"], {"a": np.zeros((9, 9))}, "class picture 'a': .*uint8"),
        ([], {}, "empty"),
    ],
)  # fmt: skip
def test_wrong_class_pictures(detector, picture, names, class_images, sentence):
    with pytest.raises(InputError, match=sentence):
        detector(picture, names, class_images=class_images)


def test_a_model_that_takes_no_pictures_as_classes_says_so(detector, picture, monkeypatch):
    monkeypatch.delattr(type(detector.predictor), "embed_pictures")
    with pytest.raises(CapabilityError, match="blobs takes no pictures as classes; give names"):
        detector(picture, ["red"], class_images={"a": picture})


def test_there_is_no_hidden_state(detector, picture):
    first = detector(picture, ["red"])
    detector(picture, ["blue", "green"])
    same(detector(picture, ["red"]), first)
    assert detector(picture, ["green", "blue"]).labels.tolist() == [1]


def test_threads_share_a_detector(detector, paint):
    colors = ["red", "green", "blue", "yellow"]
    pictures = [paint((50, 60), (color, (3, 4, 33, 34))) for color in colors]

    def look(number: int) -> tuple[list[str], list[str]]:
        mine = colors[number % 4 :] + colors[: number % 4]
        return detector(pictures[number % 4], mine).names, [mine[0]]

    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found, expected in pool.map(look, range(64)))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "empty"),
        (["cat", " "], "class name 1 is blank"),
        (["cat", "dog", "Cat"], "2 .*same as class name 0"),
        ("cat, dog", "list"),
    ],
)
def test_wrong_names(detector, picture, names, sentence):
    with pytest.raises(InputError, match=sentence):
        detector(picture, names)
    with pytest.raises(InputError, match=sentence):  # at once, and not when the first result is asked for
        detector(iter([picture]), names)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (torch.zeros(3, 8, 8), "tensor"),
        (b"picture.jpg", "path, a PIL image .* got bytes"),
        (42, "must be a path"),
        ([None], "must be a path"),
        ("gone.jpg", "no file gone.jpg"),
        (np.zeros((8, 8, 3)), "uint8"),
    ],
)
def test_wrong_pictures(detector, source, sentence):
    with pytest.raises(InputError, match=sentence):
        detector(source, NAMES)


def test_a_cut_pil_image(detector, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:4000])
    with pytest.raises(InputError, match=r"cut\.png is damaged"):
        detector(Image.open(tmp_path / "cut.png"), NAMES)


@pytest.mark.parametrize(
    "options", [{"score": 1.5}, {"score": -0.1}, {"max_dets": 0}, {"batch_size": 0}, {"color": "hsv"}]
)
def test_wrong_options(detector, paint, options):
    with pytest.raises(InputError, match=next(iter(options))):
        detector(paint((20, 20)), NAMES, **options)


def test_unknown_models_and_devices(tmp_path):
    with pytest.raises(InputError, match="did you mean 'imagenet-words'"):
        Detector("imagenet-wrods")
    with pytest.raises(InputError, match=r"no checkpoint .*gone\.pth"):
        Detector(tmp_path / "gone.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk" * 100)
    with pytest.raises(InputError, match=r"junk\.pth"):
        Detector(str(tmp_path / "junk.pth"))
    for device in ("cuda:99", "tpu9", "meta:x"):
        with pytest.raises(InputError, match=f"no device '{device}'"):
            Detector(device=device)
    assert choose_device("cpu") == "cpu" and Path(choose_device(None)).name in {"cpu", "cuda", "mps"}
