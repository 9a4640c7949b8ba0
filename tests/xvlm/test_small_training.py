from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict, weights_to_cpu

from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.config import load_config
from ovdet.engine.sentences import SentenceTraining
from ovdet.errors import InputError
from ovdet.layers.compact import write_compact
from ovdet.layers.trunk import CompactTrunk
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.small_training import small_training, trunk_weights
from ovdet.xvlm.weights import load_model

CONFIG = Path(__file__).parents[2] / "configs" / "xvlm" / "stickers_small.py"
TINY = dict(image_size=64, width=32, text_layers=1, fusion_layers=1)


def test_a_training_goes_through_the_engine_to_the_desk(batch, tmp_path):
    """Steps in bfloat16 as on a CPU, a checkpoint as mmengine writes it, and the desk that reads it."""
    torch.manual_seed(0)
    model = SentenceTraining(dict(type=small_training, **TINY))
    wrapper = CpuAmpOptimWrapper(torch.optim.AdamW(model.parameters(), 1e-3), clip_grad=dict(max_norm=1.0))
    before = model.task.model.space.image.weight.clone()
    for _ in range(2):
        log = model.train_step(dict(batch), wrapper)
    assert {"loss", "loss_contrast", "loss_match", "loss_box", "loss_giou"} == set(log)
    assert all(value.isfinite() for value in log.values())
    assert not torch.equal(before, model.task.model.space.image.weight)
    path = tmp_path / "iter_2.pth"
    torch.save({"meta": {}, "state_dict": weights_to_cpu(get_state_dict(model))}, path)
    again = SentenceTraining(dict(type=small_training, **TINY))
    again.load_state_dict(torch.load(path)["state_dict"], strict=True)
    grounder = XVLMGrounder.load(path)
    assert grounder.facts.builder == "xvlm_small" and grounder.facts.tower is not None
    picture = np.full((40, 60, 3), 99, np.uint8)
    answer = grounder.predict([picture], ["the red square"])[0][0]
    assert len(answer) == 1 and answer.size_hw == (40, 60)
    grounder.save(tmp_path / "small.safetensors")
    shipped = XVLMGrounder.load(tmp_path / "small.safetensors").predict([picture], ["the red square"])[0][0]
    np.testing.assert_allclose(shipped.boxes_xyxy, answer.boxes_xyxy, atol=1.5)
    model.eval()
    found = model(mode="predict", **batch, size_hw=torch.tensor([[40, 60]] * 3))
    assert len(found) == 5 and found[0]["box_xyxy"].shape == (4,)


def test_the_config_of_the_small_one_names_what_there_is():
    config = load_config(CONFIG)
    assert config.model.task.type is not None and config.train_cfg.max_iters > 1000
    assert config.default_hooks.checkpoint.max_keep_ckpts >= 2


def test_a_trunk_starts_from_checkpoints_and_from_the_zoo(tmp_path):
    torch.manual_seed(0)
    trunk = CompactTrunk()
    state = {f"task.clip.trunk.{name}": value for name, value in trunk.state_dict().items()}
    path = tmp_path / "teacher.pth"
    torch.save({"state_dict": {**state, "task.clip.log_scale": torch.zeros(())}}, path)
    training = small_training(str(path), **TINY)
    first = next(iter(trunk.state_dict()))
    assert torch.equal(training.model.image_encoder.trunk.state_dict()[first], trunk.state_dict()[first])
    write_compact(tmp_path / "teacher.safetensors", {f"trunk.{n}": v for n, v in trunk.state_dict().items()}, {})
    packed = trunk_weights(str(tmp_path / "teacher.safetensors"))
    torch.testing.assert_close(packed[first], trunk.state_dict()[first], atol=1e-3, rtol=0.01)
    assert set(trunk_weights("zoo:sticker-clip")) == set(trunk.state_dict())


@pytest.mark.parametrize("kind", ["none", "two", "cut", "zoo", "missing"])
def test_files_without_a_trunk_are_refused(kind, tmp_path):
    state = {f"trunk.{name}": value for name, value in CompactTrunk().state_dict().items()}
    if kind == "none":
        state = {"a": torch.zeros(1)}
    elif kind == "two":
        state |= {f"other.{name}": value for name, value in state.items()}
    elif kind == "cut":
        state.popitem()
    path = tmp_path / "some.pth"
    if kind != "missing":
        torch.save({"state_dict": state}, path)
    with pytest.raises(InputError):
        trunk_weights("zoo:no-such-model" if kind == "zoo" else str(path))


@pytest.mark.parametrize("damage", ["facts", "weights"])
def test_a_damaged_training_checkpoint_is_refused(damage, tmp_path):
    training = small_training(**TINY)
    state = {f"task.{name}": value for name, value in training.state_dict().items()}
    if damage == "facts":
        state["task._extra_state"] = torch.zeros(5, dtype=torch.uint8)
    else:
        del state["task.model.space.temperature"]
    torch.save({"state_dict": state}, tmp_path / "iter_1.pth")
    with pytest.raises(InputError, match="does not say how to build" if damage == "facts" else "does not fit"):
        load_model(tmp_path / "iter_1.pth")
