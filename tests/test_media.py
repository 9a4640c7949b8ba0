"""Pictures against numpy's and OpenCV's own reading, every awkward input by name, video there and back."""

import logging
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features

from ovdet.errors import InputError
from ovdet.media import (
    Source,
    VideoReader,
    array_to_rgb,
    find_sources,
    image_to_rgb,
    read_picture,
    read_video,
    write_picture,
    write_video,
)

GRADIENT = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_lossless_pictures_are_read_as_they_are(tmp_path, rgb, suffix):
    path = tmp_path / f"bild-картина-画{suffix}"
    Image.fromarray(rgb).save(path, lossless=True)
    np.testing.assert_array_equal(read_picture(path), rgb)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_and_not_cut_off(tmp_path, suffix):
    path = tmp_path / f"grey{suffix}"
    cv2.imwrite(str(path), GRADIENT)
    expected = np.rint(GRADIENT / 257)
    np.testing.assert_array_equal(read_picture(path), np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_keeps_its_order_and_brightness(tmp_path, suffix):
    rgb_16 = np.stack([GRADIENT, GRADIENT[::-1], GRADIENT.T], axis=-1)
    path = tmp_path / f"colour{suffix}"
    cv2.imwrite(str(path), rgb_16[..., ::-1])
    assert np.abs(read_picture(path) - rgb_16 / 257).max() < 1


def test_floats_and_32_bit_integers_are_stretched_over_their_own_range(tmp_path):
    values = np.linspace(-3, 5, 12 * 10).reshape(12, 10)
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray((values * 1e6).astype(np.int32)).save(tmp_path / "int.tif")
    expected = np.rint((values + 3) / 8 * 255)
    for name in ("float.tif", "int.tif"):
        assert np.abs(read_picture(tmp_path / name)[..., 0] - expected).max() <= 1


def test_grey_one_bit_and_palette(tmp_path):
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png")[..., 1], grey)
    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "bit.png")[..., 2], (grey > 100) * 255)
    palette = Image.fromarray((grey % 2).astype(np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png")[0, :2], [[255, 0, 0], [0, 0, 255]])


def test_what_is_transparent_is_white(tmp_path):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0, 0] = 200, 0, 0, 255
    rgba[0, 1] = 200, 0, 0, 51  # a fifth
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.png")
    picture = read_picture(tmp_path / "rgba.png")
    np.testing.assert_array_equal(picture[0], [[200, 0, 0], [244, 204, 204], [255, 255, 255]])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.gif", transparency=1)
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.gif"), [[[255, 0, 0], [255, 255, 255]]])


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)  # red ink
    red, green, blue = read_picture(tmp_path / "cmyk.jpg").reshape(-1, 3).mean(axis=0)
    assert red > 245 and green < 10 and blue < 10


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_gives_the_upright_picture(tmp_path, rgb, orientation):
    """Stored as a camera stores it: the inverse of the turn that the tag asks for."""
    stored = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, 1),
        7: rgb[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(rgb, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png"), rgb)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(image_to_rgb(opened), rgb)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_of_an_animation_the_first_picture_is_taken_and_said(tmp_path, caplog, suffix):
    if suffix == ".webp" and not features.check("webp"):
        pytest.skip("Pillow without WebP")
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue", "green")]
    frames[0].save(tmp_path / f"moving{suffix}", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.INFO, logger="ovdet"):
        picture = read_picture(tmp_path / f"moving{suffix}")
    assert picture.shape == (6, 8, 3) and picture[..., 0].min() > 240 and picture[..., 2].max() < 15
    assert len(caplog.messages) == 1 and "holds 3 pictures; only the first" in caplog.messages[0]


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 30_000), (30_000, 20)])
def test_odd_sizes(tmp_path, size_hw):
    Image.fromarray(np.full((*size_hw, 3), 7, np.uint8)).save(tmp_path / "odd.png")
    assert read_picture(tmp_path / "odd.png").shape == (*size_hw, 3)


def _png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def _jpeg_bytes(folder: Path) -> bytes:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "whole.jpg")
    return (folder / "whole.jpg").read_bytes()


