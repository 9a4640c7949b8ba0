"""The sticker detectors' configs: parts, one step, a run that is killed and resumed, a test; on drawn shapes."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, DefaultScope

from ovdet.compat import checkpoints
from ovdet.data.sampling import Draw
from ovdet.engine.config import load_config
from ovdet.engine.test import main as run_test
from ovdet.engine.train import main as train_main
from ovdet.vild.build import vild_stickers
from ovdet.vild.weights import load_model
from ovdet.vlm.contrastive.sticker_clip import StickerCLIP

FOLDER = Path(__file__).parents[1] / "configs" / "vild"
PATHS = sorted(FOLDER.glob("stickers_*.py"))
TRAINED = [path for path in PATHS if not path.stem.endswith(("crops", "masks"))]
LOSSES = {"loss_rpn_cls", "loss_rpn_bbox", "loss_bbox", "loss_mask"}


@pytest.fixture(autouse=True)
def surroundings(real_names_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """Checkpoint of an untrained teacher, as its training writes one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tower") / "iter_1.pth"
    state = {f"task.clip.{name}": value for name, value in StickerCLIP().state_dict().items()}
    torch.save({"state_dict": state}, path)
    return path


def test_all_rows_of_the_table_are_there():
    kinds = ("crops", "ensemble", "image", "supervised", "text", "vild")
    assert {f"stickers_{split}_{kind}" for split in ("48_17", "75_25") for kind in kinds} <= {p.stem for p in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_rows_differ_in_the_model_alone(path):
    """Equal steps, data and schedule for all variants of a split; the shipped one may train longer."""
    config, other = load_config(path), load_config(path.parent / "stickers_75_25_text.py")
    for key in ("optim_wrapper", "test_evaluator", "param_scheduler", "train_cfg"):
        assert config[key] == other[key] or path.stem in ("stickers_shipped", "stickers_shipped_masks"), key
    split = "48-17" if "48_17" in path.stem else "75-25"
    for phase, stream, base_only in (
        ("train", "train", True),
        ("val", "validation", False),
        ("test", "evaluation", False),
    ):
        dataset = config[f"{phase}_dataloader"].dataset
        assert (dataset.split, dataset.stream, dataset.get("base_only", False)) == (split, stream, base_only)
    assert config.test_dataloader.dataset.length == 1000
    assert config.default_hooks.checkpoint.max_keep_ckpts >= 2, (
        "mmengine removes the oldest before it writes the newest"
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_parts_build(path, tmp_path):
    config = load_config(path)
    for hook in config.custom_hooks:
        HOOKS.build(hook)
    METRICS.build(config.test_evaluator)
    build_optim_wrapper(torch.nn.Linear(1, 1), config.optim_wrapper)
    config.dump(tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").model["variant"] == config.model["variant"]


@pytest.mark.slow
@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_one_training_step(path, tower):
    config = load_config(path)
    config.model.trunk_checkpoint = str(tower)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model)
    model.init_weights()
    model.set_class_embeddings(torch.randn(len(dataset.metainfo["classes"]), 256), dataset.metainfo["base_mask"])
    if config.custom_hooks[1].teacher is not None:
        model.set_teacher(StickerCLIP())
    model.train()
    rows = [dataset[Draw(0, number)] for number in (0, 1)]
    data = {"inputs": [row["inputs"] for row in rows], "data_samples": [row["data_samples"] for row in rows]}
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(**model.data_preprocessor(data, True), mode="loss")
    total, numbers = model.parse_losses(losses)
    wanted = LOSSES | ({"loss_cls"} if config.model.variant != "image" else set())
    wanted |= {"loss_distill"} if config.model.variant in ("image", "vild", "ensemble") else set()
    assert {name for name, value in numbers.items() if name.startswith("loss_") and value > 0} == wanted
    total.backward()
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not idle, "a parameter that nothing teaches"


@pytest.mark.slow
def test_a_run_is_killed_resumed_and_tested(tower, tmp_path):
    """Train and resume: the same weights as in one go; test: base and novel, and the protocol; crops on top of it."""
    more = [
        f"custom_hooks.1.text_tower.weights={tower}",
        f"custom_hooks.1.teacher.weights={tower}",
        "train_dataloader.batch_size=2",
        "val_dataloader.dataset.length=2",
        "test_dataloader.dataset.length=3",
        "train_cfg.val_interval=2",
        "default_hooks.checkpoint.interval=2",
    ]

    def train(folder, steps, *flags):
        options = ["--cfg-options", *more, f"model.trunk_checkpoint={tower}", f"train_cfg.max_iters={steps}"]
        train_main([str(FOLDER / "stickers_48_17_vild.py"), "--work-dir", str(tmp_path / folder), *flags, *options])
        return checkpoints.load(tmp_path / folder / f"iter_{steps}.pth")["state_dict"]

    whole = train("whole", 4)
    train("parts", 2)
    parts = train("parts", 4, "--resume")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())

    for name in ("vild", "crops"):
        out = tmp_path / f"{name}.json"
        variant = ["model.variant=vild"] if name == "crops" else []
        run_test(
            [
                str(FOLDER / f"stickers_48_17_{name}.py"), str(tmp_path / "parts" / "iter_4.pth"), "--out", str(out),
                "--work-dir", str(tmp_path / "test"), "--cfg-options", *more, *variant,
            ]
        )  # fmt: skip
        result = json.loads(out.read_text())
        groups = {f"stickers/{kind}_AP50_all" for kind in ("box", "mask")}
        assert groups <= result["metrics"].keys()
        source = result["protocol"]["source"]
        assert (source["stream"], source["scenes"], source["candidates"]) == ("evaluation", 3, 65)
        assert result["protocol"]["images"] == 3


@pytest.mark.slow
def test_masks_learn_on_a_detector_that_is_done(tower, tmp_path):
    torch.manual_seed(0)
    start = tmp_path / "detector.pth"
    torch.save({"state_dict": vild_stickers("ensemble").state_dict()}, start)
    options = [
        f"model.start={start}",
        f"custom_hooks.1.text_tower.weights={tower}",
        "train_dataloader.batch_size=2",
        "val_dataloader.dataset.length=2",
        "train_cfg.max_iters=2",
        "train_cfg.val_interval=2",
    ]
    train_main(
        [str(FOLDER / "stickers_shipped_masks.py"), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]
    )
    model, facts = load_model(tmp_path / "run" / "iter_2.pth")
    assert facts.builder == "vild_stickers" and facts.arguments["fine_masks"] and facts.class_names
    before = checkpoints.load(start)["state_dict"]
    kept = {name for name, value in model.state_dict().items() if name in before and torch.equal(value, before[name])}
    assert {name for name in before if not name.startswith("roi_head.mask_head.")} <= kept
