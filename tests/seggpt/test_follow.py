import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.results import Detections
from ovdet.seggpt.build import seggpt_small
from ovdet.seggpt.examples import Example
from ovdet.seggpt.follow import ClipFollower, follow
from ovdet.seggpt.postprocess import MaskRules
from ovdet.seggpt.predict import SegGPTSegmenter, Sights
from ovdet.seggpt.stem import TrunkStem

RED_AT, BLUE_AT = (4, 4, 16, 16), (20, 20, 30, 30)


@pytest.fixture
def frame(paint):
    """A picture of 32 x 32 with something red, something blue, or both; and its example."""

    def make(red=RED_AT, blue=None):
        blobs = [(name, box) for name, box in (("red", red), ("blue", blue)) if box is not None]
        image = paint((32, 32), *blobs)
        parts = []
        for name, (x1, y1, x2, y2) in blobs:
            mask = np.zeros((32, 32), bool)
            mask[y1:y2, x1:x2] = True
            parts.append((name, mask))
        return image, Example.of_masks(image, parts) if parts else None

    return make


def test_the_first_frame_stays_and_the_last_ones_come_and_go(colour_desk, frame):
    follower = ClipFollower(colour_desk, memory=3)
    clip = [frame((4 + step, 4, 16 + step, 16)) for step in range(8)]
    answers = list(follow(follower, [image for image, _ in clip], {0: clip[0][1]}))
    assert [count for _, count in colour_desk.model.asked] == [1, 2, 3, 4, 4, 4, 4]
    for found, (_, example) in zip(answers, clip, strict=True):
        np.testing.assert_array_equal(found.masks, example.only("red")[None])
    assert answers[0].scores.tolist() == [1.0] and all(len(answer) == 1 for answer in answers)


def test_a_frame_without_the_thing_is_no_example_of_it(colour_desk, frame):
    follower = ClipFollower(colour_desk, memory=3)
    (first, example), (empty, _) = frame(), frame(None)
    answers = list(follow(follower, [first, empty, empty, first, first], {0: example}))
    assert [len(answer) for answer in answers] == [1, 0, 0, 1, 1]
    assert [count for _, count in colour_desk.model.asked] == [1, 2]  # asked anew only when there is something new


def test_things_may_come_later_and_keep_their_numbers(colour_desk, frame):
    (one, red), (two, both) = frame(), frame(RED_AT, BLUE_AT)
    blue = Example.from_mask(two, both.only("blue"), "blue")
    follower = ClipFollower(colour_desk, memory=1)
    answers = list(follow(follower, [one, one, two, two], {1: red, 2: blue}))
    assert answers[0].class_names == () and len(answers[0]) == 0 and answers[0].masks.shape == (0, 32, 32)
    assert answers[1].class_names == ("red",) and answers[2].class_names == answers[3].class_names == ("red", "blue")
    assert sorted(answers[3].names) == ["blue", "red"]
    assert answers[2].scores[answers[2].names.index("blue")] == 1
    for answer in answers[2:]:
        np.testing.assert_array_equal(answer.label_map() == 1, both.only("red"))
        np.testing.assert_array_equal(answer.label_map() == 2, both.only("blue"))


def test_what_is_known_of_a_frame_wins_over_what_is_found(colour_desk, frame):
    image, red = frame()
    mine = np.zeros((32, 32), bool)
    mine[4:16, 4:10] = True
    follower = ClipFollower(colour_desk)
    follower.give(red)
    found = follower.start(image, Example.from_mask(image, mine, "left half"))
    np.testing.assert_array_equal(found.label_map(), red.only("red") * 1 + mine)
    assert follower.names == ("red", "left half")


def test_answers_of_another_run_bring_a_follower_to_the_same_place(colour_desk, frame):
    clip = [frame((4 + step, 4, 16 + step, 16), BLUE_AT) for step in range(6)]
    images, example = [image for image, _ in clip], clip[0][1]
    whole = list(follow(ClipFollower(colour_desk, memory=2), images, {0: example}))
    follower = ClipFollower(colour_desk, memory=2)
    follower.give(example)
    for image, found in zip(images[1:4], whole[1:4], strict=True):
        follower.remember(image, Detections.from_dict(found.to_dict(), found.class_names))
    for image, found in zip(images[4:], whole[4:], strict=True):
        assert follower(image).to_dict() == found.to_dict()


def test_given_examples_of_other_pictures_and_rules(colour_desk, frame):
    _, red = frame()
    follower = ClipFollower(colour_desk, memory=0, mode="semantic", rules=MaskRules(largest=True), max_dets=1)
    follower.give(red)
    image, _ = frame((2, 2, 8, 8), None)
    image[20:30, 20:30] = image[3, 3]
    assert follower(image).boxes_xyxy.tolist() == [[20, 20, 30, 30]]
    assert follower(image).boxes_xyxy.tolist() == [[20, 20, 30, 30]] and colour_desk.model.asked == [("SEMANTIC", 1)]


def test_mistakes_are_told(colour_desk, frame):
    with pytest.raises(InputError, match="memory must be at least 0"):
        ClipFollower(colour_desk, memory=-1)
    with pytest.raises(InputError, match="at least one example is needed"):
        ClipFollower(colour_desk)(frame()[0])
    dot = np.zeros((320, 320), bool)
    dot[3, 3] = True
    with pytest.raises(InputError, match="too small: nothing of it is left"):
        ClipFollower(colour_desk).give(Example.from_mask(np.zeros((320, 320, 3), np.uint8), dot))


@pytest.fixture(scope="module")
def sighted():
    """A network whose trunk sees, and in which all parts do something."""
    torch.manual_seed(0)
    model = seggpt_small(64)
    torch.nn.init.normal_(model.matcher.answer[2].weight, std=0.1)
    return model.eval()


@pytest.mark.parametrize("mirror", [False, True])
def test_each_picture_of_a_clip_is_seen_once_as_target_and_once_as_example(sighted, frame, monkeypatch, mirror):
    """And the answers are those of looking anew."""
    desk = SegGPTSegmenter(sighted, threshold=0.3, mirror=mirror)
    clip = [frame((4 + step, 4, 16 + step, 16), (20, 20, 30 - step, 30)) for step in range(5)]

    def run():
        follower = ClipFollower(desk, memory=2)
        follower.start(*clip[0])
        soft = []
        for image, example in clip[1:]:
            monkeypatch.setattr(desk, "decide", lambda *args, example=example: found_of(example))
            follower(image)
            soft.extend(follower.seen[1])
        return np.stack(soft)

    seen = []
    levels = TrunkStem.levels
    monkeypatch.setattr(TrunkStem, "levels", lambda self, x: seen.append(len(x)) or levels(self, x))
    kept = run()
    assert sum(seen) == (1 + mirror) * (4 + 4), "four frames in question, and four that became examples"
    monkeypatch.setattr(Sights, "of", lambda *args, **more: None)
    seen.clear()
    np.testing.assert_allclose(kept, run(), atol=1e-5)
    assert sum(seen) > (1 + mirror) * 20


def found_of(example):
    """What an example shows, as an answer."""
    masks = np.stack([example.only(name) for name in example.names])
    boxes, scores = np.zeros((len(masks), 4), np.float32), np.ones(len(masks))
    return Detections(boxes, scores, np.arange(len(masks)), example.names, masks.shape[1:], masks)
