"""The third desk with a network that goes by colours: every kind of example, pictures, streams and video."""

import numpy as np
import pytest
from PIL import Image

from ovdet import Detections, Detector, InputError, Segmenter
from ovdet.errors import CapabilityError
from ovdet.examples import example_of_sentence, example_of_words
from ovdet.grounder import Grounder
from ovdet.media import read_video, write_video
from ovdet.seggpt.examples import Example
from ovdet.seggpt.postprocess import MaskRules
from ovdet.seggpt.predict import SegGPTSegmenter
from ovdet.segmenter import weights_path

RED, BLUE = (4, 4, 20, 20), (24, 8, 38, 30)


def box_mask(box, size_hw=(40, 40)) -> np.ndarray:
    mask = np.zeros(size_hw, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


@pytest.fixture
def segmenter(colour_desk, blob_detector) -> Segmenter:
    return Segmenter(colour_desk, detector=Detector(blob_detector))


@pytest.fixture
def shown(paint, tmp_path) -> np.ndarray:
    """A picture with something red and something blue, also as shown.png; the red's mask as red.png."""
    image = paint((40, 40), ("red", RED), ("blue", BLUE))
    Image.fromarray(image).save(tmp_path / "shown.png")
    Image.fromarray(box_mask(RED)).save(tmp_path / "red.png")
    return image


def iou(found: np.ndarray, wanted: np.ndarray) -> float:
    return (found & wanted).sum() / (found | wanted).sum()


def test_three_lines(segmenter, shown, tmp_path):
    result = segmenter(tmp_path / "shown.png", [(tmp_path / "shown.png", tmp_path / "red.png", "cherry")])
    assert isinstance(result, Detections) and result.names == ["cherry"] and result.model == "colours"
    assert iou(result.masks[0], box_mask(RED)) > 0.85 and result.source == str(tmp_path / "shown.png")


def test_examples_of_every_kind_give_the_same(segmenter, shown, tmp_path):
    mask = box_mask(RED)
    expected = segmenter(shown, [(shown, mask, "cherry")]).to_dict()
    for example in (
        (tmp_path / "shown.png", mask, "cherry"),
        (Image.fromarray(shown), mask.astype(np.uint8) * 255, "cherry"),
        [str(tmp_path / "shown.png"), str(tmp_path / "red.png"), "cherry"],
        Example.from_mask(shown, mask, "cherry"),
        segmenter.example(shown[..., ::-1], mask, "cherry", color="bgr"),
        (shown, np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255, "cherry"),
    ):
        assert segmenter(shown, [example]).to_dict() == expected
    prompt = segmenter.learn([(shown, mask, "cherry")])
    assert segmenter(shown, prompt).to_dict() == expected


def test_a_box_is_cut_out_by_the_detector(segmenter, shown, blob_detector, monkeypatch):
    seen = []

    def masks_of_boxes(image, boxes_xyxy):
        seen.extend(boxes_xyxy.tolist())
        return box_mask(RED)[None]

    monkeypatch.setattr(blob_detector, "masks_of_boxes", masks_of_boxes, raising=False)
    example = segmenter.example(shown, (-3, 2.5, 22, 21), "cherry")
    assert seen == [[0, 2.5, 22, 21]]
    np.testing.assert_array_equal(example.only("cherry"), box_mask(RED))
    monkeypatch.delattr(blob_detector, "masks_of_boxes")
    with pytest.raises(CapabilityError, match="blobs cannot turn boxes into masks"):
        segmenter.example(shown, (4, 4, 20, 20))


def test_lists_streams_and_soft_masks(segmenter, shown):
    prompt = segmenter.learn([(shown, box_mask(RED), "cherry"), (shown, box_mask(BLUE), "plum")])
    results = segmenter([shown, shown[:, ::-1].copy()], prompt)
    assert isinstance(results, list) and [sorted(each.names) for each in results] == [["cherry", "plum"]] * 2
    stream = segmenter(iter([shown]), prompt, rules=MaskRules(min_pixels=262), max_dets=1)
    assert next(stream).names == ["plum"]
    soft = segmenter.soft_masks(shown, prompt)
    assert soft.shape == (2, 40, 40) and soft.dtype == np.float32
    assert soft[0][box_mask((8, 8, 16, 16))].min() > 0.9 and soft[1][box_mask((8, 8, 16, 16))].max() < 0.1


def test_words_and_sentences_make_examples(shown, blob_detector, blob_grounder, monkeypatch):
    detector = Detector(blob_detector)
    example = example_of_words(shown, "red", detector)
    np.testing.assert_array_equal(example.only("red"), box_mask(RED))
    assert example_of_words(shown, "green", detector) is None
    cut = [box_mask(BLUE)]
    monkeypatch.setattr(blob_detector, "masks_of_boxes", lambda image, boxes: np.array(cut * len(boxes)), raising=False)
    example = example_of_sentence(shown, "what is blue", Grounder(blob_grounder), detector)
    np.testing.assert_array_equal(example.only("what is blue"), box_mask(BLUE))
    assert example_of_sentence(shown, "what is green", Grounder(blob_grounder), detector) is None


def test_a_video_is_followed(segmenter, paint, tmp_path):
    boxes = [(4 + 2 * step, 4, 20 + 2 * step, 20) for step in range(6)]
    frames = [paint((40, 40), ("red", box)) for box in boxes]
    mask = box_mask(boxes[0])
    answers = list(segmenter.video(iter(frames), first=mask, names="ant", memory=2))
    assert [answer.names for answer in answers] == [["ant"]] * 6
    np.testing.assert_array_equal(answers[0].masks[0], mask)
    assert all(iou(answer.masks[0], box_mask(box)) > 0.8 for answer, box in zip(answers, boxes, strict=True))
    by_example = list(segmenter.video(frames, examples=[(frames[3], box_mask(boxes[3]), "ant")], memory=0))
    assert all(iou(answer.masks[0], box_mask(box)) > 0.8 for answer, box in zip(by_example, boxes, strict=True))
    late = Example.from_mask(frames[2], box_mask(boxes[2]), "late")
    assert [len(answer) for answer in segmenter.video(frames, first={2: late})] == [0, 0, 1, 1, 1, 1]
    with write_video(tmp_path / "clip.mp4", 10) as writer:
        for frame in frames:
            writer.write(frame)
    first = next(read_video(tmp_path / "clip.mp4"))
    answers = list(segmenter.video(tmp_path / "clip.mp4", first=mask, memory=1))
    assert len(answers) == 6 and first.shape == (40, 40, 3)
    assert {answer.source for answer in answers} == {str(tmp_path / "clip.mp4")}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda seg, image: seg(image, []), "at least one example is needed"),
        (lambda seg, image: seg(image, [image]), r"example 0 must be \(picture, mask\)"),
        (lambda seg, image: seg(image, [(image, np.zeros((40, 40), bool))]), "example 0: the mask of 'thing' is empty"),
        (lambda seg, image: seg(image, [(image, np.ones((20, 40), bool))]), "40x20 pixels and its picture 40x40"),
        (lambda seg, image: seg(image, [(image, "gone.png")]), "no mask file gone.png"),
        (lambda seg, image: seg(image, [("gone.png", "gone.png")]), "no file gone.png"),
        (lambda seg, image: seg(image, [(image, (1, 2, 3))]), "a box must be four numbers"),
        (lambda seg, image: seg(image, [(image, (50, 2, 60, 3))]), "holds no pixel of its 40x40 picture"),
        (lambda seg, image: seg(image, [(image, "no", "a", "b")]), "example 0 must be"),
        (lambda seg, image: seg(image, [(image, np.ones((40, 40), bool))], mode="all"), "mode must be one of"),
        (lambda seg, image: seg.video([image]), "nothing says what to follow"),
        (lambda seg, image: Segmenter("stikkers"), "unknown model 'stikkers'; did you mean 'stickers'"),
        (lambda seg, image: Segmenter("gone.pth"), "there is no checkpoint gone.pth"),
        (lambda seg, image: Segmenter(seg.desk, batch_size=0), "batch_size must be at least 1"),
    ],
)  # fmt: skip
def test_mistakes_are_told(segmenter, shown, call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(segmenter, shown)


def test_the_weights_of_a_name_or_path_are_found(tmp_path):
    (path := tmp_path / "own.pth").write_bytes(b"weights")
    assert weights_path(str(path)) == path and weights_path("stickers").name == "stickers.safetensors"
    with pytest.raises(InputError, match="did you mean 'stickers'"):
        weights_path("sticker")
    with pytest.raises(InputError, match=r"there is no checkpoint .*gone\.pth"):
        weights_path(tmp_path / "gone.pth")


def test_candidates_are_a_detectors_masks_that_fit(segmenter, shown, paint):
    """The network paints all that is red; the detector leaves out what it holds for a speck."""
    other = paint((40, 60), ("red", (2, 2, 18, 18)), ("blue", (24, 4, 40, 20)), ("red", (44, 20, 58, 38)))
    examples = [(shown, box_mask(RED), "cherry"), (shown, box_mask(BLUE), "plum")]
    result = segmenter(other, examples, candidates="detect")
    assert sorted(result.names) == ["cherry", "plum"]
    cherry = result.masks[result.names.index("cherry")]
    assert np.array_equal(cherry, box_mask((2, 2, 18, 18), (40, 60)) | box_mask((44, 20, 58, 38), (40, 60)))
    prompt = segmenter.learn(examples[:1], candidates="detect")
    assert prompt.rows.shape == (1, 3) and len(segmenter(paint((40, 40), ("blue", BLUE)), prompt)) == 0
    things = segmenter(other, examples[:1], mode="similar", candidates="detect")
    assert len(things) == 2


def test_a_class_of_several_things_is_their_mean(segmenter, paint):
    image = paint((40, 60), ("red", (2, 2, 18, 18)), ("red", (30, 20, 46, 38)))
    mask = box_mask((2, 2, 18, 18), (40, 60)) | box_mask((30, 20, 46, 38), (40, 60))
    one = segmenter.learn([(image, box_mask((2, 2, 18, 18), (40, 60)))], candidates="detect").rows
    both = segmenter.learn([(image, mask)], candidates="detect").rows
    assert np.allclose(one, both)


def test_mistakes_with_candidates_are_told(segmenter, shown):
    examples = [(shown, box_mask(RED))]
    with pytest.raises(InputError, match="candidates must be 'detect' or None"):
        segmenter(shown, examples, candidates="ground")
    with pytest.raises(InputError, match="learned without candidates"):
        segmenter(shown, segmenter.learn(examples), candidates="detect")


def test_the_shipped_model_looks_in_the_mirror_where_nobody_says(shown, blob_detector, monkeypatch):
    """At pictures; not at frames, and not for a detector's candidates, unless it is asked for."""
    example = (shown, box_mask(RED))
    asked = []
    learn = SegGPTSegmenter.learn

    def watched(self, *args, **more):
        asked.append(learn(self, *args, **more).mirror)
        return learn(self, *args, **more)

    monkeypatch.setattr(SegGPTSegmenter, "learn", watched)
    frames = [shown, shown]
    for said, expected in ((None, [True, False, False]), (False, [False] * 3), (True, [True] * 3)):
        segmenter = Segmenter("stickers", "cpu", mirror=said, detector=Detector(blob_detector))
        asked.clear()
        segmenter.learn([example])
        segmenter.learn([example], candidates="detect")
        list(segmenter.video(frames, first=example[1]))
        assert asked == expected