def test_bad_files_each_get_one_sentence(tmp_path):
    jpeg = _jpeg_bytes(tmp_path)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    bad = {
        "zero.jpg": (b"", "is empty"),
        "text.jpg": (b"this is no picture\n" * 20, "not a picture"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged or cut short"),
        "cut.png": ((tmp_path / "whole.png").read_bytes()[:70], "damaged or cut short"),
        "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not a picture"),
        "header.png": (b"\x89PNG\r\n\x1a\n", "not a picture|damaged"),
        "bomb.png": (_png_claiming(60_000, 60_000), "too many pixels"),
    }
    for name, (data, sentence) in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=sentence) as caught:
            read_picture(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"no file .*gone\.png"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(tmp_path)


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    """Flip and cut bytes of real files: either a picture of that size comes out or an InputError."""
    rng = np.random.default_rng(2)
    image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    for suffix in (".png", ".jpg", ".gif", ".bmp", ".tif", ".webp"):
        image.save(tmp_path / f"whole{suffix}")
        whole = np.frombuffer((tmp_path / f"whole{suffix}").read_bytes(), np.uint8)
        for _ in range(40):
            broken = whole.copy()
            broken[rng.integers(0, len(whole), 6)] = rng.integers(0, 256, 6)
            (tmp_path / f"broken{suffix}").write_bytes(broken[: rng.integers(4, len(whole) + 1)].tobytes())
            try:
                assert read_picture(tmp_path / f"broken{suffix}").dtype == np.uint8
            except InputError:
                pass


def test_broken_exif_is_no_reason_to_refuse(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "exif.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    np.testing.assert_array_equal(read_picture(tmp_path / "exif.png"), rgb)


def test_arrays(rgb):
    np.testing.assert_array_equal(array_to_rgb(rgb), rgb)
    np.testing.assert_array_equal(array_to_rgb(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), "bgr"), rgb)
    np.testing.assert_array_equal(array_to_rgb(rgb[..., 0])[..., 2], rgb[..., 0])
    np.testing.assert_array_equal(array_to_rgb(rgb[..., :1])[..., 2], rgb[..., 0])
    bgra = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)
    np.testing.assert_array_equal(array_to_rgb(bgra, "bgr"), rgb)
    bgra[..., 3] = 0
    assert (array_to_rgb(bgra, "bgr") == 255).all()
    assert array_to_rgb(rgb[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 3), np.uint16), "uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), "as a list"),
        (np.zeros((3, 40, 40), np.uint8), "channels last"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ],
)
def test_wrong_arrays(array, sentence):
    with pytest.raises(InputError, match=sentence):
        array_to_rgb(array)


def test_wrong_color():
    with pytest.raises(InputError, match='"rgb" or "bgr"'):
        array_to_rgb(np.zeros((4, 4, 3), np.uint8), "gbr")


def test_sources(tmp_path, rgb, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b/deep").mkdir(parents=True)
    for name in ("a.jpg", "b/two.PNG", "b/one.tif", "b/clip.MP4", "b/notes.txt", "b/.hidden.png", "b/deep/x.png", "7"):
        (tmp_path / name).write_bytes(b"x")
    assert find_sources("a.jpg") == [Source("picture", Path("a.jpg"))]
    assert [(source.kind, source.path.name) for source in find_sources("b")] == [
        ("video", "clip.MP4"),
        ("picture", "one.tif"),
        ("picture", "two.PNG"),
    ]
    assert [source.path.name for source in find_sources("b/**/*.[pt]*")] == ["x.png", "one.tif"]
    assert find_sources("7")[0].kind == "picture"  # a file of that name comes before the camera
    assert find_sources("0") == [Source("camera", Path("0"))] and str(find_sources("12")[0]) == "camera 12"
    assert find_sources("b/notes.txt")[0].kind == "picture"  # asked for by name: reading it says what is wrong
    (tmp_path / "odd[1].png").write_bytes(b"x")
    assert find_sources("odd[1].png")[0].path.name == "odd[1].png"


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [("gone.jpg", "no file or folder gone.jpg"), ("empty", "folder empty holds no"), ("*.png", "glob"), (" ", "empty")],
)
def test_sources_that_are_not_there(tmp_path, monkeypatch, argument, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=sentence):
        find_sources(argument)


