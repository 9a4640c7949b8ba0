"""`ovdet segment` end to end with a network that goes by colours: examples of every form, files, video, bad input."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ovdet.media import VideoReader, read_picture, write_video

SIZE_HW = (64, 96)
LEFT, RIGHT = (8, 8, 40, 40), (56, 16, 88, 48)


def mask_of(*boxes, size_hw=SIZE_HW) -> np.ndarray:
    """(H, W) uint8: 1 in the first box, 2 in the second."""
    mask = np.zeros(size_hw, np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        mask[y1:y2, x1:x2] = number
    return mask


@pytest.fixture
def scene(tmp_path, paint) -> Path:
    """An example: something red on the left, something blue on the right; and its mask in every form."""
    Image.fromarray(paint(SIZE_HW, ("red", LEFT), ("blue", RIGHT))).save(tmp_path / "example.png")
    both = mask_of(LEFT, RIGHT)
    Image.fromarray((both == 1).astype(np.uint8) * 255).save(tmp_path / "binary.png")
    palette = Image.fromarray(both, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[both]).save(tmp_path / "colours.png")
    x1, y1, x2, y2 = LEFT
    polygon = {"id": 7, "image_id": 1, "category_id": 3, "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}
    run = coco_mask.encode(np.asfortranarray((both == 2).astype(np.uint8)))
    runs = {"id": 8, "image_id": 1, "category_id": 4, "segmentation": {**run, "counts": run["counts"].decode()}}
    content = {
        "images": [{"id": 1, "file_name": "example.png", "height": SIZE_HW[0], "width": SIZE_HW[1]}],
        "annotations": [polygon, runs],
        "categories": [{"id": 3, "name": "cherry"}, {"id": 4, "name": "plum"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path / "example.png"


@pytest.fixture
def target(tmp_path, paint) -> Path:
    """Two red things, one blue."""
    image = paint((48, 80), ("red", (0, 0, 20, 24)), ("red", (30, 24, 50, 48)), ("blue", (55, 0, 80, 24)))
    Image.fromarray(image).save(tmp_path / "target.png")
    return tmp_path / "target.png"


@pytest.fixture
def clip(tmp_path, paint) -> Path:
    """Ten frames: something red moves to the right, something blue down; the first frame's masks beside it."""
    with write_video(tmp_path / "clip.mp4", 10) as writer:
        for step in range(10):
            writer.write(
                paint((64, 96), ("red", (4 + 3 * step, 8, 28 + 3 * step, 30)), ("blue", (64, step, 90, 24 + step)))
            )
    palette = Image.fromarray(mask_of((4, 8, 28, 30), (64, 0, 90, 24), size_hw=(64, 96)), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "first.png")
    return tmp_path / "clip.mp4"


def found_in(record: dict) -> dict:
    return {one["name"]: coco_mask.decode(one["segmentation"]).astype(bool) for one in record["detections"]}


