"""Official weights under our names, against a restatement of the network in plain functions on the official names."""

import json
import math

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm

from ovdet.errors import InputError
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.images import region_masks
from ovdet.xvlm.official import (
    convert_official,
    read_image_sizes,
    read_text_sizes,
    resize_weights,
    task_of,
)

SIZE, WINDOW, WIDTH, DEPTHS, HEADS = 64, 2, 8, (2, 2, 2), (1, 2, 2)
TEXT_WIDTH, TEXT_HEADS, VOCABULARY, LAYERS, FUSION = 32, 4, 40, 4, 2
VISION_JSON = dict(
    ckpt="x", vision_width=32, image_res=SIZE, window_size=WINDOW, embed_dim=WIDTH, depths=DEPTHS, num_heads=HEADS
)
TEXT_JSON = dict(
    model_type="bert",
    hidden_act="gelu",
    vocab_size=VOCABULARY,
    hidden_size=TEXT_WIDTH,
    num_attention_heads=TEXT_HEADS,
    intermediate_size=48,
    max_position_embeddings=20,
    type_vocab_size=2,
    fusion_layer=FUSION,
    num_hidden_layers=LAYERS,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    layer_norm_eps=1e-12,
)


# ---- the network restated


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def norm(state, name, x, eps=1e-5):
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def swin_window(state, name, cells, marks, heads):
    """Attention among the cells of one window (n, C); marks say which shifted part a cell came from."""
    count, width = cells.shape
    parts = linear(state, f"{name}.qkv", cells).view(count, 3, heads, width // heads)
    table = state[f"{name}.relative_position_bias_table"]
    side = math.isqrt(count)
    out = torch.zeros(count, heads, width // heads)
    for head in range(heads):
        logits = parts[:, 0, head] @ parts[:, 1, head].T / math.sqrt(width // heads)
        for i in range(count):
            for j in range(count):
                row = (i // side - j // side + side - 1) * (2 * side - 1) + i % side - j % side + side - 1
                logits[i, j] += table[row, head] - (100.0 if marks[i] != marks[j] else 0.0)
        out[:, head] = logits.softmax(1) @ parts[:, 2, head]
    return linear(state, f"{name}.proj", out.reshape(count, width))


def swin_block(state, name, x, heads, shift):
    """One block on (n, n, C), cell by cell where windows are shifted."""
    side = x.shape[0]
    window = min(WINDOW, side)
    shift = 0 if side <= WINDOW else shift
    normed = norm(state, f"{name}.norm1", x)
    out = torch.zeros_like(x)
    for top in range(0, side, window):
        for left in range(0, side, window):
            places = [
                ((top + i + shift) % side, (left + j + shift) % side) for i in range(window) for j in range(window)
            ]
            wrapped = [
                (top + i + shift >= side, left + j + shift >= side) for i in range(window) for j in range(window)
            ]
            cells = torch.stack([normed[place] for place in places])
            found = swin_window(state, f"{name}.attn", cells, wrapped, heads)
            for place, value in zip(places, found, strict=True):
                out[place] = value
    x = x + out
    hidden = gelu(linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x)))
    return x + linear(state, f"{name}.mlp.fc2", hidden)


def swin(state, image, root="vision_encoder"):
    """One picture (3, S, S) to (1 + T, W)."""
    x = conv2d(image[None], state[f"{root}.patch_embed.proj.weight"], state[f"{root}.patch_embed.proj.bias"], 4)[0]
    x = norm(state, f"{root}.patch_embed.norm", x.permute(1, 2, 0))
    for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
        for block in range(depth):
            x = swin_block(state, f"{root}.layers.{stage}.blocks.{block}", x, heads, WINDOW // 2 * (block % 2))
        if stage < len(DEPTHS) - 1:
            name = f"{root}.layers.{stage}.downsample"
            merged = torch.cat([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], -1)
            x = linear(state, f"{name}.reduction", norm(state, f"{name}.norm", merged))
    patches = norm(state, f"{root}.norm", x).flatten(0, 1)
    return torch.cat([patches.mean(0, keepdim=True), patches])


def attention(state, name, x, looked, hidden):
    """Of BERT: x (L, D) looks at (T, W); hidden (L, T) is added to the logits."""
    heads, depth = TEXT_HEADS, TEXT_WIDTH // TEXT_HEADS
    query = linear(state, f"{name}.self.query", x).view(-1, heads, depth)
    key = linear(state, f"{name}.self.key", looked).view(-1, heads, depth)
    value = linear(state, f"{name}.self.value", looked).view(-1, heads, depth)
    logits = torch.einsum("lhd,thd->hlt", query, key) / math.sqrt(depth) + hidden
    found = torch.einsum("hlt,thd->lhd", logits.softmax(-1), value).reshape(len(x), -1)
    return norm(state, f"{name}.output.LayerNorm", linear(state, f"{name}.output.dense", found) + x, 1e-12)


def bert(state, root, x, mask, layers, looked=None, looked_mask=None, causal=False):
    """Some layers on one text (L, D)."""
    hidden = (1.0 - mask.float()) * -1e4
    hidden = hidden.expand(len(x), -1)
    if causal:
        hidden = hidden + torch.full((len(x), len(x)), -1e4).triu(1)
    for layer in layers:
        name = f"{root}.encoder.layer.{layer}"
        x = attention(state, f"{name}.attention", x, x, hidden)
        if f"{name}.crossattention.self.query.weight" in state:
            tokens = looked[layer % 2] if isinstance(looked, tuple) else looked
            unseen = torch.zeros(len(tokens)) if looked_mask is None else (1.0 - looked_mask.float()) * -1e9
            x = attention(state, f"{name}.crossattention", x, tokens, unseen.expand(len(x), -1))
        found = linear(state, f"{name}.output.dense", gelu(linear(state, f"{name}.intermediate.dense", x)))
        x = norm(state, f"{name}.output.LayerNorm", found + x, 1e-12)
    return x


def embed(state, root, ids):
    name = f"{root}.embeddings"
    x = state[f"{name}.word_embeddings.weight"][ids] + state[f"{name}.position_embeddings.weight"][: len(ids)]
    return norm(state, f"{name}.LayerNorm", x + state[f"{name}.token_type_embeddings.weight"][0], 1e-12)


def mlp(state, name, x):
    return linear(state, f"{name}.3", gelu(norm(state, f"{name}.1", linear(state, f"{name}.0", x))))


def words(state, root, x):
    name = f"{root}.cls.predictions"
    x = norm(state, f"{name}.transform.LayerNorm", gelu(linear(state, f"{name}.transform.dense", x)), 1e-12)
    return linear(state, f"{name}.decoder", x)


# ---- tests


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    (folder / "vision.json").write_text(json.dumps(VISION_JSON))
    (folder / "text.json").write_text(json.dumps(TEXT_JSON))
    return read_image_sizes(folder / "vision.json", {}), read_text_sizes(folder / "text.json")


def load(state, sizes):
    weights = convert_official(state, *sizes)
    model = xvlm(**weights.arguments)
    model.load_state_dict(weights.state_dict, strict=True)
    return model.eval()


def sentences():
    ids = torch.randint(5, VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[0, 4:], mask[2, 3:] = False, False
    return ids * mask, mask


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pretrained_model_is_the_restated_one(official_state, sizes):
    state = official_state("pretrain")
    model = load(state, sizes)
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    ids, mask = sentences()
    index = torch.tensor([1, 0, 1])
    boxes = torch.tensor([[0.0, 0, 20, 30], [16, 16, 48, 40], [40, 3, 9, 9]])
    region = region_masks(boxes, SIZE // 16, 16)
    encoded = model.encode_images(images)
    pictures = [swin(state, image) for image in images]
    close(encoded.tokens, torch.stack(pictures))
    seen = model.image_encoder.regions(encoded, index, region)
    states = model.encode_text(ids, mask)
    fused = model.fusion(states, mask, seen, region)
    whole = model.first(states, mask, encoded.tokens[index])
    for k in range(3):
        patches = pictures[index[k]][1:]
        mean = patches[region[k, 1:]].mean(0)
        tokens = torch.cat([mean[None], patches])
        text = bert(state, "text_encoder.bert", embed(state, "text_encoder.bert", ids[k]), mask[k], range(FUSION))
        close(states[k, mask[k]], text[mask[k]])
        late = range(FUSION, LAYERS)
        both = bert(state, "text_encoder.bert", text, mask[k], late, tokens, region[k])
        close(fused[k, mask[k]], both[mask[k]])
        full = bert(state, "text_encoder.bert", text, mask[k], late, pictures[index[k]])[0]
        close(model.boxes_of(whole)[k], mlp(state, "bbox_head", full).sigmoid())
        close(model.match_logits(fused[:, 0])[k], mlp(state, "itm_head", both[0]))
        close(model.word_logits(fused)[k, mask[k]], words(state, "text_encoder", both)[mask[k]])
        unit = linear(state, "vision_proj", mean)
        close(model.space.of_images(seen.heads)[k], unit / unit.norm())
        unit = linear(state, "text_proj", text[0])
        close(model.space.of_texts(states[:, 0])[k], unit / unit.norm())
    assert model.space.temperature.item() == pytest.approx(0.06)


@torch.no_grad()
def test_answers_are_the_restated_ones(official_state, sizes):
    state = official_state("vqa")
    model = load(state, sizes)
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    ids, mask = sentences()
    question = model.read(image, ids[:1], mask[:1])
    x = bert(state, "text_encoder", embed(state, "text_encoder", ids[0]), mask[0], range(LAYERS), swin(state, image[0]))
    close(question[0, mask[0]], x[mask[0]])
    logits = model.answer_logits(ids[1:], mask[1:], question, mask[:1])
    for k in (1, 2):
        answer = embed(state, "text_decoder.bert", ids[k])
        answer = bert(state, "text_decoder.bert", answer, mask[k], range(LAYERS - FUSION), x, mask[0], causal=True)
        close(logits[k - 1, mask[k]], words(state, "text_decoder", answer)[mask[k]])


@torch.no_grad()
def test_captions_are_the_restated_ones(official_state, sizes):
    state = official_state("caption")
    model = load(state, sizes)
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    ids, mask = sentences()
    logits = model.word_logits(ids, mask, model.image_encoder(image).tokens)
    tokens = swin(state, image[0])
    root = "text_decoder.bert"
    for k in range(3):
        x = bert(state, root, embed(state, root, ids[k]), mask[k], range(LAYERS), tokens, causal=True)
        close(logits[k, mask[k]], words(state, "text_decoder", x)[mask[k]])


@torch.no_grad()
@pytest.mark.parametrize("task", ["nlvr", "nlvr-pretrain"])
def test_pairs_are_the_restated_ones(official_state, sizes, task):
    state = official_state(task)
    model = load(state, sizes)
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    ids, mask = sentences()
    pictures = (swin(state, images[0]), swin(state, images[1]))
    layers = range(FUSION + 2 * (LAYERS - FUSION))
    x = bert(state, "text_encoder", embed(state, "text_encoder", ids[1]), mask[1], layers, pictures)[0]
    expected = mlp(state, "cls_head", x) if task == "nlvr" else linear(state, "ta_head", x)
    close(model(images[:1], images[1:], ids[1:2], mask[1:2])[0], expected)


TASKS = ("pretrain", "retrieval", "box", "vqa", "nlvr", "nlvr-pretrain", "caption")


@pytest.mark.parametrize("task", TASKS)
def test_every_weight_is_accounted_for(official_state, sizes, task):
    state = official_state(task)
    assert task_of(state) == task
    weights = convert_official(state, *sizes)
    assert all("position" in key or "mask" in key or "decoder" in key for key in weights.dropped)
    kept = sum(value.numel() for key, value in state.items() if key not in weights.dropped)
    assert kept == sum(value.numel() for value in weights.state_dict.values())
    assert weights.arguments["embed_dim"] == (16 if "vision_proj.weight" in state else 256)
    for wrong in ("vision_encoder.head.weight", "text_encoder.pooler.dense.weight", "lost"):
        if wrong.startswith("vision") or task not in ("caption",) or wrong == "lost":
            added = convert_fails({**state, wrong: torch.zeros(1)}, sizes)
            assert wrong == "vision_encoder.head.weight" or wrong in added


def convert_fails(state, sizes):
    """The message with which a file is refused, by the converter or by the strict load after it."""
    try:
        weights = convert_official(state, *sizes)
    except InputError as error:
        return str(error)
    with pytest.raises(RuntimeError) as refused:
        xvlm(**weights.arguments).load_state_dict(weights.state_dict, strict=True)
    return str(refused.value)


@pytest.mark.parametrize("task", TASKS)
def test_a_weight_that_is_missing_is_named(official_state, sizes, task):
    state = official_state(task)
    root = "text_decoder.bert" if task == "caption" else "text_encoder.bert" if task == "pretrain" else "text_encoder"
    del state[f"{root}.encoder.layer.0.attention.self.key.weight"]
    assert "self_attn" in convert_fails(state, sizes)


def test_a_tied_copy_that_differs_is_refused(official_state, sizes):
    state = official_state("pretrain")
    state["text_encoder.cls.predictions.decoder.weight"] = torch.zeros(VOCABULARY, TEXT_WIDTH)
    with pytest.raises(InputError, match="ties it"):
        convert_official(state, *sizes)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"conv.weight": torch.zeros(1)}, "no X-VLM checkpoint"),
        ({"vision_encoder.norm.weight": torch.zeros(1)}, "no head"),
        ({"vision_encoder.a": torch.zeros(1), "text_encoder.roberta.b": torch.zeros(1)}, "RoBERTa"),
    ],
)
def test_other_files_are_refused(state, reason):
    with pytest.raises(InputError, match=reason):
        task_of(state)


def test_a_larger_picture_resizes_all_tables(official_state, sizes):
    state = official_state("box")
    weights = convert_official(state, *sizes)
    larger = resize_weights(weights, type(sizes[0])(128, 4, WIDTH, DEPTHS, HEADS))
    model = xvlm(**larger.arguments)
    model.load_state_dict(larger.state_dict, strict=True)
    assert model.image_encoder(torch.zeros(1, 3, 128, 128)).tokens.shape == (1, 65, 32)
    tables = [key for key in larger.state_dict if key.endswith("bias_table")]
    assert len(tables) == sum(DEPTHS) and all(len(larger.state_dict[key]) == 49 for key in tables)
    same = resize_weights(weights, sizes[0])
    assert all(torch.equal(same.state_dict[key], weights.state_dict[key]) for key in weights.state_dict)
