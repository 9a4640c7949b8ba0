"""What the tests of X-VLM share: tiny sizes, a tiny vocabulary, and pictures."""

import pytest
import torch

from ovdet.xvlm.build import xvlm
from ovdet.xvlm.config import SwinSizes, TextSizes, ViTSizes
from ovdet.xvlm.tokens import SentenceTokens

WORDS = "the a red blue green square circle left right of above below and play ##ing ##ed dog cat man mans hat".split()
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vocabulary():
    return VOCABULARY


@pytest.fixture(scope="session")
def tokens():
    return SentenceTokens(VOCABULARY)


@pytest.fixture(scope="session")
def text_sizes():
    return TextSizes(len(VOCABULARY), 32, 4, 64, 40, 2, 2, 2, 0.0, 0.0)


@pytest.fixture(scope="session")
def swin_sizes():
    return SwinSizes(64, 2, 8, (2, 2, 2), (1, 2, 2), 0.0)


@pytest.fixture(scope="session")
def vit_sizes():
    return ViTSizes("vit", 64, 16, 24, 3, 2, 40, 2)


@pytest.fixture(scope="session")
def clip_sizes():
    return ViTSizes("clip", 64, 16, 24, 3, 2, 40, 2, "quick_gelu")


@pytest.fixture
def model(swin_sizes, text_sizes):
    """All heads, random weights that are large enough to matter."""
    torch.manual_seed(0)
    built = xvlm("pretrain", swin_sizes, text_sizes, embed_dim=16)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    return built.eval()


@pytest.fixture
def batch():
    """Three pictures with five texts, one of them of a whole picture."""
    generator = torch.Generator().manual_seed(3)
    boxes = torch.rand(5, 4, generator=generator) * 0.3 + 0.25
    boxes[3] = torch.tensor([0.5, 0.5, 1.0, 1.0])
    return {
        "images": torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=generator),
        "texts": ["the red square", "a circle left of the dog", "blue hat", "a cat and a man", "playing dog"],
        "image_index": torch.tensor([0, 0, 1, 2, 2]),
        "boxes_cxcywh_norm": boxes,
        "is_image": torch.tensor([False, False, False, True, False]),
        "image_ids": torch.tensor([7, 8, 9]),
    }


# ---- a file as the official code writes it

SIZE, WINDOW, WIDTH, DEPTHS, HEADS = 64, 2, 8, (2, 2, 2), (1, 2, 2)
TEXT_WIDTH, VOCABULARY_SIZE, LAYERS, FUSION = 32, 40, 4, 2
"""Of the official files that are made up here."""


