import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdet.errors import InputError
from ovdet.layers.compact import read_compact
from ovdet.results import Detections

FOLDER = Path(__file__).parents[2] / "tools" / "benchmarks" / "photographs"
sys.path.insert(0, str(FOLDER))

import pack_proposer  # noqa: E402
import photo_labels  # noqa: E402
import photo_scoring  # noqa: E402
import run  # noqa: E402
from photo_scoring import Found, judge, overlap_matrix  # noqa: E402


@pytest.fixture(scope="module")
def labels():
    return photo_labels.read_labels()


class TestLabels:
    def test_hold_their_rules(self, labels):
        photo_labels.check_labels(labels)
        for photo in labels.photographs:
            assert len(photo.sha256) == 64
            assert photo.licence.strip()
            assert photo.kind in {"animal", "vehicle", "household", "people", "place"}

    def test_halves_are_disjoint_and_balanced_in_kind(self, labels):
        development, report = labels.half("development"), labels.half("report")
        assert len(development) + len(report) == len(labels.photographs) == 26
        assert not {photo.sha256 for photo in development} & {photo.sha256 for photo in report}
        for kind in {photo.kind for photo in labels.photographs}:
            counts = [sum(photo.kind == kind for photo in half) for half in (development, report)]
            assert counts[0] == counts[1], kind

    def test_what_imagenet_lacks_is_asked_for(self, labels):
        asked = {name for photo in labels.photographs for name in photo.names}
        assert labels.not_in_imagenet <= asked
        assert "person" in labels.not_in_imagenet

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"half": "test"}, "half must be"),
            ({"package": "nowhere"}, "not listed"),
            ({"absent": ("dog", "dog")}, "twice"),
            ({"absent": ("dog", " ")}, "blank"),
            ({"absent": ()}, "3 to 10"),
            ({"objects": ()}, "no object"),
            ({"objects": (photo_labels.Box("cat", (0, 0, 452, 10)),)}, "leaves the picture"),
            ({"objects": (photo_labels.Box("cat", (5, 5, 5, 10)),)}, "is empty"),
        ],
    )
    def test_a_broken_rule_is_named(self, labels, change, message):
        cat = next(photo for photo in labels.photographs if photo.id == "cat")
        with pytest.raises(ValueError, match=message):
            photo_labels.check_labels(replace(labels, photographs=(replace(cat, **change),)))

    def test_same_picture_twice_is_refused(self, labels):
        cat = labels.photographs[0]
        with pytest.raises(ValueError, match="twice"):
            photo_labels.check_labels(replace(labels, photographs=(cat, replace(cat, id="again"))))

    def test_pictures_of_python_packages_are_those_that_were_labelled(self, labels):
        pytest.importorskip("skimage")
        photos = [photo for photo in labels.photographs if photo.package == "scikit-image"]
        assert len(photos) == 5
        for photo in photos:
            file = photo_labels.find_photograph(photo, [])
            assert photo_labels.read_photograph(photo, file).shape == (*photo.size_hw, 3)

    def test_other_content_is_refused(self, labels, tmp_path):
        photo = labels.photographs[0]
        file = tmp_path / photo.path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"something else")
        assert photo_labels.find_photograph(photo, [tmp_path]) == file
        with pytest.raises(ValueError, match="SHA-256"):
            photo_labels.read_photograph(photo, file)

    def test_commands_name_package_and_version(self, labels):
        pip, deb = photo_labels.how_to_get(["scikit-image", "opencv-doc"], labels, Path("here"))[::-1]
        assert pip == "pip install scikit-image==0.26.0"
        assert deb.startswith("apt-get download opencv-doc=4.6.0+dfsg-12 && dpkg -x opencv-doc_*.deb here/opencv-doc")


def box_strategy():
    edge = st.integers(0, 12)
    pairs = st.tuples(edge, edge).filter(lambda pair: pair[0] < pair[1])
    return st.tuples(pairs, pairs).map(lambda xy: (xy[0][0], xy[1][0], xy[0][1], xy[1][1]))


def pixels(box, side=12):
    grid = np.zeros((side, side), bool)
    grid[box[1] : box[3], box[0] : box[2]] = True
    return grid


