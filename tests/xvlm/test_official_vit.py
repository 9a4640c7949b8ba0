"""Official image encoders of ViT form under our names, against a restatement on the official names."""

import json

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm

from ovdet.errors import InputError
from ovdet.xvlm.config import TextSizes
from ovdet.xvlm.images import make_image_encoder, region_masks
from ovdet.xvlm.official import convert_official, read_image_sizes, read_text_sizes, resize_weights

SIZE, PATCH, WIDTH, DEPTH, HEADS, HIDDEN, LOCAL = 64, 16, 128, 5, 2, 160, 4
PREFIX = "image_encoder."


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def clip_state():
    """Names as of a CLIP of Hugging Face inside X-VLM."""
    shapes = {
        "patch_embed.weight": (WIDTH, 3, PATCH, PATCH),
        "class_embedding": (WIDTH,),
        "pos_embed.weight": (17, WIDTH),
        "pre_layrnorm.weight": (WIDTH,),
        "pre_layrnorm.bias": (WIDTH,),
        "post_layernorm.weight": (WIDTH,),
        "post_layernorm.bias": (WIDTH,),
    }
    for layer in range(DEPTH):
        name = f"encoder.layers.{layer}"
        for part in ("q", "k", "v", "out"):
            shapes |= {f"{name}.self_attn.{part}_proj.weight": (WIDTH, WIDTH)}
            shapes |= {f"{name}.self_attn.{part}_proj.bias": (WIDTH,)}
        for part, (inside, outside) in (("fc1", (WIDTH, HIDDEN)), ("fc2", (HIDDEN, WIDTH))):
            shapes |= {f"{name}.mlp.{part}.weight": (outside, inside), f"{name}.mlp.{part}.bias": (outside,)}
        for part in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{name}.{part}.weight": (WIDTH,), f"{name}.{part}.bias": (WIDTH,)}
    state = {f"vision_encoder.{key}": drawn(*shape, seed=i) for i, (key, shape) in enumerate(shapes.items())}
    state["vision_encoder.position_ids"] = torch.arange(17)[None]
    return state


def deit_state():
    shapes = {
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 17, WIDTH),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for layer in range(DEPTH):
        name = f"blocks.{layer}"
        sizes = {"attn.qkv": (WIDTH, 3 * WIDTH), "attn.proj": (WIDTH, WIDTH)}
        sizes |= {"mlp.fc1": (WIDTH, HIDDEN), "mlp.fc2": (HIDDEN, WIDTH)}
        for part, (inside, outside) in sizes.items():
            shapes |= {f"{name}.{part}.weight": (outside, inside), f"{name}.{part}.bias": (outside,)}
        for part in ("norm1", "norm2"):
            shapes |= {f"{name}.{part}.weight": (WIDTH,), f"{name}.{part}.bias": (WIDTH,)}
    return {f"vision_encoder.{key}": drawn(*shape, seed=i) for i, (key, shape) in enumerate(shapes.items())}


