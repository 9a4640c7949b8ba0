import json
import math
import pickle
import socket

import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.timm_model import TimmModel
from torch import nn
from torch.nn.functional import interpolate, normalize

from ovdet.errors import CapabilityError, InputError
from ovdet.vlm.contrastive import clip as clip_module
from ovdet.vlm.contrastive.clip import OpenClipBackbone, open_clip_backbone

TEXTS = ["a cat", "this is a photo of an aerosol can or spray can.", "naïve كوب 咖啡", "", "word " * 200]
KINDS = ["resnet", "vit"]


def mean_std(images):
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    return (images - mean) / std


@pytest.fixture(scope="module")
def images():
    coarse = torch.rand(3, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    return interpolate(coarse, (64, 64), mode="nearest")


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_open_clips_own(tiny_clips, tiny_configs, images, kind):
    open_clip.add_model_config(tiny_configs[kind])
    reference = open_clip.create_model(kind).eval()
    reference.load_state_dict(tiny_clips[kind].model.state_dict())
    with torch.no_grad():
        pictures = reference.encode_image(mean_std(images), normalize=True)
        texts = reference.encode_text(open_clip.tokenize(TEXTS), normalize=True)
        torch.testing.assert_close(tiny_clips[kind].encode_image(images), pictures, atol=1e-6, rtol=0)
        torch.testing.assert_close(tiny_clips[kind].encode_text(TEXTS), texts, atol=1e-6, rtol=0)
    assert (pictures[0] - pictures[1]).abs().max() > 1e-3
    assert (texts[0] - texts[1]).abs().max() > 1e-3
    features = tiny_clips[kind].image_features(images)
    torch.testing.assert_close(normalize(features, dim=1), pictures, atol=1e-6, rtol=0)
    assert (features.norm(dim=1) - 1).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_same_bits_in_any_company(tiny_clips, kind):
    texts = [f"{TEXTS[n % 5]} {n}" for n in range(20)]
    whole = tiny_clips[kind].encode_text(texts)
    for size in (1, 2, 3, 7, 8, 9, 19):
        parts = [tiny_clips[kind].encode_text(texts[start : start + size]) for start in range(0, 20, size)]
        assert torch.equal(torch.cat(parts), whole)
    assert tiny_clips[kind].encode_text([]).shape == (0, 24)


def test_images_of_another_size_are_refused(tiny_clips):
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\).*resize"):
        tiny_clips["vit"].encode_image(torch.rand(1, 3, 80, 64))


