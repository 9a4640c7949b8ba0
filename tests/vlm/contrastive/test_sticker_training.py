"""The teacher's losses."""

import pytest
import torch
from torch.nn import functional as F

from ovdet.vlm.contrastive.sticker_clip import TRAINED_AS, StickerCLIP
from ovdet.vlm.contrastive.sticker_training import StickerCLIPTraining

TEXTS = ["a cat", "cat", "a dog", "dog", "a red cat", "a blue dog"]
OF_NAMES = [[0, 1], [2, 3]]


@pytest.fixture
def task(tmp_path):
    torch.manual_seed(0)
    task = StickerCLIPTraining(text_weight=0.5, noise=0.0)
    task.set_texts(TEXTS, OF_NAMES, tmp_path)
    return task


def batch(size=6):
    image = torch.randint(0, 256, (size, 3, 64, 64), dtype=torch.uint8)
    label = torch.arange(size) % 2
    return {"image": image, "label": label, "text": torch.where(label == 0, 4, 5)}


def test_losses_are_cross_entropies_of_scaled_cosines(task):
    task.eval()
    task.choices = task.choices[:, :1]  # one text a name: nothing is drawn
    made = batch()
    losses = task.loss(**made)
    pictures = task.clip.encode_image(made["image"] / 255)
    names, texts = task.clip.encode_text(["a cat", "a dog"]), task.clip.encode_text(["a red cat", "a blue dog"])
    wanted = F.cross_entropy(30 * pictures @ names.T, made["label"])
    assert losses["loss_names"].item() == pytest.approx(wanted.item(), rel=1e-3)
    said = F.cross_entropy(30 * pictures @ texts.T, made["label"])
    assert losses["loss_texts"].item() == pytest.approx(0.5 * said.item(), rel=1e-3)


def test_prediction_compares_with_the_first_text_of_each_name(task):
    task.eval()
    made = batch(2)
    names = task.clip.encode_text(["a cat", "a dog"])
    wanted = task.clip.encode_image(made["image"] / 255) @ names.T
    assert torch.allclose(task.predict(**made), wanted, atol=1e-4)


def test_the_scale_is_bounded(task):
    task.clip.log_scale.data.fill_(9.0)
    assert task.scale() == 100


def test_every_weight_learns_and_a_batch_is_learned(task):
    made = batch(8)
    made["image"][made["label"] == 0] //= 4
    optimizer = torch.optim.AdamW(task.parameters(), 1e-3)
    for _ in range(15):
        losses = task.loss(**made)
        optimizer.zero_grad()
        (losses["loss_names"] + losses["loss_texts"]).backward()
        assert all(p.grad is not None for p in task.parameters())
        optimizer.step()
    assert losses["loss_names"] < 0.2


def test_fixed_texts_are_another_models_and_do_not_learn(tmp_path):
    torch.manual_seed(1)
    models = {name: StickerCLIP() for name in ("start", "texts")}
    for name, model in models.items():
        state = {TRAINED_AS + key: value for key, value in model.state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / f"{name}.pth")
    task = StickerCLIPTraining(start=str(tmp_path / "start.pth"), fixed_texts=str(tmp_path / "texts.pth"), noise=0.0)
    task.set_texts(TEXTS, OF_NAMES, tmp_path)
    assert torch.equal(task.clip.encode_text(["a cat"]), models["texts"].encode_text(["a cat"]))
    assert torch.equal(task.clip.image_head.weight, models["start"].image_head.weight)
    sum(value for name, value in task.loss(**batch()).items() if name.startswith("loss")).backward()
    assert all(parameter.grad is None for parameter in task.clip.text_head.parameters())
    assert task.clip.image_head.weight.grad.abs().sum() > 0