def test_an_example_is_found_drawn_told_and_written(run_ovdet, scene, target):
    outcome = run_ovdet("segment", target, "--example", "cherry=example.png", "binary.png", "--json")
    assert outcome.code == 0, outcome.err
    (record,) = outcome.records
    assert list(record) == ["source", "size_hw", "model", "detections"] and record["model"] == "colours"
    cherry = found_in(record)["cherry"]
    red = (read_picture(target) == (220, 30, 30)).all(axis=2)
    assert (cherry & red).sum() / (cherry | red).sum() > 0.9
    written = np.asarray(Image.open("outputs/masks/target.png"))
    np.testing.assert_array_equal(written == 1, cherry)
    assert Image.open("outputs/masks/target.png").mode == "P"
    assert (read_picture("outputs/target.png") != read_picture(target)).any()
    assert sorted(os.listdir("outputs")) == ["masks", "target.png"]


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (("example.png", "binary.png"), {"thing"}),
        (("example.png", "palette.png"), {"1", "2"}),
        (("cherry,plum=example.png", "palette.png"), {"cherry", "plum"}),
        (("example.png", "colours.png"), {"#ff0000", "#0000ff"}),
        (("plum,cherry=example.png", "colours.png"), {"plum", "cherry"}),
        (("example.png", "coco.json:7"), {"cherry"}),
        (("example.png", "coco.json:8"), {"plum"}),
        (("berry=example.png", "coco.json:8"), {"berry"}),
        (("berry=example.png", "8,8,32,32"), {"berry"}),
    ],
)  # fmt: skip
def test_masks_of_every_form(run_ovdet, scene, target, blob_detector, monkeypatch, example, names):
    boxes = []

    def masks_of_boxes(image, boxes_xyxy):
        boxes.extend(boxes_xyxy.tolist())
        return (mask_of(LEFT) > 0)[None]

    monkeypatch.setattr(blob_detector, "masks_of_boxes", masks_of_boxes, raising=False)
    outcome = run_ovdet("segment", target, "--example", *example, "--json", "--no-save", "--no-mask-files")
    assert outcome.code == 0, outcome.err
    found = found_in(outcome.records[0])
    assert set(found) == names
    image = read_picture(target)
    colours = {"cherry": (220, 30, 30), "thing": (220, 30, 30), "1": (220, 30, 30), "#ff0000": (220, 30, 30)}
    for name, mask in found.items():
        colour = colours.get(name, (40, 60, 220))
        if name == "berry" and boxes:
            colour = (220, 30, 30)
        if names == {"plum", "cherry"} and example[1] == "colours.png":  # colours are in the order of their codes
            colour = (40, 60, 220) if name == "plum" else (220, 30, 30)
        wanted = (image == colour).all(axis=2)
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.85, name
    assert boxes == ([[8, 8, 40, 40]] if example[1][0].isdigit() else []) and not Path("outputs").exists()


def test_several_examples_classes_and_modes(run_ovdet, scene, target, colour_desk):
    cherries = ("--example", "cherry=example.png", "binary.png")
    plums = ("--example", "plum=example.png", "coco.json:8")
    outcome = run_ovdet("segment", target, *cherries, *cherries, *plums, "--json", "--no-save")
    assert {one["name"] for one in outcome.records[0]["detections"]} == {"cherry", "plum"}
    assert [one["label"] for one in outcome.records[0]["detections"]] in ([0, 1], [1, 0])
    assert colour_desk.model.asked == [("SEMANTIC", 2), ("SEMANTIC", 1)]
    assert set(np.unique(Image.open("outputs/masks/target.png"))) == {0, 1, 2}
    outcome = run_ovdet("segment", target, *cherries, "--mode", "similar", "--json", "--no-save")
    assert [one["name"] for one in outcome.records[0]["detections"]] == ["cherry"] * 2
    assert set(np.unique(Image.open("outputs/masks/target.png"))) == {0, 1, 2}  # things, one by one
    outcome = run_ovdet("segment", target, *cherries, "--largest", "--json", "--no-save", "--format", "coco")
    (cherry,) = outcome.records[0]["detections"]
    assert cherry["box_xyxy"][2] - cherry["box_xyxy"][0] < 25
    assert json.loads(Path("outputs/results.coco.json").read_text())["categories"] == [{"id": 1, "name": "cherry"}]
    run_ovdet("segment", target, *cherries, *cherries, "--ensemble", "spatial", "--mode", "instance")
    assert colour_desk.model.asked[-1] == ("INSTANCE", 1)
    run_ovdet("segment", target, *cherries, *plums, "--together", "--no-save")
    assert colour_desk.model.asked[-1] == ("SEMANTIC", 2) and len(colour_desk.model.asked) == 6