def restated(state, images, index, masks, clip):
    """Tokens of pictures and of regions, all later blocks run on both together."""
    get = {key.removeprefix("vision_encoder."): value for key, value in state.items()}.__getitem__
    eps = 1e-5 if clip else 1e-6

    def norm(x, name):
        return layer_norm(x, (WIDTH,), get(f"{name}.weight"), get(f"{name}.bias"), eps)

    def linear(x, name):
        return x @ get(f"{name}.weight").T + get(f"{name}.bias")

    def block(x, layer, hidden):
        name = f"encoder.layers.{layer}" if clip else f"blocks.{layer}"
        y = norm(x, f"{name}.layer_norm1" if clip else f"{name}.norm1")
        if clip:
            q, k, v = (linear(y, f"{name}.self_attn.{part}_proj") for part in "qkv")
        else:
            q, k, v = linear(y, f"{name}.attn.qkv").chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        logits = q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5 + hidden[:, None, None]
        y = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(y, f"{name}.self_attn.out_proj" if clip else f"{name}.attn.proj")
        y = linear(norm(x, f"{name}.layer_norm2" if clip else f"{name}.norm2"), f"{name}.mlp.fc1")
        y = y * torch.sigmoid(1.702 * y) if clip else gelu(y)
        return x + linear(y, f"{name}.mlp.fc2")

    bias = None if clip else get("patch_embed.proj.bias")
    x = conv2d(images, get("patch_embed.weight" if clip else "patch_embed.proj.weight"), bias, PATCH)
    first = get("class_embedding" if clip else "cls_token").reshape(1, 1, WIDTH).expand(len(images), 1, WIDTH)
    x = torch.cat([first, x.flatten(2).transpose(1, 2)], 1) + get("pos_embed.weight" if clip else "pos_embed")
    x = norm(x, "pre_layrnorm") if clip else x
    for layer in range(DEPTH - LOCAL):
        x = block(x, layer, torch.zeros(len(x), 17))
    x = torch.cat([x[index], x])
    hidden = torch.cat([(1.0 - masks.float()) * -10000.0, torch.zeros(len(images), 17)])
    for layer in range(DEPTH - LOCAL, DEPTH):
        x = block(x, layer, hidden)
    x = norm(x, "post_layernorm" if clip else "norm")
    return x[: len(index)], x[len(index) :]


@torch.no_grad()
@pytest.mark.parametrize("clip", [True, False], ids=["clip", "deit"])
def test_encoder_is_the_restated_one(clip, tmp_path):
    state = clip_state() if clip else deit_state()
    path = None
    if clip:
        path = tmp_path / "clip.json"
        said = dict(vision_width=WIDTH, patch_size=PATCH, hidden_act="quick_gelu", num_attention_heads=HEADS)
        path.write_text(
            json.dumps(said | dict(intermediate_size=HIDDEN, num_hidden_layers=DEPTH, local_attn_depth=LOCAL))
        )
    sizes = read_image_sizes(path, state)
    assert (sizes.image_size, sizes.patch, sizes.width, sizes.depth) == (SIZE, PATCH, WIDTH, DEPTH)
    assert (sizes.heads, sizes.hidden, sizes.region_depth) == (HEADS, HIDDEN, LOCAL)
    weights = convert_official({**state, "bbox_head.0.weight": torch.zeros(1)}, sizes, TextSizes())
    own = {key.removeprefix(PREFIX): value for key, value in weights.state_dict.items() if key.startswith(PREFIX)}
    encoder = make_image_encoder(sizes)
    encoder.load_state_dict(own, strict=True)
    encoder.eval()
    images, index = drawn(2, 3, SIZE, SIZE, seed=99) * 10, torch.tensor([1, 0, 1])
    masks = region_masks(torch.tensor([[0.0, 0, 64, 64], [3, 3, 20, 40], [50, 0, 3, 3]]), SIZE // PATCH, PATCH)
    encoded = encoder(images)
    regions, whole = restated(state, images, index, masks, clip)
    torch.testing.assert_close(encoded.tokens, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.regions(encoded, index, masks).all(), regions, atol=1e-5, rtol=1e-5)
    larger = resize_weights(weights, type(sizes)(**{**vars(sizes), "image_size": 96}))
    assert larger.state_dict["image_encoder.trunk.pos_embed"].shape == (1, 37, WIDTH)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot read"),
        ("[]", "one JSON object"),
        ('{"window_size": 7}', "does not say 'image_res'"),
        ('{"num_hidden_layers": 2}', "does not say"),
        ("{}", "does not say"),
    ],
)
def test_vision_files_that_say_too_little_are_refused(tmp_path, content, reason):
    path = tmp_path / "vision.json"
    path.write_text(content)
    with pytest.raises(InputError, match=reason):
        read_image_sizes(path, {})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model_type": "roberta"}, "no BERT"),
        ({"hidden_act": "relu"}, "no BERT"),
        ({"model_type": "bert"}, "does not say 'vocab_size'"),
    ],
)
def test_text_files_that_do_not_fit_are_refused(tmp_path, content, reason):
    path = tmp_path / "text.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=reason):
        read_text_sizes(path)
    with pytest.raises(InputError, match="cannot read"):
        read_text_sizes(tmp_path / "none.json")