class TestScoring:
    @settings(max_examples=50, deadline=None)
    @given(first=box_strategy(), second=box_strategy())
    def test_overlap_equals_counted_pixels(self, first, second):
        shared = (pixels(first) & pixels(second)).sum()
        union = (pixels(first) | pixels(second)).sum()
        assert overlap_matrix([first], [second])[0, 0] == pytest.approx(shared / union)
        assert overlap_matrix([first], [second], of="first")[0, 0] == pytest.approx(shared / pixels(first).sum())

    def test_empty_sides(self):
        assert overlap_matrix([], [[0, 0, 1, 1]]).shape == (0, 1)
        assert overlap_matrix([[1, 1, 1, 1]], [[1, 1, 1, 1]])[0, 0] == 0
        assert judge([], [("cat", (0, 0, 1, 1))]).missed == (0,)

    def test_second_box_on_one_object_is_a_false_alarm(self):
        found = [Found("cat", 0.5, (0, 0, 10, 10)), Found("cat", 0.9, (0, 0, 10, 9))]
        verdict = judge(found, [("cat", (0, 0, 10, 10))])
        assert verdict.hits == ((0, 1),)
        assert verdict.false_alarms == (0,)

    def test_right_place_wrong_name_counts_only_blindly(self):
        found = [Found("dog", 0.9, (0, 0, 10, 10))]
        objects = [("cat", (0, 0, 10, 10))]
        assert judge(found, objects).false_alarms == (0,)
        assert judge(found, objects, blind=True).hits == ((0, 0),)

    def test_ignored_places_count_neither_way_but_hits_come_first(self):
        found = [
            Found("person", 0.9, (0, 0, 4, 4)),
            Found("person", 0.8, (20, 20, 24, 24)),
            Found("dog", 0.7, (0, 0, 4, 4)),
        ]
        verdict = judge(found, [("person", (0, 0, 4, 5))], [("person", (0, 0, 30, 30))])
        assert (verdict.hits, verdict.ignored, verdict.false_alarms) == (((0, 0),), (1,), (2,))

    def test_iou_of_exactly_one_half_is_a_hit(self):
        assert judge([Found("cat", 1, (0, 0, 10, 5))], [("cat", (0, 0, 10, 10))]).hits == ((0, 0),)
        assert judge([Found("cat", 1, (0, 0, 10, 4.99))], [("cat", (0, 0, 10, 10))]).hits == ()

    @settings(max_examples=60, deadline=None)
    @given(
        objects=st.lists(st.tuples(st.sampled_from("ab"), box_strategy()), max_size=4),
        found=st.lists(st.tuples(st.sampled_from("ab"), box_strategy()), max_size=4),
    )
    def test_greedy_is_a_maximal_matching_and_accounts_for_everything(self, objects, found):
        found = [Found(name, 1 - index / 10, box) for index, (name, box) in enumerate(found)]
        verdict = judge(found, objects)
        taken_objects, taken_found = [k for k, _ in verdict.hits], [index for _, index in verdict.hits]
        assert sorted([*taken_objects, *verdict.missed]) == list(range(len(objects)))
        assert sorted([*taken_found, *verdict.false_alarms]) == list(range(len(found)))
        ious = overlap_matrix([f.xyxy for f in found], [box for _, box in objects])
        fits = {
            (k, index)
            for k, index in itertools.product(range(len(objects)), range(len(found)))
            if objects[k][0] == found[index].name and ious[index, k] >= 0.5
        }
        assert set(verdict.hits) <= fits
        assert not fits & set(itertools.product(verdict.missed, verdict.false_alarms))
        assert 2 * len(verdict.hits) >= largest_matching(fits)

    def test_ratio_of_nothing(self):
        assert photo_scoring.ratio(0, 0) is None
        assert photo_scoring.ratio(1, 4) == 0.25


def largest_matching(pairs):
    """Size of the largest one-to-one subset of the pairs, by trying all of them."""
    if not pairs:
        return 0
    (k, index), *rest = sorted(pairs)
    with_first = 1 + largest_matching({pair for pair in rest if pair[0] != k and pair[1] != index})
    return max(with_first, largest_matching(set(rest)))


class Oracle:
    """Answers with the labels themselves, for the names that were asked; knows pictures by their size."""

    name = "oracle"

    def __init__(self, photos, wrong_name=None):
        self.by_size = {photo.size_hw: photo for photo in photos}
        self.wrong_name = wrong_name

    def embed(self, names):
        return torch.zeros(len(names), 1)

    def predict(self, images, names, class_embeddings, *, score_threshold=None, max_dets=100, masks=True):
        results = []
        for image in images:
            boxes = [box for box in self.by_size[image.shape[:2]].objects if box.name in names]
            found = [self.wrong_name or box.name for box in boxes]
            kept = [k for k, name in enumerate(found) if name in names]
            results.append(
                Detections(
                    [boxes[k].xyxy for k in kept],
                    [0.9] * len(kept),
                    [names.index(found[k]) for k in kept],
                    names,
                    image.shape[:2],
                )
            )
        return results