def test_candidates_are_for_pictures(run_ovdet, scene, target, clip):
    options = ("--example", "cherry=example.png", "binary.png", "--candidates", "detect")
    outcome = run_ovdet("segment", target, *options, "--json")
    assert outcome.code == 0 and [one["name"] for one in outcome.records[0]["detections"]] == ["cherry"]
    found = found_in(outcome.records[0])["cherry"]
    assert found[:24, :20].all() and found[24:48, 30:50].all() and not found[:, 55:].any()
    outcome = run_ovdet("segment", clip, *options)
    assert outcome.code == 2 and "--candidates is for pictures" in outcome.err


def test_together_is_not_for_what_is_followed(run_ovdet, scene, clip):
    options = ("--example", "cherry=example.png", "binary.png", "--together")
    outcome = run_ovdet("segment", clip, *options)
    assert outcome.code == 2 and "painted one by one" in outcome.err
    assert run_ovdet("segment", clip, *options, "--memory", 0).code == 0


def test_a_tuned_prompt_stands_for_examples(run_ovdet, target, clip, make_prompt, paint, colour_desk):
    labels = mask_of(LEFT, RIGHT).astype(np.int32)
    make_prompt(paint(SIZE_HW, ("red", LEFT), ("blue", RIGHT)), labels, ["cherry", "plum"])
    outcome = run_ovdet("segment", target, clip, "--prompt", "prompt.safetensors", "--json", "--no-save")
    assert outcome.code == 0, outcome.err
    assert len(outcome.records) == 11 and outcome.records[10]["size_hw"] == [64, 96]
    image = read_picture(target)
    for name, colour in (("cherry", (220, 30, 30)), ("plum", (40, 60, 220))):
        wanted, found = (image == colour).all(axis=2), found_in(outcome.records[0])[name]
        assert (found & wanted).sum() / (found | wanted).sum() > 0.85
    for option in ("--together", "--resume", ("--candidates", "detect"), ("--example", "target.png", "1,1,5,5")):
        option = (option,) if isinstance(option, str) else option
        outcome = run_ovdet("segment", target, "--prompt", "prompt.safetensors", *option)
        assert outcome.code == 2 and f"--prompt stands alone: leave out {option[0]}" in outcome.err
    outcome = run_ovdet("segment", target, "--prompt", "target.png")
    assert outcome.code == 2 and "cannot read the prompt target.png" in outcome.err
    colour_desk.model.mask_token += 1
    outcome = run_ovdet("segment", target, "--prompt", "prompt.safetensors")
    assert outcome.code == 2 and "tuned for other weights" in outcome.err