def _frames(count: int, size_hw=(48, 64)):
    for index in range(count):
        yield np.full((*size_hw, 3), (index * 12 % 256, 60, 200), np.uint8)


@pytest.mark.parametrize("size_hw", [(48, 64), (47, 63)])
def test_video_there_and_back(tmp_path, size_hw):
    path = tmp_path / "видео 1.mp4"
    with write_video(path, 12.5) as writer:
        for frame in _frames(20, size_hw):
            writer.write(frame)
    with VideoReader(path) as reader:
        assert reader.fps == pytest.approx(12.5) and reader.count == 20
        frames = list(reader)
    assert [frame.index for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(20) / 12.5, atol=1e-3)
    for frame, written in zip(frames, _frames(20, size_hw), strict=True):
        assert frame.image.shape == (48, 64, 3)  # even sides
        np.testing.assert_allclose(frame.image.mean(axis=(0, 1)), written[0, 0], atol=6)
    assert os.listdir(tmp_path) == [path.name]


def test_frames_of_another_size_are_scaled(tmp_path):
    with write_video(tmp_path / "v.mp4", 10) as writer:
        for frame in (*_frames(2), *_frames(2, (24, 32))):
            writer.write(frame)
    assert {frame.shape for frame in read_video(tmp_path / "v.mp4")} == {(48, 64, 3)}


def test_a_video_is_read_frame_by_frame(tmp_path, monkeypatch):
    with write_video(tmp_path / "v.mp4", 10) as writer:
        for frame in _frames(30):
            writer.write(frame)
    reads = []
    capture = cv2.VideoCapture

    class Counting:
        def __init__(self, *arguments):
            self.inner = capture(*arguments)

        def read(self):
            reads.append(1)
            return self.inner.read()

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    frames = read_video(tmp_path / "v.mp4")
    assert len(reads) == 0
    for expected in (1, 2, 3):
        next(frames)
        assert len(reads) == expected


def test_unreadable_videos(tmp_path):
    with write_video(tmp_path / "whole.mp4", 10) as writer:
        for frame in _frames(30):
            writer.write(frame)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:2000])  # without its index
    for name, sentence in (
        ("empty", "is empty"),
        ("text", "cannot be opened"),
        ("cut", "opened|no frame"),
        ("no", "no file"),
    ):
        with pytest.raises(InputError, match=sentence), VideoReader(tmp_path / f"{name}.mp4") as reader:
            list(reader)


def test_a_camera_that_is_not_there():
    with pytest.raises(InputError, match="camera 97 cannot be opened"):
        VideoReader(Source("camera", Path("97")))


def test_nothing_half_written(tmp_path, rgb):
    with pytest.raises(RuntimeError), write_video(tmp_path / "v.mp4", 10) as writer:
        writer.write(rgb)
        raise RuntimeError
    with pytest.raises(InputError, match="incomplete"), write_video(tmp_path / "v.mp4", 10):
        pass
    with pytest.raises(InputError, match=r"cannot write .*too\.jpg"):
        write_picture(tmp_path / "too.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert os.listdir(tmp_path) == []


def test_a_video_writer_that_fails_silently_is_noticed(tmp_path, monkeypatch):
    class Full:
        fourcc = staticmethod(lambda *letters: 0)

        def __init__(self, path, *arguments):
            Path(path).write_bytes(b"\0" * 100)

        isOpened = write = release = lambda self, *arguments: True

    monkeypatch.setattr(cv2, "VideoWriter", Full)
    with (
        pytest.raises(InputError, match=r"cannot write .*v\.mp4: .*disk full"),
        write_video(tmp_path / "v.mp4", 10) as out,
    ):
        out.write(np.zeros((8, 8, 3), np.uint8))
    assert os.listdir(tmp_path) == []
