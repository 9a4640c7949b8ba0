import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovdet.data.episodes import EpisodePictures, read_episodes
from ovdet.errors import InputError
from ovdet.seggpt.build import seggpt
from ovdet.seggpt.weights import save_model

SCRIPT = Path(__file__).parents[3] / "tools" / "evaluate" / "few_shot.py"
SMALL = dict(
    canvas_hw=(64, 32), patch=8, width=16, depth=2, heads=2, merge_block=0, taps=(0, 1), decoder_channels=4,
    position_grid=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def voc(tmp_path):
    """Six pictures of 20 x 30: a red bus of 10 x 12 on green, 2 columns not judged."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(6):
        top, left = rng.integers(0, 10), rng.integers(2, 18)
        labels = np.zeros((20, 30), np.uint8)
        labels[top : top + 10, left : left + 12] = 6
        image = np.where(labels[..., None] > 0, np.uint8([220, 20, 20]), np.uint8([20, 160, 40]))
        labels[:, :2] = 255
        Image.fromarray(image).save(root / "JPEGImages" / f"p{number}.jpg", quality=95)
        Image.fromarray(labels).save(root / "SegmentationClassAug" / f"p{number}.png")
    names = "".join(f"p{number}\n" for number in range(6))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(names)
    return root


def arguments(voc, *more):
    return ["pascal-5i", "--root", str(voc), "--fold", "1", "--count", "7", *more]


def test_marking_everything_has_a_known_score(tool, voc, tmp_path):
    out, episodes = tmp_path / "out.json", tmp_path / "episodes.json"
    metrics = tool["main"](arguments(voc, "--baseline", "everything", "--out", str(out), "--episodes", str(episodes)))
    share = 120 / (20 * 28)
    assert metrics == {"mIoU": pytest.approx(100 * share), "FB-IoU": pytest.approx(50 * share)}
    result = json.loads(out.read_text())
    protocol = result["protocol"]
    assert protocol["data"] == "pascal-5i" and protocol["model"] == "baseline: everything" and protocol["fold"] == 1
    assert protocol["episodes_sha256"] == read_episodes(episodes).digest
    assert protocol["command"].startswith("python tools/evaluate/few_shot.py pascal-5i")
    assert protocol["scoring_size_hw"] == "size of the query" and protocol["seed"] == 0
    assert result["per_class"][0]["name"] == "bus" and result["per_class"][0]["episodes"] == 7


def test_colours_alone_find_a_red_thing_on_green(tool, voc):
    assert tool["main"](arguments(voc, "--baseline", "histogram"))["mIoU"] > 75


def test_a_model_is_asked_and_named(tool, voc, tmp_path):
    torch.manual_seed(0)
    save_model(seggpt(**SMALL), tmp_path / "model.pth")
    out = tmp_path / "out.json"
    options = ["--model", str(tmp_path / "model.pth"), "--scoring-size", "40", "--shots", "2", "--out", str(out)]
    tool["main"](arguments(voc, *options))
    protocol = json.loads(out.read_text())["protocol"]
    assert protocol["scoring_size_hw"] == [40, 40] and protocol["shots"] == 2 and len(protocol["weights_sha256"]) == 64
    assert protocol["ensemble"] == "feature" and protocol["episodes_without_usable_example"] == 0


def test_examples_that_vanish_at_the_networks_size_are_left_out(tool, tmp_path):
    save_model(seggpt(**SMALL), tmp_path / "model.pth")
    args = tool["build_parser"]().parse_args(["stickers", "--model", str(tmp_path / "model.pth")])
    answer, _ = tool["open_model"](args)
    image, dot, block = np.zeros((400, 400, 3), np.uint8), np.zeros((400, 400), bool), np.zeros((400, 400), bool)
    dot[0, 0], block[:200, :200] = True, True
    episode = EpisodePictures(0, image, block, ~dot, ((image, dot),))
    assert answer(episode) is None
    both = answer(EpisodePictures(0, image, block, ~dot, ((image, dot), (image, block))))
    alone = answer(EpisodePictures(0, image, block, ~dot, ((image, block),)))
    assert both.shape == (400, 400) and np.array_equal(both, alone)


def test_neighbours_are_places_alike(tool):
    """A backbone whose map is the mean colour of blocks of 8 pixels: red is found, and what is like nothing is not."""

    class MeanColours(torch.nn.Module):
        mean = torch.zeros(1)

        def forward_dense(self, images):
            return torch.nn.functional.normalize(torch.nn.functional.avg_pool2d(images, 8) - 0.5, dim=1)

    red, green = np.uint8([220, 20, 20]), np.uint8([20, 160, 40])
    example, query = np.tile(green, (32, 32, 1)), np.tile(green, (32, 48, 1))
    mask, truth = np.zeros((32, 32), bool), np.zeros((32, 48), bool)
    mask[8:24, :16], truth[16:, 16:40] = True, True
    example[mask], query[truth] = red, red
    for shots in (1, 2):
        episode = EpisodePictures(0, query, truth, np.ones_like(truth), ((example, mask),) * shots)
        found = tool["Neighbours"](MeanColours(), 1)(episode)
        assert (found & truth).sum() / (found | truth).sum() > 0.8
    nothing = EpisodePictures(0, example, ~mask, ~mask, ((example, np.ones_like(mask)),))
    assert tool["Neighbours"](MeanColours(), 1)(nothing).all(), "an example without background"


def test_baselines_answer_beside_a_model(tool, voc, tmp_path):
    save_model(seggpt(**SMALL), tmp_path / "model.pth")
    out = tmp_path / "out.json"
    options = ["--model", str(tmp_path / "model.pth"), "--baseline", "everything", "neighbours", "--out", str(out)]
    metrics = tool["main"](arguments(voc, *options))
    assert metrics["everything/mIoU"] == pytest.approx(100 * 120 / (20 * 28))
    assert set(metrics) == {f"{who}{what}" for who in ("", "everything/", "neighbours/") for what in ("mIoU", "FB-IoU")}
    protocol = json.loads(out.read_text())["protocol"]
    assert protocol["model"] == "model.pth" and protocol["neighbours"]["backbone"] == "sticker-clip"
    assert protocol["neighbours"]["scale"] == 2 and len(protocol["neighbours"]["weights_sha256"]) == 64


def test_a_stored_list_is_read_and_checked(tool, voc, tmp_path):
    path = tmp_path / "episodes.json"
    first = tool["main"](arguments(voc, "--baseline", "histogram", "--episodes", str(path)))
    again = tool["main"](arguments(voc, "--baseline", "histogram", "--episodes", str(path), "--seed", "9"))
    assert first == again, "the stored list counts, not the seed"
    with pytest.raises(InputError, match="is of shots 1, asked for is 5"):
        tool["main"](arguments(voc, "--baseline", "histogram", "--episodes", str(path), "--shots", "5"))


def test_the_sticker_world(tool, real_names_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    out = tmp_path / "out.json"
    options = ["--split", "48-17", "--count", "4", "--world-side", "160", "--baseline", "everything", "--out", str(out)]
    metrics = tool["main"](["stickers", *options])
    assert 5 < metrics["mIoU"] < 80
    result = json.loads(out.read_text())
    assert result["protocol"]["long_side"] == [40.0, 140.0] and result["protocol"]["objects"] == [1, 4]
    assert result["protocol"]["stream"] == "evaluation" and len(result["per_class"]) == 3
    metrics = tool["main"](["stickers", "--baseline", "histogram", "everything", "--absent", *options[:4]])
    assert metrics["everything/absent_marked"] == 100 and 0 <= metrics["absent_marked"] <= 100


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["pascal-5i"], "give --model, --baseline or both"),
        (["pascal-5i", "--baseline", "everything"], "needs --root"),
        (["coco-20i", "--baseline", "everything", "--ann-file", "a"], "needs --images"),
        (["fss-1000", "--baseline", "everything", "--absent"], "--absent is for stickers"),
        (["stickers", "--baseline", "everything", "--episodes", "a.json"], "--episodes is not for stickers"),
        (["fss-1000", "--baseline", "everything", "--root", "a"], "needs --lists"),
    ],
)
def test_mistakes_are_told(tool, argv, told):
    with pytest.raises(InputError, match=told):
        tool["main"](argv)