def test_soft_masks_and_threshold(run_ovdet, scene, target):
    outcome = run_ovdet(
        "segment", target, "--example", "a/cherry=example.png", "binary.png", "--soft", "--threshold", 0.9, "--json"
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    soft = np.asarray(Image.open("outputs/soft/target_0_a_cherry.png"))
    mask = found_in(outcome.records[0])["a/cherry"]
    assert soft.shape == (48, 80) and soft.dtype == np.uint8 and len(np.unique(soft)) > 3
    assert (soft[mask] >= 229).all() and (soft[~mask] <= 230).all()


@pytest.mark.parametrize(("how", "words"), [("detect", "red"), ("ground", "the red one")])
def test_words_make_the_example_in_the_first_picture(run_ovdet, scene, target, blob_detector, monkeypatch, how, words):
    monkeypatch.setattr(blob_detector, "masks_of_boxes", boxes_as_masks, raising=False)
    outcome = run_ovdet("segment", scene, target, "--example-by", how, words, "--json", "--no-save")
    assert outcome.code == 0, outcome.err
    first, second = map(found_in, outcome.records)
    assert set(first) == set(second) == {words}
    red = (read_picture(target) == (220, 30, 30)).all(axis=2)
    assert (second[words] & red).sum() / (second[words] | red).sum() > 0.9


def boxes_as_masks(image, boxes_xyxy):
    masks = np.zeros((len(boxes_xyxy), *image.shape[:2]), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes_xyxy.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def test_a_clip_is_followed_from_the_mask_of_its_first_frame(run_ovdet, clip, colour_desk):
    outcome = run_ovdet("segment", clip, "--first-mask", "ant,bee=first.png", "--memory", 2, "--json")
    assert outcome.code == 0, outcome.err
    assert [record["frame"] for record in outcome.records] == list(range(10))
    given = np.asarray(Image.open("first.png"))
    for step, record in enumerate(outcome.records):
        labels = np.asarray(Image.open(f"outputs/masks/clip/{step:05d}.png"))
        wanted = mask_of((4 + 3 * step, 8, 28 + 3 * step, 30), (64, step, 90, 24 + step), size_hw=(64, 96))
        if step == 0:
            np.testing.assert_array_equal(labels, given)
            assert [one["score"] for one in record["detections"]] == [1, 1]
        for number in (1, 2):
            one, other = labels == number, wanted == number
            assert (one & other).sum() / (one | other).sum() > 0.7, (step, number)
    with VideoReader("outputs/clip.mp4") as reader:
        assert reader.fps == pytest.approx(10) and len(list(reader)) == 10
    counts = [count for _, count in colour_desk.model.asked]
    assert counts[:6] == [1, 1, 2, 2, 3, 3] and max(counts) == 3  # the first frame stays, the last two come and go
    assert {kind for kind, _ in colour_desk.model.asked} == {"INSTANCE"}
    assert sorted(os.listdir("outputs")) == ["clip.mp4", "masks"]


def test_words_start_a_clip_where_they_are_found(run_ovdet, tmp_path, paint):
    with write_video(tmp_path / "late.mp4", 10) as writer:
        for step in range(6):
            writer.write(paint((64, 96), *([("red", (4, 8, 40, 40))] if step > 2 else [])))
    outcome = run_ovdet("segment", "late.mp4", "--example-by", "detect", "red", "--json", "--soft")
    assert outcome.code == 0, outcome.err
    assert [len(record["detections"]) for record in outcome.records] == [0, 0, 0, 1, 1, 1]
    assert len(os.listdir("outputs/soft/late")) == 2


def test_examples_words_and_first_masks_go_together(run_ovdet, clip, scene, tmp_path):
    Image.fromarray((np.asarray(Image.open("first.png")) == 1).astype(np.uint8)).save("ant.png")
    outcome = run_ovdet(
        "segment", clip, "--first-mask", "ant=ant.png", "--example-by", "detect", "blue",
        "--example", "cherry=example.png", "binary.png", "--overlap", "--soft", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    for record in outcome.records:
        assert {one["name"]: one["label"] for one in record["detections"]} == {"cherry": 0, "ant": 1, "blue": 2}
    assert len(os.listdir("outputs/soft/clip")) == 1 + 9 * 3


def test_a_clip_by_examples_alone(run_ovdet, clip, scene, colour_desk):
    options = ("--example", "cherry=example.png", "binary.png", "--json", "--no-save")
    assert [len(r["detections"]) for r in run_ovdet("segment", clip, *options).records] == [1] * 10
    assert max(count for _, count in colour_desk.model.asked) == 5
    colour_desk.model.asked.clear()
    assert len(run_ovdet("segment", clip, *options, "--memory", 0, "--batch-size", 4).records) == 10
    assert colour_desk.model.asked == [("SEMANTIC", 1)]


def test_a_killed_run_goes_on_where_it_stopped(run_ovdet, clip, colour_desk, monkeypatch):
    arguments = ("segment", clip, "--first-mask", "ant,bee=first.png", "--json", "--format", "coco")
    whole = run_ovdet(*arguments, "--out", "whole")
    decide, looked = colour_desk.decide, []

    def die(*arguments, **options):
        if len(looked) == 4:
            raise KeyboardInterrupt
        looked.append(1)
        return decide(*arguments, **options)

    monkeypatch.setattr(colour_desk, "decide", die)
    assert run_ovdet(*arguments, "--out", "part").code == 130
    log = Path("part/clip.answers.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6 and sorted(os.listdir("part")) == ["clip.answers.jsonl", "masks"]
    log.write_bytes(b"".join(lines) + b'{"given": [], "ans')  # killed in the middle of a line
    monkeypatch.setattr(colour_desk, "decide", lambda *a, **k: (looked.append(1), decide(*a, **k))[1])
    other = run_ovdet("segment", clip, "--first-mask", "ant,bee=first.png", "--largest", "--resume", "--out", "part")
    assert other.code == 2 and "was begun with other examples" in other.err
    again = run_ovdet(*arguments, "--out", "part", "--resume")
    assert again.code == 0 and len(looked) == 9 and again.out == whole.out
    assert sorted(os.listdir("part")) == sorted(os.listdir("whole")) == ["clip.mp4", "masks", "results.coco.json"]
    for step in range(10):
        assert (
            Path(f"part/masks/clip/{step:05d}.png").read_bytes()
            == Path(f"whole/masks/clip/{step:05d}.png").read_bytes()
        )
    assert Path("part/clip.mp4").read_bytes() == Path("whole/clip.mp4").read_bytes()


def test_ctrl_c_keeps_what_a_later_run_needs(run_ovdet, clip, colour_desk, monkeypatch):
    decide = colour_desk.decide
    monkeypatch.setattr(colour_desk, "decide", lambda *a, **k: (signal.raise_signal(signal.SIGINT), decide(*a, **k))[1])
    arguments = ("segment", clip, "--first-mask", "first.png", "--json")
    assert run_ovdet(*arguments).code == 130
    assert len(list(VideoReader("outputs/clip.mp4"))) == 2 and Path("outputs/clip.answers.jsonl").exists()
    monkeypatch.setattr(colour_desk, "decide", decide)
    assert len(run_ovdet(*arguments, "--resume").records) == 10 and not Path("outputs/clip.answers.jsonl").exists()


def test_a_clip_on_which_the_model_fails_can_be_gone_on_with(run_ovdet, clip, target, scene, colour_desk, monkeypatch):
    look, looked = colour_desk.look, []

    def fail(*arguments, **options):
        looked.append(1)
        if len(looked) == 3:
            raise RuntimeError("kernel exploded")
        return look(*arguments, **options)

    monkeypatch.setattr(colour_desk, "look", fail)
    arguments = ("segment", clip, target, "--example", "cherry=example.png", "binary.png", "--json")
    outcome = run_ovdet(*arguments)
    assert outcome.code == 1 and "clip.mp4 frame 2: the model failed" in outcome.err and len(outcome.records) == 3
    assert Path("outputs/clip.answers.jsonl").exists() and not Path("outputs/clip.mp4").exists()
    assert len(run_ovdet(*arguments, "--resume").records) == 11 and not Path("outputs/clip.answers.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "there is no example; give --example, --example-by or --first-mask, or a tuned --prompt"),
        (("--example", "gone.png", "binary.png"), "there is no picture gone.png"),
        (
            ("--example", "example.png", "gone.png"),
            "there is no mask gone.png; give a file, FILE.json:ANNOTATION or a box",
        ),
        (("--example", "example.png", "gone.json:3"), "there is no COCO file gone.json"),
        (("--example", "example.png", "coco.json:99"), "has no annotation 99; its ids go from 7 to 8"),
        (("--example", "example.png", "1,2,0,5"), "must be wider and higher than 0"),
        (("--example", "example.png", "200,200,5,5"), "holds no pixel of its 96x64 picture"),
        (("--example", "example.png"), "expected 2 arguments"),
        (("--example", "a,,b=example.png", "palette.png"), "a name before '=' is blank"),
        (("--example", "a,b=example.png", "binary.png"), "2 names for a mask of one class"),
        (("--example", "a=example.png", "palette.png"), "holds number 2 (1024 pixels), which has no name"),
        (("--example", "example.png", "small.png"), "the mask has 48x32 pixels and its picture 96x64"),
        (("--example", "example.png", "empty.png"), "is empty"),
        (("--example", "example.png", "dot.png"), "too small: nothing of it is left"),
        (("--example", "example.png", "photo.png"), "colours, too many to be classes"),
        (("--example", "example.png", "coco.json"), "say which annotation of coco.json is the mask: coco.json:ID"),
        (("--example-by", "guess", "pizza"), "choose detect (a name) or ground (a sentence)"),
        (("--example-by", "detect", " "), "there are no words"),
        (("--example-by", "detect", "red", "--example-by", "ground", "red"), "'red' is given twice"),
        (("--example-by", "detect", "green"), "nothing like 'green' was found in"),
        (("--first-mask", "binary.png"), "there is no video among the sources"),
        (("--example", "example.png", "binary.png", "--threshold", 1.5), "threshold must lie in [0, 1)"),
        (("--example", "example.png", "binary.png", "--memory", -1), "memory must be at least 0"),
        (("--example", "example.png", "binary.png", "--min-pixels", 0), "min_pixels must be at least 1"),
        (("--example", "example.png", "binary.png", "--mode", "all"), "invalid choice: 'all'"),
        (("--example", "example.png", "binary.png", "--mode", "similar", "--max-dets", 300), "254 things at most"),
    ],
)
def test_wrong_examples_and_options_write_nothing(run_ovdet, scene, target, tmp_path, arguments, sentence):
    Image.fromarray(mask_of(LEFT)[::2, ::2]).save(tmp_path / "small.png")
    Image.fromarray(np.zeros(SIZE_HW, np.uint8)).save(tmp_path / "empty.png")
    Image.fromarray(mask_of((30, 30, 31, 31))).save(tmp_path / "dot.png")
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    outcome = run_ovdet("segment", target, *arguments)
    assert outcome.code == 2 and sentence in outcome.err and outcome.out == ""
    assert len(outcome.err.splitlines()) == 1 and "Traceback" not in outcome.err
    assert not [path for path in Path("outputs").rglob("*") if path.is_file()]


def test_masks_are_resized_only_when_asked(run_ovdet, scene, target, tmp_path):
    Image.fromarray(mask_of(LEFT)[::2, ::2]).save(tmp_path / "small.png")
    outcome = run_ovdet("segment", target, "--example", "example.png", "small.png", "--resize-masks", "--json")
    assert outcome.code == 0 and len(outcome.records[0]["detections"]) == 1


def test_bad_sources_do_not_stop_the_others(run_ovdet, scene, target, clip, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    arguments = ("--first-mask", "ant,bee=first.png", "--json")
    outcome = run_ovdet("segment", "broken.png", "gone.png", target, "broken.mp4", clip, *arguments)
    assert outcome.code == 2 and len(outcome.records) == 10
    assert len(outcome.errors) == 4 and "only a video has a first frame; give --example" in outcome.errors[2]
    assert "broken.mp4 cannot be opened" in outcome.errors[3]
    outcome = run_ovdet("segment", "broken.png", scene, target, "--example-by", "detect", "red", "--json")
    assert outcome.code == 2 and len(outcome.records) == 2
    outcome = run_ovdet("segment", "broken.png", target, "--example", "example.png", "binary.png", "--json")
    assert outcome.code == 2 and len(outcome.records) == 1


def test_hundreds_of_examples_and_long_pictures(run_ovdet, scene, target, tmp_path, paint):
    Image.fromarray(paint((20, 800), ("red", (100, 0, 300, 20)))).save(tmp_path / "long.png")
    examples = ["--example", "cherry=example.png", "binary.png"] * 200
    outcome = run_ovdet("segment", "long.png", *examples, "--ensemble", "spatial", "--json")
    assert outcome.code == 0 and outcome.records[0]["size_hw"] == [20, 800]
    outcome = run_ovdet("segment", target, *examples[: 3 * 40], "--json", "--no-save")
    assert outcome.code == 0 and "40 examples of 'cherry': every picture takes as many times longer" in outcome.err