class Constant(nn.Module):
    """Gives one map whatever comes in."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, x):
        return self.features


def test_resnet_dense_is_the_pool_where_the_map_is_constant(tiny_configs):
    torch.manual_seed(0)
    clip = open_clip_backbone(str(tiny_configs["resnet"]), weights=None)
    with torch.no_grad():
        clip.model.visual.attnpool.positional_embedding.zero_()
        clip.model.visual.layer4 = Constant(torch.randn(1, 256, 1, 1).expand(-1, -1, 2, 2))
        pooled = clip.encode_image(torch.rand(1, 3, 64, 64))
        dense = clip.forward_dense(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(dense, pooled[..., None, None].expand(-1, -1, 2, 2), atol=1e-6, rtol=0)


def test_resnet_dense_is_two_linear_maps_of_the_last_stage(tiny_clips):
    images = torch.rand(2, 3, 96, 160)
    model = tiny_clips["resnet"].model
    stages = model.forward_intermediates(image=mean_std(images), intermediates_only=True)["image_intermediates"]
    pool = model.visual.attnpool
    values = torch.einsum("oc,bchw->bohw", pool.v_proj.weight, stages[-1]) + pool.v_proj.bias.view(1, -1, 1, 1)
    expected = torch.einsum("dc,bchw->bdhw", pool.c_proj.weight, values) + pool.c_proj.bias.view(1, -1, 1, 1)
    dense = tiny_clips["resnet"].forward_dense(images)
    assert dense.shape == (2, 24, 3, 5)
    torch.testing.assert_close(dense, normalize(expected, dim=1), atol=1e-5, rtol=0)


def layer_norm(tokens, weights, name):
    mean, variance = tokens.mean(-1, keepdim=True), tokens.var(-1, keepdim=True, correction=0)
    return (tokens - mean) / (variance + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def restated_vit_dense(weights, images, patch=16, heads=2):
    """MaskCLIP's map in matrix algebra on the bare weights; no line shared with open_clip or with ours."""
    batch, _, height, width = images.shape
    h, w = height // patch, width // patch
    kernel = weights["visual.conv1.weight"]
    patches = mean_std(images).unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5)
    tokens = patches.reshape(batch, h * w, -1) @ kernel.flatten(1).T
    positions = weights["visual.positional_embedding"]
    side = math.isqrt(len(positions) - 1)
    grid = positions[1:].T.reshape(1, -1, side, side)
    grid = interpolate(grid, (h, w), mode="bicubic", antialias=True) if (h, w) != (side, side) else grid
    tokens = tokens + grid.flatten(2).transpose(1, 2)
    first = (weights["visual.class_embedding"] + positions[0]).expand(batch, 1, -1)
    tokens = layer_norm(torch.cat([first, tokens], dim=1), weights, "visual.ln_pre")
    for index in range(3):
        name = f"visual.transformer.resblocks.{index}"
        normed = layer_norm(tokens, weights, f"{name}.ln_1")
        projected = normed @ weights[f"{name}.attn.in_proj_weight"].T + weights[f"{name}.attn.in_proj_bias"]
        query, key, value = projected.chunk(3, dim=-1)
        out_weight, out_bias = weights[f"{name}.attn.out_proj.weight"], weights[f"{name}.attn.out_proj.bias"]
        if index == 2:
            values = (value @ out_weight.T + out_bias)[:, 1:]
            vectors = layer_norm(values, weights, "visual.ln_post") @ weights["visual.proj"]
            return normalize(vectors, dim=-1).transpose(1, 2).reshape(batch, -1, h, w)
        split = [
            part.reshape(batch, -1, heads, part.shape[-1] // heads).transpose(1, 2) for part in (query, key, value)
        ]
        attention = (split[0] @ split[1].transpose(-1, -2) / math.sqrt(split[0].shape[-1])).softmax(-1)
        tokens = tokens + (attention @ split[2]).transpose(1, 2).flatten(2) @ out_weight.T + out_bias
        normed = layer_norm(tokens, weights, f"{name}.ln_2")
        hidden = normed @ weights[f"{name}.mlp.c_fc.weight"].T + weights[f"{name}.mlp.c_fc.bias"]
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        tokens = tokens + hidden @ weights[f"{name}.mlp.c_proj.weight"].T + weights[f"{name}.mlp.c_proj.bias"]
    raise AssertionError("unreachable")


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 128), (16, 16), (128, 48)])
def test_vit_dense_is_its_restatement(tiny_clips, size_hw):
    images = torch.rand(2, 3, *size_hw, generator=torch.Generator().manual_seed(2))
    expected = restated_vit_dense(tiny_clips["vit"].model.state_dict(), images)
    dense = tiny_clips["vit"].forward_dense(images)
    assert dense.shape == (2, 24, size_hw[0] // 16, size_hw[1] // 16)
    torch.testing.assert_close(dense, expected, atol=2e-5, rtol=0)
    assert (dense - dense.mean(dim=(0, 2, 3), keepdim=True)).abs().max() > 1e-3


@pytest.mark.parametrize(("kind", "stride"), [("resnet", 32), ("vit", 16)])
@pytest.mark.parametrize("size_hw", [(1, 1), (33, 70), (100, 64)])
def test_any_size_gives_a_map_of_whole_strides(tiny_clips, kind, stride, size_hw):
    clip = tiny_clips[kind]
    assert clip.spec.stride == stride
    images = torch.rand(1, 3, *size_hw)
    dense = clip.forward_dense(images)
    assert dense.shape == (1, 24, -(-size_hw[0] // stride), -(-size_hw[1] // stride))
    torch.testing.assert_close(dense.norm(dim=1), torch.ones_like(dense[:, 0]))
    padded = clip.mean.expand(1, 3, dense.shape[2] * stride, dense.shape[3] * stride).clone()
    padded[..., : size_hw[0], : size_hw[1]] = images
    torch.testing.assert_close(clip.forward_dense(padded), dense, atol=1e-5, rtol=0)


def timm_backbone(folder, width, **vision):
    """A tiny CLIP with one of timm's image towers."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    (folder / "timm.json").write_text(json.dumps({"embed_dim": width, "vision_cfg": vision, "text_cfg": text}))
    torch.manual_seed(0)
    return open_clip_backbone(str(folder / "timm.json"), weights=None).requires_grad_(False)


@pytest.mark.parametrize(
    ("trunk", "pool", "projection", "width", "stride"),
    [("test_vit", "map", "none", 64, 16), ("test_convnext", "", "linear", 24, 32), ("fastvit_t8", "avg", None, 24, 32)],
)
def test_timm_towers_give_the_head_at_each_location(tmp_path, trunk, pool, projection, width, stride):
    vision = {"image_size": 160, "timm_model_name": trunk, "timm_pool": pool, "timm_proj": projection}
    clip = timm_backbone(tmp_path, width, **vision)
    for parameter in clip.model.visual.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    assert clip.spec.stride == stride
    assert clip.forward_dense(torch.rand(2, 3, 70, 100)).shape == (2, width, -(-70 // stride), -(-100 // stride))

    real = clip.model.visual.trunk.forward_features(torch.rand(1, 3, 160, 160))
    one = real.mean(dim=1, keepdim=True) if real.ndim == 3 else real.mean(dim=(2, 3), keepdim=True)
    clip.model.visual.trunk.forward_features = lambda pixels, **options: one.expand_as(real)
    images = torch.rand(1, 3, 160, 160)
    pooled = clip.encode_image(images)
    dense = clip.forward_dense(images)
    torch.testing.assert_close(dense, pooled[..., None, None].expand_as(dense), atol=2e-6, rtol=0)


@pytest.mark.slow
def test_siglips_tower_takes_any_size_and_stays_itself_at_its_own(tmp_path):
    vision = {
        "image_size": 256,
        "timm_model_name": "vit_base_patch32_siglip_256",
        "timm_pool": "map",
        "timm_proj": "none",
    }
    clip = timm_backbone(tmp_path, 768, **vision)
    reference = TimmModel("vit_base_patch32_siglip_256", 768, 256, pool="map", proj="none").eval()
    reference.load_state_dict(clip.model.visual.state_dict())
    picture = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        expected = normalize(reference(mean_std(picture)), dim=1)
    torch.testing.assert_close(clip.encode_image(picture), expected, atol=1e-5, rtol=0)
    assert clip.forward_dense(torch.rand(1, 3, 100, 200)).shape == (1, 768, 4, 7)


def test_a_tokenizer_that_lies_on_a_hub_leaves_random_models_without_texts(monkeypatch, tiny_configs, tmp_path):
    monkeypatch.setenv("OVDET_OFFLINE", "1")
    config = json.loads(tiny_configs["vit"].read_text())
    config["text_cfg"]["hf_tokenizer_name"] = "nobody/no-such-tokenizer"
    (tmp_path / "hub.json").write_text(json.dumps(config))
    clip = open_clip_backbone(str(tmp_path / "hub.json"), weights=None)
    assert "text" not in clip.spec.capabilities
    assert clip.encode_image(torch.rand(1, 3, 64, 64)).shape == (1, 24)
    with pytest.raises(CapabilityError, match="tokenizer"):
        clip.encode_text(["a cat"])
    torch.save(clip.model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="cannot load the tokenizer nobody/no-such-tokenizer"):
        open_clip_backbone(str(tmp_path / "hub.json"), weights=tmp_path / "weights.pt")


def test_published_siglips_have_their_own_mean():
    assert clip_module._preprocess("ViT-B-16-SigLIP", None)["mean"] == (0.5, 0.5, 0.5)


def test_what_a_tower_cannot_do_is_said(tiny_clips, tiny_configs, tmp_path):
    config = json.loads(tiny_configs["vit"].read_text())
    config["vision_cfg"]["attentional_pool"] = True
    config["vision_cfg"]["attn_pooler_heads"] = 4
    (tmp_path / "pooled.json").write_text(json.dumps(config))
    clip = open_clip_backbone(str(tmp_path / "pooled.json"), weights=None)
    assert "dense" not in clip.spec.capabilities
    assert clip.spec.stride is None
    with pytest.raises(CapabilityError, match="dense map"):
        clip.forward_dense(torch.rand(1, 3, 64, 64))
    silent = OpenClipBackbone(tiny_clips["vit"].model, None, tiny_clips["vit"].spec)
    with pytest.raises(CapabilityError, match="tokenizer"):
        silent.encode_text(["a cat"])


def test_the_fingerprint_tells_weights_and_tokenizers_apart(tiny_clips, tiny_configs, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_model(tiny_clips["vit"].model, str(path))
    again = open_clip_backbone(str(tiny_configs["vit"]), weights=path)
    assert again.fingerprint == tiny_clips["vit"].fingerprint
    with torch.no_grad():
        again.model.visual.proj[0, 0] += 1e-4
    assert again.fingerprint != tiny_clips["vit"].fingerprint
    shorter = OpenClipBackbone(tiny_clips["vit"].model, open_clip.SimpleTokenizer(context_length=9), again.spec)
    backbones = (tiny_clips["vit"], tiny_clips["resnet"], again, shorter)
    assert len({backbone.fingerprint for backbone in backbones}) == 4


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_checkpoint_file_is_loaded(tiny_clips, tiny_configs, images, tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    state = {name: tensor.contiguous() for name, tensor in tiny_clips["resnet"].model.state_dict().items()}
    torch.save({"state_dict": state}, path) if suffix == "pt" else safetensors.torch.save_file(state, path)
    loaded = open_clip_backbone(str(tiny_configs["resnet"]), weights=path)
    assert loaded.spec.temperature == pytest.approx(0.07, rel=1e-5)
    with torch.no_grad():
        assert torch.equal(loaded.encode_image(images), tiny_clips["resnet"].encode_image(images))


def test_a_folder_as_a_hub_gives_it_is_loaded(tiny_clips, tiny_configs, images, tmp_path):
    config = {"model_cfg": json.loads(tiny_configs["vit"].read_text())}
    config["preprocess_cfg"] = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no weights"):
        open_clip_backbone("ViT-B-32", weights=tmp_path)
    safetensors.torch.save_file(tiny_clips["vit"].model.state_dict(), tmp_path / "open_clip_model.safetensors")
    loaded = open_clip_backbone("ViT-B-32", weights=tmp_path)
    assert loaded.spec.mean == (0.5, 0.5, 0.5)
    assert loaded.spec.embed_dim == 24
    with pytest.raises(InputError, match=r"open_clip_config\.json"):
        (tmp_path / "open_clip_config.json").unlink()
        open_clip_backbone("ViT-B-32", weights=tmp_path)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_bad_weights_are_refused_in_one_sentence(tiny_clips, tiny_configs, tmp_path):
    hostile, truncated, other = (tmp_path / f"{name}.pt" for name in ("hostile", "truncated", "other"))
    hostile.write_bytes(pickle.dumps({"state_dict": Hostile(tmp_path / "it_ran")}, protocol=2))
    truncated.write_bytes(b"PK\x03\x04 not a checkpoint")
    torch.save(tiny_clips["resnet"].model.state_dict(), other)
    for path in (hostile, truncated, other):
        with pytest.raises(InputError, match=f"{path.name} is no checkpoint") as caught:
            open_clip_backbone(str(tiny_configs["vit"]), weights=path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "it_ran").exists()
    with pytest.raises(InputError, match="does not exist"):
        open_clip_backbone(str(tiny_configs["vit"]), weights=tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("model", "tag", "message"),
    [
        ("ViTB32", "openai", "did you mean 'ViT-B-32'"),
        ("RN50", "opnai", "'opnai'.*openai, yfcc15m, cc12m"),
        ("RN50", None, "which published weights of RN50"),
        ("absent.json", None, "cannot read"),
    ],
)
def test_unknown_models_and_tags_are_refused(model, tag, message):
    with pytest.raises(InputError, match=message):
        open_clip_backbone(model, tag)


def test_configurations_without_towers_are_refused(tmp_path):
    (tmp_path / "half.json").write_text('{"embed_dim": 3}')
    with pytest.raises(InputError, match="lacks vision_cfg, text_cfg"):
        open_clip_backbone(str(tmp_path / "half.json"), weights=None)


def test_offline_names_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(clip_module, "try_to_load_from_cache", lambda repository, name: None)
    monkeypatch.setenv("OVDET_OFFLINE", "1")
    with pytest.raises(InputError, match=r"timm/resnet50_clip\.openai.*OVDET_OFFLINE"):
        open_clip_backbone("RN50-quickgelu", "openai")


def test_a_dead_network_is_said_at_once(monkeypatch):
    def refuse(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(clip_module, "try_to_load_from_cache", lambda repository, name: None)
    monkeypatch.delenv("OVDET_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(clip_module, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(InputError, match=r"cannot download.*Name or service not known"):
        open_clip_backbone("RN50-quickgelu", "openai")


def test_downloaded_weights_are_found_without_the_network(monkeypatch, tiny_clips, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(tiny_clips["resnet"].model.state_dict(), path)
    asked = []

    def cached(repository, name):
        asked.append((repository, name))
        return str(path) if name == "open_clip_model.safetensors" else None

    monkeypatch.setattr(clip_module, "try_to_load_from_cache", cached)
    monkeypatch.setenv("OVDET_OFFLINE", "1")
    assert clip_module.find_weights("RN50-quickgelu", "openai") == path
    assert asked == [("timm/resnet50_clip.openai", "open_clip_model.safetensors")]
    with pytest.raises(InputError, match=r"weights\.safetensors is no checkpoint of RN50-quickgelu"):
        open_clip_backbone("RN50-quickgelu", "openai")


def test_weights_under_a_name_of_their_own_are_found_as_safetensors_too(monkeypatch):
    asked = []
    monkeypatch.setattr(clip_module, "try_to_load_from_cache", lambda repository, name: asked.append(name))
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {"hf_hub": "someone/somewhere/special.bin"})
    assert clip_module.find_weights("RN50", "special") is None
    assert asked == ["special.safetensors", "special.bin"]
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {})
    assert clip_module.find_weights("RN50", "unknown") is None
