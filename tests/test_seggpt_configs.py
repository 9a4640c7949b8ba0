"""The configs of SegGPT: published figures, and training, resumption and test through the Runner on drawn shapes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS
from PIL import Image

from ovdet.data.sampling import Draw
from ovdet.engine.config import load_config
from ovdet.engine.test import main as run_test
from ovdet.engine.train import main as train_main
from ovdet.seggpt.build import seggpt, seggpt_small
from ovdet.seggpt.training import export_trained
from ovdet.seggpt.weights import load_model, save_model

CONFIGS = Path(__file__).parents[1] / "configs" / "seggpt"
PATHS = sorted(CONFIGS.glob("*.py"))
SMALL = dict(
    canvas_hw=(64, 32), patch=8, width=16, depth=2, heads=2, merge_block=0, taps=(0, 1), decoder_channels=4,
    position_grid=4,
)  # fmt: skip


def test_there_are_configs():
    small = {"stickers_small", *(f"stickers_small_stage{stage}" for stage in (2, 3, 4, 5))}
    assert {path.stem for path in PATHS} == {*small, "stickers_contexts", "tune_ade20k", "tune_stickers", "vit_large"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_config_survives_being_written_out(path, tmp_path):
    config = load_config(path)
    config.dump(tmp_path / "dumped.py")
    again = Config.fromfile(tmp_path / "dumped.py")
    assert again.train_cfg.max_iters == config.train_cfg.max_iters
    assert config.default_hooks.checkpoint.max_keep_ckpts >= 2


def test_the_published_recipe():
    """2048 pictures a step, 9,000 steps, 1,800 of warm-up, cosine to 0 (section 4.2); weights of section 4.1."""
    config = load_config(CONFIGS / "vit_large.py")
    accumulate = config.optim_wrapper.accumulative_counts
    assert config.train_dataloader.batch_size * accumulate * 64 == 2048
    assert config.train_cfg.max_iters == 9000 * accumulate
    warm_up, cosine = config.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 1800 * accumulate)
    assert (cosine.begin, cosine.end, cosine.eta_min) == (1800 * accumulate, 9000 * accumulate, 0.0)
    assert cosine.T_max == cosine.end - cosine.begin and config.optim_wrapper.optimizer.lr == 1e-4
    weights = [source.weight for source in config.sources]
    assert sum(weights) == pytest.approx(0.99) and max(weights) == 0.22


def test_the_published_model_takes_the_steps_of_its_decay():
    """No decay of vectors of norms and biases, nor of positions; tokens and relative positions do decay."""
    config = load_config(CONFIGS / "vit_large.py")
    wrapper = {**config.optim_wrapper, "accumulative_counts": 1}
    model = seggpt(**SMALL)
    names = {id(value): name for name, value in model.named_parameters()}
    groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
    decay = {names[id(value)]: group["weight_decay"] for group in groups for value in group["params"]}
    assert decay["positions"] == decay["norm.weight"] == decay["blocks.0.fc1.bias"] == 0.0
    assert decay["blocks.0.fc1.weight"] == decay["blocks.0.attn.row_table"] == decay["kind_tokens"] == 0.05


def published_data(root: Path) -> None:
    """A tiny folder of every data set that the published recipe names, each in its own layout."""
    half = np.repeat(np.asarray([1, 2], np.uint8), 16)[None].repeat(32, axis=0)
    photograph = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def save(folder: str, end: str, array: np.ndarray) -> None:
        for name in "ab":
            path = root / folder / f"{name}{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)

    for folder, end in (
        ("coco/train2017", ".jpg"),
        ("cityscapes/leftImg8bit/train/ulm", "_leftImg8bit.png"),
        ("lip/train_images", ".jpg"),
        ("loveda/images", ".png"),
        ("vessels/images", ".png"),
        ("VOCdevkit/VOC2012/JPEGImages", ".jpg"),
        ("ADEChallengeData2016/images/training", ".jpg"),
        ("coco", ".jpg"),
        ("isaid/images", ".png"),
    ):
        save(folder, end, photograph)
    for folder, end in (
        ("coco/stuffthingmaps/train2017", ".png"),
        ("lip/train_segmentations", ".png"),
        ("loveda/masks", ".png"),
        ("cityscapes/gtFine/train/ulm", "_gtFine_labelTrainIds.png"),
        ("ADEChallengeData2016/annotations/training", ".png"),
        ("VOCdevkit/VOC2012/SegmentationClassAug", ".png"),
    ):
        save(folder, end, half)
    save("vessels/masks", ".png", np.where(half == 1, 255, 0).astype(np.uint8))
    save("coco/annotations/panoptic_train2017", ".png", np.stack([half, 0 * half, 0 * half], axis=2))
    (root / "ADEChallengeData2016" / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n2\tsky\n")
    (lists := root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (lists / "train_aug.txt").write_text("a\nb\n")
    categories = [dict(id=1, name="cat", isthing=1), dict(id=2, name="rug", isthing=0)]
    square = dict(category_id=1, bbox=[2, 2, 24, 24], segmentation=[[2, 2, 26, 2, 26, 26, 2, 26]])
    segments = [dict(id=1, category_id=1), dict(id=2, category_id=2)]
    for path, suffix, whole in (
        ("coco/annotations/instances_train2017.json", "jpg", False),
        ("coco/annotations/panoptic_train2017.json", "jpg", True),
        ("paco/paco_lvis_v1_train.json", "jpg", False),
        ("isaid/train.json", "png", False),
    ):
        images = [dict(id=n, file_name=f"{name}.{suffix}", height=32, width=32) for n, name in enumerate("ab")]
        maps = [dict(image_id=n, file_name=f"{name}.png", segments_info=segments) for n, name in enumerate("ab")]
        things = [dict(image_id=n, **square) for n in (0, 1)]
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        content = dict(images=images, annotations=maps if whole else things, categories=categories)
        (root / path).write_text(json.dumps(content))


def test_the_published_recipe_takes_a_step(tmp_path, monkeypatch):
    """Of a small model, out of each of its data sets in its own layout; weights of these are a config's to say."""
    published_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    config = load_config(CONFIGS / "vit_large.py")
    config.train_dataloader.dataset.view = dict(size=32)
    config.train_dataloader.dataset.canvas = dict(patch=8)
    for chosen in range(len(config.sources)):
        for place, source in enumerate(config.train_dataloader.dataset.sources):
            source.weight = float(place == chosen)
        samples = DATASETS.build(config.train_dataloader.dataset)
        assert samples.shares.tolist() == [float(place == chosen) for place in range(len(config.sources))]
        batch = default_collate([samples[Draw(0, number)] for number in range(2)])
        assert batch["image"].shape == (2, 3, 64, 32) and batch["painting"].any(), config.sources[chosen]
    config.model.task.update(size=seggpt, mae=None, checkpointing=True, **SMALL)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    wrapper = build_optim_wrapper(model, {**config.optim_wrapper, "accumulative_counts": 1})
    before = {name: value.clone() for name, value in model.named_parameters()}
    losses = model.train_step(batch, wrapper)
    assert torch.isfinite(losses["loss"]) and wrapper.optimizer.param_groups[0]["lr"] == 1e-4
    stayed = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    assert not stayed - {"task.model.kind_tokens"}


