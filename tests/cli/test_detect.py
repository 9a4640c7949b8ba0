"""`ovdet detect` end to end with a detector of colours: outputs, bad input, streams, Ctrl-C, full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import ovdet.files
from ovdet.errors import InputError
from ovdet.media import VideoReader, read_picture, read_video, write_video

CLASSES = ("--classes", "blue, red")


@pytest.fixture
def clip(tmp_path, paint) -> Path:
    """Twelve frames of a red blob that moves to the right."""
    with write_video(tmp_path / "clip.mp4", 8) as writer:
        for step in range(12):
            writer.write(paint((96, 128), ("red", (10 + 2 * step, 20, 60 + 2 * step, 70))))
    return tmp_path / "clip.mp4"


def test_a_picture_is_drawn_and_summed_up(run_ovdet, picture, tmp_path):
    outcome = run_ovdet("detect", picture, *CLASSES)
    assert outcome.code == 0 and outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"{picture}: 1 x blue, 1 x red (") and line.endswith("-> outputs/picture.png")
    drawn, original = read_picture(tmp_path / "outputs/picture.png"), read_picture(picture)
    assert drawn.shape == original.shape and (drawn != original).any()
    assert os.listdir(tmp_path / "outputs") == ["picture.png"]


def test_json_lines_are_all_there_is_on_stdout(run_ovdet, picture, monkeypatch, blob_detector):
    real = blob_detector.predict
    monkeypatch.setattr(blob_detector, "predict", lambda *a, **k: (print("a chatty library"), real(*a, **k))[1])
    outcome = run_ovdet("detect", picture, *CLASSES, "--json", "--no-save")
    (record,) = outcome.records
    assert list(record) == ["source", "size_hw", "model", "detections"]
    assert (record["source"], record["size_hw"], record["model"]) == (str(picture), [60, 80], "blobs")
    found = {one["name"]: one for one in record["detections"]}
    assert set(found["red"]) == {"name", "label", "score", "box_xyxy", "segmentation"}
    assert found["red"]["label"] == 1 and found["red"]["box_xyxy"] == [5, 10, 35, 40] and found["red"]["score"] == 1
    assert coco_mask.decode(found["red"]["segmentation"])[10:40, 5:35].all()
    assert not Path("outputs").exists() and "chatty" in outcome.err


def test_no_masks_max_dets_and_score(run_ovdet, picture):
    options = ("detect", picture, *CLASSES, "--json", "--no-save")
    assert "segmentation" not in run_ovdet(*options, "--no-masks").records[0]["detections"][0]
    assert len(run_ovdet(*options, "--max-dets", 1).records[0]["detections"]) == 1
    assert len(run_ovdet("detect", picture, "--classes", "odd", "--score", 0.9, "--json").records[0]["detections"]) == 0


def test_all_formats_and_crops(run_ovdet, picture, tmp_path):
    run_ovdet(
        "detect", picture, *CLASSES, "--format", "coco,yolo,csv", "--save-crops", "--no-save", "--out", "there/it is"
    )
    out = tmp_path / "there/it is"
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    crops = ["crops/0_blue/picture_0.png", "crops/1_red/picture_1.png"]
    assert files == ["classes.txt", *crops, "data.yaml", "labels/picture.txt", "results.coco.json", "results.csv"]
    np.testing.assert_array_equal(read_picture(out / crops[1]), read_picture(picture)[10:40, 5:35])
    images = json.loads((out / "results.coco.json").read_text())["images"]
    assert images == [{"id": 1, "file_name": str(picture), "width": 80, "height": 60}]


def test_folders_globs_and_batches(run_ovdet, tmp_path, paint):
    for number in range(5):
        (tmp_path / f"in/{number % 2}").mkdir(parents=True, exist_ok=True)
        image = paint((40 + number, 50), ("red", (number, 0, number + 20, 20)))
        Image.fromarray(image).save(tmp_path / f"in/{number % 2}/same.{number}.png")
    one = run_ovdet("detect", "in/0", "in/1/*.png", *CLASSES, "--json", "--no-save")
    three = run_ovdet("detect", "in/**/*.png", "in/0", *CLASSES, "--json", "--no-save", "--batch-size", 3)
    assert [Path(record["source"]).name for record in one.records] == [f"same.{n}.png" for n in (0, 2, 4, 1, 3)]
    assert one.records == three.records and three.blobs.batch_sizes[-2:] == [3, 2]
    assert one.records[0]["detections"][0]["box_xyxy"] == [0, 0, 20, 20]


def test_one_name_in_several_folders_stays_apart(run_ovdet, tmp_path, paint):
    for folder, name, color in (
        ("a", "x.png", "red"),
        ("b", "x.png", "blue"),
        ("b", "X.jpg", "red"),
        ("b", "x-2.png", "red"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(paint((40, 40), (color, (5, 5, 30, 30)))).save(tmp_path / folder / name)
    outcome = run_ovdet("detect", "a", "b", *CLASSES, "--format", "yolo")
    assert outcome.code == 0
    assert len(os.listdir("outputs/labels")) == 4
    assert sorted(name for name in os.listdir("outputs") if name[0] in "xX") == [
        "X-2.jpg",
        "x-2-2.png",
        "x-3.png",
        "x.png",
    ]
    written = dict(line.split(": ", 1) for line in outcome.err.splitlines())
    assert written["a/x.png"].endswith("outputs/x.png") and written["b/x.png"].endswith("outputs/x-3.png")


def test_a_source_is_never_overwritten(run_ovdet, picture, tmp_path):
    before = picture.read_bytes()
    outcome = run_ovdet("detect", picture, *CLASSES, "--out", tmp_path)
    assert outcome.code == 2 and "is a source itself; choose another --out" in outcome.errors[0]
    assert picture.read_bytes() == before


def test_bad_files_do_not_stop_the_others(run_ovdet, picture, tmp_path):
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "broken.mp4").write_text("not a video")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:120])
    (tmp_path / "bare").mkdir()
    outcome = run_ovdet(
        "detect", "zero.png", "text.jpg", "gone.jpg", "broken.mp4", "cut.png", "bare", "*.tif", "98", picture,
        *CLASSES, "--json", "--format", "coco", "--batch-size", 4,
    )  # fmt: skip
    assert outcome.code == 2 and [record["source"] for record in outcome.records] == [str(picture)]
    assert len(outcome.errors) == 8 and "Traceback" not in outcome.err
    for word in ("zero.png", "text.jpg", "gone.jpg", "broken.mp4", "cut.png", "bare", "*.tif", "camera 98"):
        assert sum(word in line for line in outcome.errors) == 1, word
    assert sorted(os.listdir("outputs")) == ["picture.png", "results.coco.json"]
    assert len(json.loads(Path("outputs/results.coco.json").read_text())["images"]) == 1


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 30_000)])
def test_odd_sizes_go_all_the_way(run_ovdet, tmp_path, paint, size_hw):
    Image.fromarray(paint(size_hw, ("red", (0, 0, 100, 20)))).save(tmp_path / "odd.png")
    outcome = run_ovdet("detect", "odd.png", *CLASSES, "--json", "--save-crops", "--score", 0)
    assert outcome.code == 0 and outcome.records[0]["size_hw"] == list(size_hw)
    assert read_picture("outputs/odd.png").shape == (*size_hw, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--classes", ""), "--classes is empty"),
        (("--classes", "cat, ,dog"), "name 2 is blank"),
        (("--classes", "cat, Cat"), "is the same as 1"),
        (("--classes", "names.txt"), "there is no file names.txt"),
        ((*CLASSES, "--score", 2), "score must be from 0 to 1"),
        ((*CLASSES, "--score", "high"), "invalid float value: 'high'"),
        ((*CLASSES, "--max-dets", 0), "max_dets must be at least 1"),
        ((*CLASSES, "--batch-size", -1), "batch_size must be at least 1"),
        ((*CLASSES, "--format", "voc"), "unknown format 'voc'"),
        ((*CLASSES, "--frobnicate"), "unrecognized arguments: --frobnicate"),
        ((*CLASSES, "--out", "picture.png"), "a file stands where a folder is needed"),
    ],
)
def test_wrong_options_do_nothing_and_say_why(run_ovdet, picture, blob_detector, arguments, sentence):
    outcome = run_ovdet("detect", picture, *arguments)
    assert outcome.code == 2 and outcome.out == "" and sentence in outcome.err
    assert len(outcome.err.splitlines()) == 1 and blob_detector.batch_sizes == [] and not Path("outputs").exists()


def test_pictures_as_classes(run_ovdet, picture, tmp_path, paint):
    Image.fromarray(paint((30, 30), ("red", (5, 5, 25, 25)))).save(tmp_path / "a:b.png")
    options = ("--json", "--no-save")
    outcome = run_ovdet("detect", picture, "--classes", "blue", "--class-image", "cherry=a:b.png:5,5,20,20", *options)
    assert outcome.code == 0, outcome.err
    found = {one["name"]: one for one in outcome.records[0]["detections"]}
    assert found["blue"]["label"] == 0 and found["cherry"]["label"] == 1
    assert found["cherry"]["box_xyxy"] == [5, 10, 35, 40]
    alone = run_ovdet("detect", picture, "--class-image", "cherry=a:b.png", *options, "--score", 0)
    assert alone.code == 0 and len(alone.records) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "there is nothing to look for; give --classes or --class-image"),
        (("--class-image", "picture.png"), "give NAME=PICTURE or NAME=PICTURE:x,y,w,h"),
        (("--class-image", "a="), "give NAME=PICTURE"),
        (("--class-image", "a=gone.png"), "there is no picture gone.png"),
        (("--class-image", "a=gone.png:1,2,3,4"), "there is no picture gone.png"),
        (("--class-image", "a=picture.png:1,2,3"), "there is no picture picture.png:1,2,3"),
        (("--class-image", "a=picture.png:1,2,0,4"), "must be wider and higher than 0"),
        (("--class-image", "a=picture.png:90,2,5,4"), "holds no pixel of its 80x60 picture"),
        (("--class-image", "a=picture.png", "--class-image", "a=picture.png"), "has a picture already"),
        (("--class-image", "Red=picture.png", "--classes", "red"), "same as class name 0"),
    ],
)
def test_wrong_pictures_as_classes(run_ovdet, picture, arguments, sentence):
    outcome = run_ovdet("detect", picture, *arguments, "--no-save")
    assert outcome.code == 2 and sentence in outcome.err and len(outcome.err.splitlines()) == 1


def test_no_source_that_exists_loads_no_model(run_ovdet, monkeypatch):
    monkeypatch.setattr("ovdet.detector.load_predictor", lambda *a: pytest.fail("loaded"))
    assert run_ovdet("detect", "gone.png", *CLASSES).code == 2


def test_unknown_model_suggests_the_nearest(picture, capsys, monkeypatch, tmp_path):
    from ovdet.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["detect", str(picture), *CLASSES, "--model", "imagenet-wrods"]) == 2
    assert "unknown model 'imagenet-wrods'; did you mean 'imagenet-words'?" in capsys.readouterr().err


def test_a_picture_on_which_the_model_fails_is_the_only_one_lost(
    run_ovdet, tmp_path, paint, blob_detector, monkeypatch
):
    for name, side in (("a", 40), ("b", 41), ("c", 42)):
        Image.fromarray(paint((side, side))).save(tmp_path / f"{name}.png")
    real = blob_detector.predict

    def predict(images, *arguments, **options):
        if any(len(image) == 41 for image in images):
            raise RuntimeError("kernel\nexploded")
        return real(images, *arguments, **options)

    monkeypatch.setattr(blob_detector, "predict", predict)
    outcome = run_ovdet("detect", "a.png", "b.png", "c.png", *CLASSES, "--batch-size", 3)
    assert outcome.code == 1 and outcome.errors == ["error: b.png: the model failed (RuntimeError: kernel exploded)"]
    assert sorted(os.listdir("outputs")) == ["a.png", "c.png"] and "Traceback" not in outcome.err
    assert "Traceback" in run_ovdet("detect", "b.png", *CLASSES, "--debug").err


def test_video_comes_back_drawn_with_frames_and_times(run_ovdet, clip):
    outcome = run_ovdet("detect", clip, *CLASSES, "--json", "--format", "csv,yolo", "--batch-size", 5)
    assert outcome.code == 0 and [record["frame"] for record in outcome.records] == list(range(12))
    np.testing.assert_allclose([record["time_s"] for record in outcome.records], np.arange(12) / 8, atol=1e-3)
    assert list(outcome.records[0])[:3] == ["source", "frame", "time_s"] and outcome.records[0]["source"] == str(clip)
    with VideoReader("outputs/clip.mp4") as reader:
        assert reader.fps == pytest.approx(8) and len(list(reader)) == 12
    assert len(os.listdir("outputs/labels")) == 12 and "12 frames, 12 x red" in outcome.err


def test_a_long_video_is_looked_at_frame_by_frame(run_ovdet, clip, blob_detector, monkeypatch):
    """When a batch reaches the model, no more frames have been read than this and the earlier batches hold."""
    read, seen = [], []
    capture, predict = cv2.VideoCapture, blob_detector.predict

    class Counting:
        def __init__(self, *arguments):
            self.inner = capture(*arguments)

        def read(self):
            read.append(1)
            return self.inner.read()

        def __getattr__(self, name):
            return getattr(self.inner, name)

    def watch(images, *arguments, **options):
        seen.append(len(read))
        return predict(images, *arguments, **options)

    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    monkeypatch.setattr(blob_detector, "predict", watch)
    assert run_ovdet("detect", clip, *CLASSES, "--batch-size", 2, "--no-save").code == 0
    assert seen == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    ("number", "code", "save"), [(signal.SIGINT, 130, True), (signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)]
)
def test_a_signal_keeps_what_is_done(run_ovdet, clip, picture, blob_detector, monkeypatch, number, code, save):
    predict = blob_detector.predict

    def interrupt(*arguments, **options):
        if len(blob_detector.batch_sizes) == 4:
            signal.raise_signal(number)
        return predict(*arguments, **options)

    monkeypatch.setattr(blob_detector, "predict", interrupt)
    handler = signal.getsignal(number)
    outcome = run_ovdet(
        "detect", clip, picture, *CLASSES, "--json", "--format", "coco", *([] if save else ["--no-save"])
    )
    assert outcome.code == code and len(outcome.records) == 5 and "stopping in good order" in outcome.err
    assert len(json.loads(Path("outputs/results.coco.json").read_text())["images"]) == 5
    assert sorted(os.listdir("outputs")) == (["clip.mp4"] if save else []) + ["results.coco.json"]
    if save:
        assert len(list(read_video("outputs/clip.mp4"))) == 5
    assert signal.getsignal(number) is handler


def test_a_second_ctrl_c_stops_at_once_and_leaves_nothing_half_written(run_ovdet, clip, blob_detector, monkeypatch):
    def interrupt(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(blob_detector, "predict", interrupt)
    outcome = run_ovdet("detect", clip, *CLASSES, "--format", "coco,csv")
    assert outcome.code == 130 and os.listdir("outputs") == []


def test_ctrl_c_while_loading(run_ovdet, picture, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("ovdet.detector.load_predictor", interrupt)
    outcome = run_ovdet("detect", picture, *CLASSES)
    assert outcome.code == 130 and outcome.err == "error: interrupted\n"


class FakeCamera:
    """Frames without end, of which the fourth brings the Ctrl-C."""

    def __init__(self, index):
        assert index == 0
        self.count = 0

    def isOpened(self):
        return True

    def get(self, key):
        return {cv2.CAP_PROP_FPS: 20.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(key, 0.0)

    def read(self):
        self.count += 1
        if self.count == 4:
            signal.raise_signal(signal.SIGINT)
        assert self.count < 100, "Ctrl-C did not stop the camera"
        return True, np.full((48, 64, 3), (30, 30, 220), np.uint8)  # red, as OpenCV orders it

    def release(self):
        pass


def test_a_camera_until_ctrl_c(run_ovdet, monkeypatch):
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda name: FakeCamera(name) if isinstance(name, int) else real(name))
    outcome = run_ovdet("detect", "0", *CLASSES, "--json")
    assert outcome.code == 130 and [record["frame"] for record in outcome.records] == [0, 1, 2, 3]
    assert outcome.records[0]["source"] == "camera 0" and outcome.records[0]["detections"][0]["name"] == "red"
    assert len(list(read_video("outputs/camera0.mp4"))) == 4


def test_q_in_the_window_ends_well(run_ovdet, clip, picture, monkeypatch):
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda wait: ord("q") if len(shown) == 3 else -1)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    outcome = run_ovdet("detect", clip, picture, *CLASSES, "--show", "--json")
    assert outcome.code == 0 and len(shown) == len(outcome.records) == 3
    assert len(list(read_video("outputs/clip.mp4"))) == 3


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="always has a display")
def test_a_window_without_a_display(run_ovdet, picture, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    outcome = run_ovdet("detect", picture, *CLASSES, "--show")
    assert outcome.code == 2 and outcome.err == "error: --show: there is no display here; leave it out\n"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_a_file_name_that_is_no_text(run_ovdet, picture, tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    os.rename(picture, odd)
    outcome = run_ovdet("detect", os.fsdecode(odd), *CLASSES, "--json", "--format", "coco,csv,yolo")
    assert outcome.code == 0 and outcome.records[0]["source"] == os.fsdecode(odd)
    assert b"\xff\xfe.png," in Path("outputs/results.csv").read_bytes() and b"\xff\xfe.png" in os.listdir(b"outputs")
    assert "not valid text" in run_ovdet("detect", os.fsdecode(odd), "--classes", "cat, \udcff").err


def test_full_disk_for_a_picture(run_ovdet, picture, tmp_path, monkeypatch):
    save = Image.Image.save

    def full(self, target, *arguments, **options):
        Path(target).write_bytes(b"half a pict")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    outcome = run_ovdet("detect", picture, *CLASSES, "--json")
    monkeypatch.setattr(Image.Image, "save", save)
    assert outcome.code == 2 and outcome.errors == ["error: cannot write outputs/picture.png: the disk is full"]
    assert os.listdir("outputs") == [] and len(outcome.records) == 1  # the answer is given all the same


@pytest.mark.parametrize("kind", ["coco", "csv"])
def test_full_disk_for_results(run_ovdet, picture, monkeypatch, kind):
    """The results go to /dev/full, where every write fails like on a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has /dev/full")
    touch = Path.touch

    def to_full(self, **options):
        if self.suffix in {".json", ".csv"}:
            self.symlink_to("/dev/full")
        else:
            touch(self, **options)

    monkeypatch.setattr(Path, "touch", to_full)
    outcome = run_ovdet("detect", picture, *CLASSES, "--format", kind, "--no-save")
    assert outcome.code == 2 and len(outcome.errors) == 1 and "the disk is full" in outcome.errors[0]
    assert os.listdir("outputs") == []