class TestRun:
    @pytest.fixture
    def few(self, monkeypatch, labels):
        pytest.importorskip("skimage")
        few = [photo for photo in labels.half("report") if photo.package == "scikit-image"]
        monkeypatch.setattr(run, "read_labels", lambda: replace(labels, photographs=tuple(few)))
        return few

    def command(self, monkeypatch, tmp_path, predictor):
        monkeypatch.setattr(run, "Detector", lambda model, device: detector_of(predictor))
        code = run.main(["--half", "report", "--out", str(tmp_path), "--photos", str(tmp_path)])
        return code, json.loads((tmp_path / "report.json").read_text())

    def test_the_labels_themselves_score_one(self, monkeypatch, tmp_path, few, labels, capsys):
        code, report = self.command(monkeypatch, tmp_path, Oracle(few))
        assert code == 0
        for question in ("own", "all"):
            summary = report["summary"][question]
            assert summary["objects"] == sum(len(photo.objects) for photo in few)
            assert summary["recall_iou_50"] == summary["precision"] == summary["located_by_any_name"] == 1
            assert summary["false_alarms_per_photograph"] == 0
        assert report["protocol"]["labels_sha256"] == labels.sha256
        assert report["protocol"]["photographs_missing"] == 0
        assert len(list((tmp_path / "pictures").glob("*.jpg"))) == 2 * len(few)
        assert "recall_iou_50 | 1.000 | 1.000" in capsys.readouterr().out
        assert "| rocket | rocket, tower x4 |  |  |" in (tmp_path / "report.md").read_text()

    def test_wrong_names_are_false_alarms_at_the_right_places(self, monkeypatch, tmp_path, few):
        _, report = self.command(monkeypatch, tmp_path, Oracle(few, wrong_name="dog"))
        summary = report["summary"]["all"]
        assert summary["recall_iou_50"] == 0
        assert summary["located_by_any_name"] == 1
        assert summary["false_alarms_per_photograph"] == pytest.approx(summary["objects"] / len(few))

    def test_missing_photographs_are_named_with_their_command(self, monkeypatch, tmp_path, labels, capsys):
        debian = [photo for photo in labels.half("report") if photo.package == "opencv-doc"]
        monkeypatch.setattr(run, "read_labels", lambda: replace(labels, photographs=tuple(debian)))
        monkeypatch.setattr(run, "find_photograph", lambda photo, roots: None)
        assert run.main(["--half", "report", "--photos", str(tmp_path)]) == 2
        assert "apt-get download opencv-doc" in capsys.readouterr().err


def detector_of(predictor):
    from ovdet.detector import Detector

    return Detector(predictor)


class TestProposers:
    def checkpoint(self, path):
        from ovdet.zeroshot.proposer import Proposer

        torch.manual_seed(0)
        averaged, last = Proposer().state_dict(), Proposer().state_dict()
        content = {
            "meta": {"iter": 7},
            "state_dict": {f"proposer.{name}": value for name, value in averaged.items()},
            "ema_state_dict": {"steps": torch.tensor(7)}
            | {f"module.proposer.{name}": value for name, value in last.items()},
        }
        torch.save(content, path)
        return averaged, last

    @pytest.mark.parametrize("options", [[], ["--last"]])
    def test_are_packed_out_of_a_checkpoint(self, tmp_path, options):
        averaged, last = self.checkpoint(tmp_path / "iter_7.pth")
        out = tmp_path / "proposer.safetensors"
        assert pack_proposer.main([str(tmp_path / "iter_7.pth"), str(out), *options]) == 0
        weights, facts = read_compact(out)
        assert facts == {"steps": 7, "averaged": not options}
        for name, value in (last if options else averaged).items():
            scale = value.abs().amax() / 127
            assert (weights[name] - value).abs().max() <= scale + 1e-3, name

    def test_other_checkpoints_are_refused(self, tmp_path, capsys):
        torch.save({"state_dict": {"proposer.weight": torch.zeros(2)}}, tmp_path / "other.pth")
        assert pack_proposer.main([str(tmp_path / "other.pth"), str(tmp_path / "out.safetensors")]) == 2
        assert "other names" in capsys.readouterr().err and not (tmp_path / "out.safetensors").exists()

    def test_are_for_imagenet_words_alone(self, tmp_path):
        detector = detector_of(Oracle([]))
        assert run.with_proposer(detector, None) is detector
        with pytest.raises(InputError, match="--proposer is for imagenet-words"):
            run.with_proposer(detector, tmp_path / "proposer.safetensors")
