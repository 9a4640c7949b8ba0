import pytest
import torch

from ovdet.errors import InputError
from ovdet.seggpt.build import seggpt, seggpt_vit_large
from ovdet.seggpt.layouts import (
    config_from_transformers,
    config_of,
    config_to_transformers,
    from_published,
    to_published,
)

LAYOUTS = ("official", "transformers")


def by_the_fact_sheet():
    """Names and shapes of seggpt_vit_large.pth as the fact sheet lists them (5.1), its 354 tensors."""
    shapes = {
        f"{name}_token{end}": (1, 1, 1, 1024) for name, end in (("mask", ""), ("segment", "_x"), ("segment", "_y"))
    }
    shapes |= {"type_token_cls": (1, 1, 1, 1024), "type_token_ins": (1, 1, 1, 1024), "pos_embed": (1, 197, 1024)}
    weights = {
        "patch_embed.proj": (1024, 3, 16, 16),
        "norm": (1024,),
        "decoder_embed": (16384, 4096),
        "decoder_pred.0": (64, 64, 3, 3),
        "decoder_pred.1": (64,),
        "decoder_pred.3": (3, 64, 1, 1),
    }
    for block in range(24):
        name = f"blocks.{block}."
        weights |= {name + "norm1": (1024,), name + "norm2": (1024,)}
        weights |= {name + "attn.qkv": (3072, 1024), name + "attn.proj": (1024, 1024)}
        weights |= {name + "mlp.fc1": (4096, 1024), name + "mlp.fc2": (1024, 4096)}
        shapes |= {name + "attn.rel_pos_h": (111, 64), name + "attn.rel_pos_w": (55, 64)}
    for name, shape in weights.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


@pytest.fixture(scope="module")
def large():
    with torch.device("meta"):
        return seggpt_vit_large()


def test_every_weight_of_the_published_file_has_its_place(large):
    shapes = by_the_fact_sheet()
    assert len(shapes) == 354
    exported = to_published(large.state_dict(), "official")
    assert {name: tuple(value.shape) for name, value in exported.items()} == shapes
    ours = from_published({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in large.state_dict().items()
    }
    assert config_of(ours) == large.config


def test_transformers_names(large):
    exported = to_published(large.state_dict(), "transformers")
    assert len(exported) == 354
    for name in (
        "model.embeddings.type_token_instance",
        "model.embeddings.patch_embeddings.projection.weight",
        "model.encoder.layers.23.attention.rel_pos_w",
        "model.encoder.layers.0.layernorm_after.bias",
        "model.encoder.layers.7.mlp.lin2.weight",
        "model.encoder.layernorm.weight",
        "decoder.decoder_pred.head.bias",
    ):
        assert name in exported


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back_is_bit_equal(tiny_model, layout):
    state = tiny_model.state_dict()
    back = from_published(to_published(state, layout))
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(back[name], value), name


def test_tokens_are_not_mixed_up(tiny_model):
    exported = to_published(tiny_model.state_dict(), "official")
    assert torch.equal(exported["type_token_ins"][0, 0, 0], tiny_model.kind_tokens[1])
    assert torch.equal(exported["segment_token_x"][0, 0, 0], tiny_model.picture_token)
    other = to_published(tiny_model.state_dict(), "transformers")
    assert torch.equal(other["model.embeddings.segment_token_prompt"][0, 0, 0], tiny_model.painting_token)


def test_sizes_are_read_off_the_weights(tiny_model):
    state = from_published(to_published(tiny_model.state_dict(), "official"))
    config = tiny_model.config
    assert config_of(state, merge_block=1, taps=(1, 3, 4)).__dict__ == {**config.__dict__, "drop_path": 0.1}


def test_config_json_there_and_back(tiny_model):
    assert config_from_transformers(config_to_transformers(tiny_model.config)) == tiny_model.config
    assert config_from_transformers({"model_type": "seggpt"}) == seggpt_large_config()
    sided = {**config_to_transformers(tiny_model.config), "patch_size": [8, 8], "mlp_dim": None}
    assert config_from_transformers(sided).mlp_width == 4 * 24


def seggpt_large_config():
    with torch.device("meta"):
        return seggpt_vit_large().config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "vit"}, "'vit'"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"qkv_bias": False}, "qkv_bias"),
        ({"patch_size": [8, 16]}, "square"),
    ],
)
def test_other_configurations_are_refused(tiny_model, change, said):
    with pytest.raises(InputError, match=said):
        config_from_transformers({**config_to_transformers(tiny_model.config), **change})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_and_foreign_weights_are_named(tiny_model, layout):
    state = to_published(tiny_model.state_dict(), layout)
    gone = sorted(name for name in state if "rel_pos_h" in name)[0]
    with pytest.raises(InputError, match=f"{gone} is missing"):
        from_published({name: value for name, value in state.items() if name != gone})
    with pytest.raises(InputError, match="no place in SegGPT, the first of them extra"):
        from_published({**state, "extra": torch.zeros(1)})


def test_other_weights_are_refused(tiny_model):
    with pytest.raises(InputError, match="no SegGPT weights"):
        from_published({"conv.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="of no SegGPT"):
        to_published({**tiny_model.state_dict(), "other": torch.zeros(1)}, "official")
    state = to_published(tiny_model.state_dict(), "official")
    state["pos_embed"] = state["pos_embed"].repeat(2, 1, 1)
    with pytest.raises(InputError, match="pos_embed should have 1 axes"):
        from_published(state)


def test_painter_only_when_asked(tiny_model):
    state = to_published(tiny_model.state_dict(), "official")
    with pytest.raises(InputError, match="not Painter's"):
        from_published(state, painter=True)
    painter = {name: value for name, value in state.items() if not name.startswith("type_token")}
    with pytest.raises(InputError, match="Painter"):
        from_published(painter)
    ours = from_published(painter, painter=True)
    assert ours["kind_tokens"].shape == (2, 24) and not ours["kind_tokens"].any()
    seggpt(**tiny_model.recipe["arguments"]).load_state_dict(ours, strict=True)