def test_no_permission(run_ovdet, picture, blob_detector, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(ovdet.files.tempfile, "TemporaryFile", refuse)
    outcome = run_ovdet("detect", picture, *CLASSES, "--out", "locked")
    assert outcome.code == 2 and blob_detector.batch_sizes == []
    assert outcome.err == "error: cannot write locked: there is no permission to write there\n"


def _as_process(arguments, tmp_path, **options):
    """`ovdet detect` in a process of its own, with a model that finds nothing."""
    program = """
import sys
from ovdet import cli
class Nothing:
    name = "nothing"
    def embed(self, names): return None
    def predict(self, images, names, table, **options):
        from ovdet.results import Detections
        return [Detections.empty(names, image.shape[:2]) for image in images]
def detect(arguments):
    from ovdet.cli.detect import main
    return main(arguments, Nothing())
cli.VERBS["detect"] = detect
sys.exit(cli.main(sys.argv[1:]))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=tmp_path, env=environment, text=True, **options
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_stdout_on_a_full_disk(picture, tmp_path):
    with open("/dev/full", "w") as full:
        done = _as_process(["detect", picture, *CLASSES, "--json"], tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and done.stderr == "error: cannot write to standard output: the disk is full\n"


@pytest.mark.slow
def test_libraries_below_python_keep_quiet(picture, tmp_path):
    """FFmpeg and OpenCV write to the process's stderr by themselves."""
    (tmp_path / "broken.mp4").write_text("not a video")
    done = _as_process(["detect", picture, "broken.mp4", "98", *CLASSES], tmp_path, stderr=subprocess.PIPE)
    assert done.returncode == 2 and [line[:6] for line in done.stderr.splitlines()[1:]] == ["error:"] * 2, done.stderr


@pytest.mark.slow
def test_a_reader_that_goes_away(picture, tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = _as_process(["detect", picture, *CLASSES, "--json"], tmp_path, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert done.returncode == 0 and done.stderr == ""


def test_input_error_is_all_that_a_user_sees_of_a_bad_name(run_ovdet, picture, blob_detector, monkeypatch):
    def embed(names):
        raise InputError("class name 1 is odd")

    monkeypatch.setattr(blob_detector, "embed", embed)
    outcome = run_ovdet("detect", picture, *CLASSES)
    assert outcome.code == 2 and outcome.err == "error: class name 1 is odd\n"


def test_a_cache_that_cannot_be_used_is_told_once(run_ovdet, picture, blob_detector, monkeypatch, tmp_path):
    from ovdet.vlm.cache import VectorStore, cache_dir

    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "file"))
    embed = blob_detector.embed

    def with_cache(names):
        for _ in range(2):
            VectorStore(cache_dir() / "class_embeddings.sqlite3").get(["key"])
        return embed(names)

    monkeypatch.setattr(blob_detector, "embed", with_cache)
    outcome = run_ovdet("detect", picture, *CLASSES, "--no-save")
    assert outcome.code == 0
    assert outcome.err.count("warning: cannot use the cache file") == outcome.err.count("warning:") == 1
