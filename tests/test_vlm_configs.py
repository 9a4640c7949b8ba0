"""Every config of a tower parses, builds, trains, is killed and resumed, through the Runner, on drawn shapes."""

import shutil
from pathlib import Path

import pytest
import torch

from ovdet.engine.config import load_config
from ovdet.engine.test import main as run_test
from ovdet.engine.train import main as train_main
from ovdet.vlm.contrastive import sticker_training
from ovdet.vlm.contrastive.sticker_clip import sticker_clip

PATHS = sorted((Path(__file__).parents[1] / "configs" / "vlm").glob("*.py"))
TINY = (
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=4",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.dataset.length=5",
    "test_dataloader.dataset.length=5",
    "default_hooks.checkpoint.interval=2",
)


def from_nothing(path):
    """Options that leave out the earlier stages that a config goes on from."""
    config = load_config(path)
    starts = [f"model.task.{key}=None" for key in ("start", "fixed_texts") if key in config.model.task]
    return [*starts, *(["load_from=None"] if config.get("load_from") else [])]


def random_vectors(tower, texts, folder):
    """Stands for the sentence tower's: a unit vector a text."""
    made = torch.randn(len(texts), 384, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(made, dim=1)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_two_checkpoints_are_kept(path):
    """mmengine removes the oldest before it writes the newest: one alone would be lost by a kill in between."""
    assert load_config(path).default_hooks.checkpoint.max_keep_ckpts >= 2


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_resumed_training_is_the_same_training(path, real_names_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("OVDET_STICKERS", str(real_names_pack))
    monkeypatch.delenv("OVDET_GROUNDS", raising=False)
    monkeypatch.setattr(sticker_training, "sentence_vectors", random_vectors)  # the real ones take half a minute
    torch.set_num_threads(1)

    def train(folder, steps, *more):
        options = [*TINY, *from_nothing(path), f"train_cfg.max_iters={steps}"]
        train_main([str(path), "--work-dir", str(tmp_path / folder), *more, "--cfg-options", *options])
        return sticker_clip(tmp_path / folder / f"iter_{steps}.pth").state_dict()

    whole = train("whole", 4)
    train("parts", 2)
    parts = train("parts", 4, "--resume")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    run_test(
        [
            str(path),
            str(tmp_path / "whole" / "iter_4.pth"),
            "--work-dir",
            str(tmp_path / "test"),
            "--cfg-options",
            *TINY,
            *from_nothing(path),
        ]
    )
    shutil.rmtree(tmp_path / "whole")
