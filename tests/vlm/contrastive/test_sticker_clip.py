"""The teacher of the sticker world: its promises, its files."""

import pytest
import torch
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.layers.compact import read_compact, write_compact
from ovdet.vlm.contrastive.sticker_clip import TRAINED_AS, StickerCLIP, ship, sticker_clip
from ovdet.vlm.zoo import create_vlm


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return StickerCLIP().eval()


@pytest.fixture
def checkpoint(model, tmp_path):
    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {TRAINED_AS + name: value for name, value in model.state_dict().items()}}, path)
    return path


@torch.no_grad()
def test_a_picture_is_the_head_of_the_mean_of_its_last_level(model):
    pictures = torch.rand(2, 3, 64, 64)
    level = model.trunk((pictures - 0.5) / 0.25)[-1]
    wanted = F.normalize(level.mean(dim=(2, 3)) @ model.image_head.weight.T + model.image_head.bias, dim=1)
    assert torch.allclose(model.encode_image(pictures), wanted, atol=1e-6)


@torch.no_grad()
def test_a_dense_map_of_one_location_is_the_picture(model):
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model.forward_dense(pictures)[:, :, 0, 0], model.encode_image(pictures), atol=1e-5)
    assert model.forward_dense(torch.rand(1, 3, 96, 160)).shape == (1, 256, 3, 5)


@torch.no_grad()
def test_texts_do_not_change_each_other(model):
    together, alone = model.encode_text(["a cat", "two dogs on a hill", "x"]), model.encode_text(["a cat"])
    assert torch.allclose(together[:1], alone, atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)


def test_the_sentence_tower_is_no_part_of_the_weights(model):
    model.encode_text(["a cat"])
    assert not [name for name in model.state_dict() if "sentences" in name]
    assert sum(p.numel() for p in model.parameters()) < 4.3e6


def test_a_training_checkpoint_loads_and_is_shipped_in_a_quarter_of_its_bytes(model, checkpoint, tmp_path):
    out = tmp_path / "small.safetensors"
    ship(checkpoint, out, {"licence": "CC0-1.0"})
    loaded, shipped = sticker_clip(checkpoint), create_vlm("sticker-clip", weights=out)
    pictures = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.encode_image(pictures), model.encode_image(pictures))
        assert (shipped.encode_image(pictures) * model.encode_image(pictures)).sum(dim=1).min() > 0.999
    assert out.stat().st_size < 0.3 * checkpoint.stat().st_size
    assert read_compact(out)[1]["licence"] == "CC0-1.0"
    assert loaded.fingerprint == model.fingerprint != shipped.fingerprint


def test_files_of_others_are_refused(model, tmp_path):
    other = tmp_path / "other.safetensors"
    write_compact(other, {"a": torch.zeros(2)}, {"model": "something"})
    with pytest.raises(InputError, match="'something', not of 'sticker-clip'"):
        sticker_clip(other)
    write_compact(other, model.state_dict(), {"model": "sticker-clip", "sentence_tower": "older"})
    with pytest.raises(InputError, match="another sentence tower"):
        sticker_clip(other)
    strange = tmp_path / "strange.pth"
    torch.save({"state_dict": {"backbone.weight": torch.zeros(1)}}, strange)
    with pytest.raises(InputError, match=r"none of its weights starts with 'task\.clip\.'"):
        sticker_clip(strange)
    with pytest.raises(InputError, match=r"missing\.safetensors"):
        sticker_clip(tmp_path / "missing.safetensors")