class Maker:
    """Draws weights under official names."""

    def __init__(self):
        self.state, self.generator = {}, torch.Generator().manual_seed(0)

    def draw(self, *shape, scale=0.2):
        return torch.randn(*shape, generator=self.generator) * scale

    def linear(self, name, inside, outside, bias=True):
        self.state[f"{name}.weight"] = self.draw(outside, inside)
        if bias:
            self.state[f"{name}.bias"] = self.draw(outside)

    def norm(self, name, width):
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = 1 + self.draw(width), self.draw(width)

    def swin(self, root="vision_encoder"):
        self.state[f"{root}.patch_embed.proj.weight"] = self.draw(WIDTH, 3, 4, 4)
        self.state[f"{root}.patch_embed.proj.bias"] = self.draw(WIDTH)
        self.norm(f"{root}.patch_embed.norm", WIDTH)
        for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            width = WIDTH << stage
            for block in range(depth):
                name = f"{root}.layers.{stage}.blocks.{block}"
                self.norm(f"{name}.norm1", width)
                self.norm(f"{name}.norm2", width)
                self.linear(f"{name}.attn.qkv", width, 3 * width)
                self.linear(f"{name}.attn.proj", width, width)
                self.linear(f"{name}.mlp.fc1", width, 4 * width)
                self.linear(f"{name}.mlp.fc2", 4 * width, width)
                self.state[f"{name}.attn.relative_position_bias_table"] = self.draw((2 * WINDOW - 1) ** 2, heads)
                self.state[f"{name}.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.long)
                if block % 2 and stage < len(DEPTHS) - 1:
                    self.state[f"{name}.attn_mask"] = torch.zeros(4, 4, 4)
            if stage < len(DEPTHS) - 1:
                self.norm(f"{root}.layers.{stage}.downsample.norm", 4 * width)
                self.linear(f"{root}.layers.{stage}.downsample.reduction", 4 * width, 2 * width, bias=False)
        self.norm(f"{root}.norm", WIDTH << (len(DEPTHS) - 1))

    def bert(self, root, layers=range(LAYERS), cross_from=FUSION, key_width=32):
        for table, rows in (("word", VOCABULARY_SIZE), ("position", 20), ("token_type", 2)):
            self.state[f"{root}.embeddings.{table}_embeddings.weight"] = self.draw(rows, TEXT_WIDTH)
        self.state[f"{root}.embeddings.position_ids"] = torch.arange(20)[None]
        self.norm(f"{root}.embeddings.LayerNorm", TEXT_WIDTH)
        for layer in layers:
            name = f"{root}.encoder.layer.{layer}"
            kinds = ["attention"] + ["crossattention"] * (layer >= cross_from)
            for kind in kinds:
                width = TEXT_WIDTH if kind == "attention" else key_width
                self.linear(f"{name}.{kind}.self.query", TEXT_WIDTH, TEXT_WIDTH)
                self.linear(f"{name}.{kind}.self.key", width, TEXT_WIDTH)
                self.linear(f"{name}.{kind}.self.value", width, TEXT_WIDTH)
                self.linear(f"{name}.{kind}.output.dense", TEXT_WIDTH, TEXT_WIDTH)
                self.norm(f"{name}.{kind}.output.LayerNorm", TEXT_WIDTH)
            self.linear(f"{name}.intermediate.dense", TEXT_WIDTH, 48)
            self.linear(f"{name}.output.dense", 48, TEXT_WIDTH)
            self.norm(f"{name}.output.LayerNorm", TEXT_WIDTH)

    def words(self, root):
        self.linear(f"{root}.cls.predictions.transform.dense", TEXT_WIDTH, TEXT_WIDTH)
        self.norm(f"{root}.cls.predictions.transform.LayerNorm", TEXT_WIDTH)
        self.state[f"{root}.cls.predictions.bias"] = self.draw(VOCABULARY_SIZE)
        self.state[f"{root}.cls.predictions.decoder.bias"] = self.state[f"{root}.cls.predictions.bias"]
        self.state[f"{root}.cls.predictions.decoder.weight"] = self.state[
            f"{root}.bert.embeddings.word_embeddings.weight"
        ]

    def mlp(self, name, outputs):
        self.linear(f"{name}.0", TEXT_WIDTH, 2 * TEXT_WIDTH)
        self.norm(f"{name}.1", 2 * TEXT_WIDTH)
        self.linear(f"{name}.3", 2 * TEXT_WIDTH, outputs)

    def space(self):
        self.linear("vision_proj", 32, 16)
        self.linear("text_proj", TEXT_WIDTH, 16)
        self.state["temp"] = torch.tensor(0.06)


def make_official_state(task):
    made = Maker()
    made.swin()
    if task == "pretrain":
        made.bert("text_encoder.bert")
        made.words("text_encoder")
    elif task in ("retrieval", "box", "vqa"):
        made.bert("text_encoder")
    elif task in ("nlvr", "nlvr-pretrain"):
        made.bert("text_encoder", range(FUSION + 2 * (LAYERS - FUSION)))
        for first in range(FUSION, FUSION + 2 * (LAYERS - FUSION), 2):
            for part in ("key.weight", "key.bias", "value.weight", "value.bias"):
                name = "text_encoder.encoder.layer.{}.crossattention.self." + part
                made.state[name.format(first)] = made.state[name.format(first + 1)]
    if task == "vqa":
        made.bert("text_decoder.bert", range(LAYERS - FUSION), 0, TEXT_WIDTH)
        made.words("text_decoder")
    if task == "caption":
        made.bert("text_decoder.bert")
        made.words("text_decoder")
    if task in ("pretrain", "retrieval"):
        made.space()
        made.mlp("itm_head", 2)
    if task in ("pretrain", "box"):
        made.mlp("bbox_head", 4)
    if task == "nlvr":
        made.mlp("cls_head", 2)
    if task == "nlvr-pretrain":
        made.linear("vision_proj", 32, 16)
        made.linear("ta_head", TEXT_WIDTH, 3)
    return made.state


@pytest.fixture(scope="session")
def official_state():
    """A function: name of a task -> state dict of made-up weights under official names."""
    return make_official_state
