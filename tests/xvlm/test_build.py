import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ovdet.errors import InputError
from ovdet.xvlm.build import BUILDERS, with_image_size, xvlm, xvlm_small, xvlm_swin_base
from ovdet.xvlm.config import SwinSizes, TextSizes, ViTSizes, image_sizes, plain, text_sizes
from ovdet.xvlm.images import make_image_encoder


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_base_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model, boxes = xvlm_swin_base("pretrain", 384), xvlm_swin_base("box", 384)
        smaller = make_image_encoder(SwinSizes(224, 7))
    assert count(model) == 215_772_601
    assert count(boxes) == 213_503_356
    assert count(model.image_encoder) == 86_878_584
    assert count(model.text_encoder.embedding) == 23_837_184
    assert count(model.text_encoder.layers) == 42_527_232
    assert count(model.fusion) == 59_069_952
    assert count(model.word_head) == 622_650
    assert count(model.space.image) == 262_400 and count(model.space.text) == 196_864
    assert count(model.match_head) == 1_187_330 and count(model.box_head) == 1_190_404
    tables = (23**2 - 13**2) * (2 * 4 + 2 * 8 + 18 * 16 + 2 * 32)  # of the smaller window
    assert count(model.image_encoder) - count(smaller) == tables
    # 626 official keys: less 24 + 11 buffers of the Swin, 1 of BERT, and 4 a layer for packed queries, keys and values
    assert len(boxes.state_dict()) == 626 - 24 - 11 - 1 - 4 * 12


def test_a_further_sentence_costs_a_fraction_of_the_first():
    """In multiplications at full size: the picture is encoded once, each sentence of 20 words reads it again."""
    with torch.device("meta"):
        model = xvlm_swin_base("pretrain", 384).eval()
        images, ids = torch.zeros(1, 3, 384, 384), torch.zeros(1, 21, dtype=torch.long)
        mask = torch.ones(1, 21, dtype=torch.bool)
        with torch.no_grad():
            with FlopCounterMode(display=False) as looking:
                encoded = model.encode_images(images)
            with FlopCounterMode(display=False) as reading:
                fused = model.first(model.encode_text(ids, mask), mask, encoded.tokens)
                model.boxes_of(fused), model.match_logits(fused)
    look, read = looking.get_total_flops(), reading.get_total_flops()
    assert 40e9 < look / 2 < 60e9  # Swin-B at 384 pixels: 47 G multiplications (arXiv:2103.14030, table 1)
    assert read < 0.15 * (look + read)


def test_a_small_one_fits_the_package():
    with torch.device("meta"):
        model = xvlm_small()
    assert count(model) < 11_000_000  # bytes, when packed
    assert not any("tower" in name for name, _ in model.named_parameters())
    assert model.recipe["builder"] in BUILDERS


@pytest.mark.parametrize("task", ["pretrain", "retrieval", "box", "vqa", "nlvr", "nlvr-pretrain", "caption"])
def test_recipes_build_the_same_again(task, swin_sizes, text_sizes):
    model = xvlm(task, swin_sizes, text_sizes, 16)
    again = BUILDERS[model.recipe["builder"]](**model.recipe["arguments"])
    again.load_state_dict(model.state_dict(), strict=True)
    assert again.recipe == model.recipe


def test_sizes_go_through_plain_values(swin_sizes, clip_sizes):
    for sizes in (swin_sizes, clip_sizes):
        assert image_sizes(plain(sizes)) == sizes
    words = TextSizes(vocabulary=50, dropout=0.2)
    assert text_sizes(plain(words)) == words


def test_other_picture_sizes_change_the_sizes_alone(swin_sizes, vit_sizes):
    arguments = dict(task="box", image=plain(swin_sizes), text={})
    changed = with_image_size(arguments, 128, 4)
    assert (changed["image"]["image_size"], changed["image"]["window"], changed["task"]) == (128, 4, "box")
    assert with_image_size(dict(image=plain(vit_sizes)), 96, 4)["image"] == plain(vit_sizes) | {"image_size": 96}


@pytest.mark.parametrize(
    "make",
    [
        lambda: xvlm("detect"),
        lambda: xvlm_swin_base(image_size=300),
        lambda: xvlm_small(width=100),
        lambda: xvlm_small(image_size=100),
        lambda: xvlm("box", {"kind": "swin", "depth": 3}),
        lambda: xvlm("box", ViTSizes(image_size=64, width=30)),
        lambda: ViTSizes(kind="round"),
        lambda: ViTSizes(activation="relu"),
        lambda: ViTSizes(region_depth=13),
        lambda: ViTSizes(image_size=100),
        lambda: TextSizes(width=30),
        lambda: TextSizes(dropout=1.0),
        lambda: TextSizes(text_layers=0),
        lambda: text_sizes({"vocabulary": 10.5}),
    ],
)
def test_what_cannot_be_is_refused(make):
    with torch.device("meta"), pytest.raises(InputError):
        make()