TINY = (
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.dataset.length=3",
    "test_dataloader.dataset.length=3",
    "default_hooks.checkpoint.interval=2",
    "model.task.side=48",
    "train_dataloader.dataset.size=48",
    "train_dataloader.dataset.of_name=4",
    "val_dataloader.dataset.size=48",
    "test_dataloader.dataset.size=48",
)


@pytest.mark.slow
def test_a_resumed_training_is_the_same_training(real_names_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    torch.set_num_threads(1)
    path = str(CONFIGS / "stickers_small.py")

    def train(folder, steps, *more):
        options = ["--work-dir", str(tmp_path / folder), *more, "--cfg-options", *TINY, f"train_cfg.max_iters={steps}"]
        train_main([path, *options])
        checkpoint = tmp_path / folder / f"iter_{steps}.pth"
        export_trained(checkpoint, seggpt_small(48), tmp_path / folder / "model.pth")
        return checkpoint, load_model(tmp_path / folder / "model.pth")[0].state_dict()

    checkpoint, whole = train("whole", 4)
    train("parts", 2)
    _, parts = train("parts", 4, "--resume")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    out = tmp_path / "result.json"
    arguments = [path, str(checkpoint), "--work-dir", str(tmp_path / "test"), "--out", str(out), "--cfg-options", *TINY]
    run_test(arguments)
    assert "episodes/mIoU" in out.read_text() and "weights_sha256" in out.read_text()


def test_a_prompt_is_tuned_on_label_pictures(tmp_path):
    for folder in ("images", "annotations"):
        (tmp_path / folder / "training").mkdir(parents=True)
    labels = np.repeat(np.asarray([0, 1, 2, 150], np.uint8), 10)[None].repeat(30, axis=0)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "images" / "training" / "a.jpg")
    Image.fromarray(labels).save(tmp_path / "annotations" / "training" / "a.png")
    rows = [f"{n}\t0\t0\t0\t1\tclass {n}" for n in range(1, 151)]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(rows))
    torch.manual_seed(0)
    save_model(seggpt(**SMALL), tmp_path / "model.pth")
    config = load_config(CONFIGS / "tune_ade20k.py")
    config.model.task.model = str(tmp_path / "model.pth")
    config.model.task.names.root = str(tmp_path)
    config.train_dataloader.dataset.source.root = str(tmp_path)
    config.train_dataloader.dataset.view = dict(size=32, scale=(0.9, 1.0))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model)
    sample = dataset[Draw(0, 3)]
    colours = set(map(tuple, sample["painting"].flatten(1).T.tolist()))
    # six levels, 42 apart: class 0 is white, class 1 one step down in blue, class 149 = 4 * 36 + 0 * 6 + 5
    assert colours == {(0, 0, 0), (255, 255, 255), (255, 255, 213), (87, 255, 45)}
    assert (~sample["valid"]).any()
    losses = model(mode="loss", **{key: value[None] for key, value in sample.items()})
    losses["loss_painting"].backward()
    moved = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
    assert moved == {"task.picture", "task.painting"}
    assert model.task.names[149] == "class 150" and tuple(model.task.colours[149]) == (87, 255, 45)
