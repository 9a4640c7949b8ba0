import os
import pickle
from dataclasses import replace

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from torch.nn import functional as F

from ovdet.errors import InputError
from ovdet.vild.build import Architecture, assemble, vild_tiny
from ovdet.vild.config import ViLDConfig
from ovdet.vild.heads import EncoderSizes
from ovdet.vild.weights import CheckpointFacts, convert_detpro, load_model, read_facts, save_model

WIDTH, CHANNELS, FC = 24, 32, 48


def small_detpro_form(variant: str):
    """DetPro's Mask R-CNN with few channels and a ResNet-18, since its own has 60 million weights."""
    sizes = EncoderSizes(in_channels=CHANNELS, conv_channels=CHANNELS, num_convs=4, fc_channels=FC, num_fcs=1)
    architecture = Architecture(
        depth=18, base_channels=16, channels=CHANNELS, region=sizes, style="caffe", norm_eval=True, proposals=50
    )
    return assemble(architecture, ViLDConfig(variant, embed_dim=WIDTH, test_temperature=0.007, box_beta=0.0))


def batch_norm(prefix: str, channels: int) -> dict[str, torch.Tensor]:
    return {
        f"{prefix}.weight": torch.rand(channels) + 0.5,
        f"{prefix}.bias": torch.randn(channels),
        f"{prefix}.running_mean": torch.randn(channels),
        f"{prefix}.running_var": torch.rand(channels) + 0.5,
        f"{prefix}.num_batches_tracked": torch.tensor(7),
    }


def detpro_file(*, ensemble: bool = True) -> dict[str, torch.Tensor]:
    """A state dict with the names of DetPro's files, written down from the fact sheet (vild.md 6.1)."""
    backbone = small_detpro_form("vild").backbone.state_dict()  # mmdet 2.7 and 3.3 name a ResNet alike
    state = {f"backbone.{name}": torch.randn_like(v) if v.is_floating_point() else v for name, v in backbone.items()}
    state |= {name: value.abs() + 0.5 for name, value in state.items() if name.endswith("running_var")}
    for level, channels in enumerate((16, 32, 64, 128)):
        state[f"neck.lateral_convs.{level}.conv.weight"] = torch.randn(CHANNELS, channels, 1, 1) * 0.1
        state |= batch_norm(f"neck.lateral_convs.{level}.bn", CHANNELS)
        state[f"neck.fpn_convs.{level}.conv.weight"] = torch.randn(CHANNELS, CHANNELS, 3, 3) * 0.1
        state |= batch_norm(f"neck.fpn_convs.{level}.bn", CHANNELS)
    for name, shape in (
        ("rpn_conv", (CHANNELS, CHANNELS, 3, 3)),
        ("rpn_cls", (3, CHANNELS, 1, 1)),
        ("rpn_reg", (12, CHANNELS, 1, 1)),
    ):
        state[f"rpn_head.{name}.weight"], state[f"rpn_head.{name}.bias"] = (
            torch.randn(shape) * 0.1,
            torch.randn(shape[0]),
        )
    for suffix, projection in (("", "projection"), ("_for_image", "projection_for_image")):
        if suffix and not ensemble:
            continue
        for layer in range(4):
            state[f"roi_head.bbox_head.shared_convs{suffix}.{layer}.conv.weight"] = (
                torch.randn(CHANNELS, CHANNELS, 3, 3) * 0.1
            )
            state |= batch_norm(f"roi_head.bbox_head.shared_convs{suffix}.{layer}.bn", CHANNELS)
        state[f"roi_head.bbox_head.shared_fcs{suffix}.0.weight"] = torch.randn(FC, CHANNELS * 49) * 0.05
        state[f"roi_head.bbox_head.shared_fcs{suffix}.0.bias"] = torch.randn(FC)
        state[f"roi_head.{projection}.weight"] = torch.randn(WIDTH, FC)
        state[f"roi_head.{projection}.bias"] = torch.randn(WIDTH)
    state["roi_head.bbox_head.fc_reg.weight"], state["roi_head.bbox_head.fc_reg.bias"] = (
        torch.randn(4, FC),
        torch.randn(4),
    )
    state["roi_head.bg_embedding.weight"], state["roi_head.bg_embedding.bias"] = (
        torch.randn(WIDTH, 1),
        torch.randn(WIDTH),
    )
    for layer in range(4):
        state[f"roi_head.mask_head.convs.{layer}.conv.weight"] = torch.randn(CHANNELS, CHANNELS, 3, 3) * 0.1
        state[f"roi_head.mask_head.convs.{layer}.conv.bias"] = torch.randn(CHANNELS)
    state["roi_head.mask_head.upsample.weight"] = torch.randn(CHANNELS, CHANNELS, 2, 2)
    state["roi_head.mask_head.upsample.bias"] = torch.randn(CHANNELS)
    state["roi_head.mask_head.conv_logits.weight"] = torch.randn(1, CHANNELS, 1, 1)
    state["roi_head.mask_head.conv_logits.bias"] = torch.randn(1)
    for name in ("input_resolution", "visual.conv1.weight", "transformer.resblocks.0.ln_1.weight"):
        state[f"roi_head.clip_model.{name}"] = torch.randn(3)
    return state


def branch_by_hand(
    state: dict, suffix: str, projection: str, features: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """DetPro's 4conv1fc branch in plain torch, from its own names: region vectors and unit embeddings."""
    x = features
    for layer in range(4):
        prefix = f"roi_head.bbox_head.shared_convs{suffix}.{layer}"
        x = F.conv2d(x, state[f"{prefix}.conv.weight"], padding=1)
        mean, var = state[f"{prefix}.bn.running_mean"], state[f"{prefix}.bn.running_var"]
        x = F.relu(F.batch_norm(x, mean, var, state[f"{prefix}.bn.weight"], state[f"{prefix}.bn.bias"]))
    prefix = f"roi_head.bbox_head.shared_fcs{suffix}.0"
    vectors = F.relu(F.linear(x.flatten(1), state[f"{prefix}.weight"], state[f"{prefix}.bias"]))
    embeddings = F.linear(vectors, state[f"roi_head.{projection}.weight"], state[f"roi_head.{projection}.bias"])
    return vectors, F.normalize(embeddings, dim=1)


@torch.no_grad()
def test_a_converted_file_scores_as_the_original():  # acceptance 14
    state = detpro_file()
    converted = convert_detpro(state)
    model = small_detpro_form(converted.variant).eval()
    model.load_state_dict(converted.state_dict, strict=True)
    head, features = model.roi_head, torch.randn(6, CHANNELS, 7, 7)
    vectors, text = branch_by_hand(state, "", "projection", features)
    _, image = branch_by_hand(state, "_for_image", "projection_for_image", features)
    embeddings, deltas = head.bbox_head(features)
    torch.testing.assert_close(F.normalize(embeddings, dim=1), text, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(F.normalize(head.image_head(features), dim=1), image, atol=1e-6, rtol=1e-6)
    reference = F.linear(vectors, state["roi_head.bbox_head.fc_reg.weight"], state["roi_head.bbox_head.fc_reg.bias"])
    torch.testing.assert_close(deltas, reference, atol=1e-4, rtol=1e-6)
    background = F.normalize(state["roi_head.bg_embedding.weight"][:, 0] + state["roi_head.bg_embedding.bias"], dim=0)
    names = F.normalize(torch.randn(4, WIDTH), dim=1)
    p_text = (text @ torch.cat([names, background[None]]).T / 0.007).softmax(1)[:, :-1]
    p_image = (image @ names.T / 0.007).softmax(1)
    table = model.make_class_table(names, [True, False, True, False])
    expected = torch.where(
        table.base_mask, p_text ** (2 / 3) * p_image ** (1 / 3), p_text ** (1 / 3) * p_image ** (2 / 3)
    )
    scores = head._score_rows(embeddings, head.image_head(features), table, slice(0, 6))
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_the_rest_of_a_converted_file_is_where_it_was():  # acceptance 14
    state = detpro_file()
    model = small_detpro_form("ensemble").eval()
    model.load_state_dict(convert_detpro(state).state_dict, strict=True)
    levels = [torch.randn(1, channels, 32 // 2**i, 32 // 2**i) for i, channels in enumerate((16, 32, 64, 128))]
    top = F.conv2d(levels[3], state["neck.lateral_convs.3.conv.weight"])
    for part in ("lateral_convs", "fpn_convs"):
        if part == "fpn_convs":
            top = F.conv2d(top, state["neck.fpn_convs.3.conv.weight"], padding=1)
        bn = {key: state[f"neck.{part}.3.bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        top = F.batch_norm(top, *bn.values())
    torch.testing.assert_close(model.neck(levels)[3], top, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.roi_head.mask_head.conv_logits.bias, state["roi_head.mask_head.conv_logits.bias"])
    assert torch.equal(model.backbone.layer4[1].conv2.weight, state["backbone.layer4.1.conv2.weight"])
    assert torch.equal(model.rpn_head.rpn_reg.bias, state["rpn_head.rpn_reg.bias"])
    assert bbox2roi([torch.zeros(1, 4)]).shape == (1, 5)


def test_the_teacher_inside_is_dropped_with_one_line():  # acceptance 14
    converted = convert_detpro(detpro_file())
    assert not [key for key in converted.state_dict if "clip_model" in key]
    assert "3 of the CLIP teacher dropped" in converted.summary
    assert "\n" not in converted.summary
    assert (converted.variant, converted.embed_dim, converted.with_mask) == ("ensemble", WIDTH, True)


def test_without_an_image_branch_it_is_plain_vild():  # acceptance 14
    state = detpro_file(ensemble=False)
    state["roi_head.projection_for_image.weight"] = torch.randn(WIDTH, FC)  # left over in some files
    converted = convert_detpro(state)
    assert converted.variant == "vild"
    small_detpro_form("vild").load_state_dict(converted.state_dict, strict=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"roi_head.projection.weight": None}, "no roi_head.projection.weight"),
        ({"roi_head.bg_embedding.bias": None}, "no roi_head.bg_embedding.bias"),
        (
            {"roi_head.fc_cls.weight": torch.zeros(1)},
            "1 weights have no place in ViLD, the first of them roi_head.fc_cls",
        ),
        ({"roi_head.bbox_head.0.fc_reg.weight": torch.zeros(1)}, "Cascade"),
    ],
)
def test_other_files_are_refused(change, words):
    state = {key: value for key, value in (detpro_file() | change).items() if value is not None}
    with pytest.raises(InputError, match=words):
        convert_detpro(state)


def test_checkpoints_build_themselves(tmp_path):
    model = vild_tiny("vild", embed_dim=16, temperature=0.02)
    facts = CheckpointFacts(
        **model.recipe, text_tower={"name": "some-tower"}, class_names=["cat", "dog"], base_mask=[True, False]
    )
    save_model(model, facts, tmp_path / "a" / "vild.pth")
    loaded, read = load_model(tmp_path / "a" / "vild.pth")
    assert not loaded.training
    assert loaded.config == model.config
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    assert read.base_names == ["cat"]
    assert read.text_tower == {"name": "some-tower"}
    assert os.listdir(tmp_path / "a") == ["vild.pth"]


def test_facts_read_what_a_training_writes():
    said = {
        "format": 1,
        "room": "vild",
        "builder": "vild_tiny",
        "arguments": {"variant": "text"},
        "text_tower": {"name": "t", "weights": None},
        "templates": "plain",
        "class_names": ["a", "b"],
        "base_mask": [True, False],
        "config_name": "tiny.py",
        "test_scale": [320, 200],
    }
    facts = read_facts({"state_dict": {}, "ovdet": said})
    assert (facts.builder, facts.templates, facts.test_scale) == ("vild_tiny", "plain", [320, 200])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "does not say how to build"),
        ({"builder": "os.system"}, "builder must be one of"),
        ({"builder": "vild_tiny", "room": "xvlm"}, "room 'xvlm'"),
        ({"builder": "vild_tiny", "format": 9}, "format 9"),
        ({"builder": "vild_tiny", "class_names": ["a"]}, "1 class_names but 0"),
        ({"builder": "vild_tiny", "class_names": [1], "base_mask": [True]}, "class_names must be texts"),
        ({"builder": "vild_tiny", "arguments": [1]}, "arguments must be"),
        ({"builder": "vild_tiny", "text_tower": "clip"}, "text_tower must be"),
        ({"builder": "vild_tiny", "test_scale": [0, 3]}, "test_scale"),
        ({"builder": "vild_tiny", "test_scale": [3]}, "test_scale"),
        ({"room": "vild"}, "damaged"),
    ],
)
def test_damaged_facts_are_named(tmp_path, said, words):
    torch.save({"state_dict": {}, "ovdet": said}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=words):
        load_model(tmp_path / "x.pth")


def test_weights_and_arguments_that_do_not_fit_are_named(tmp_path):
    model = vild_tiny("text")
    facts = CheckpointFacts(**model.recipe)
    save_model(model, replace(facts, arguments={"variant": "ensemble"}), tmp_path / "x.pth")
    with pytest.raises(InputError, match="does not fit the model that it names"):
        load_model(tmp_path / "x.pth")
    save_model(model, replace(facts, arguments={"depth": 3}), tmp_path / "x.pth")
    with pytest.raises(InputError, match="vild_tiny does not take these arguments"):
        load_model(tmp_path / "x.pth")
    torch.save({"ovdet": {"builder": "vild_tiny"}}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no 'state_dict'"):
        load_model(tmp_path / "x.pth")


def test_a_hostile_checkpoint_does_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    (tmp_path / "x.pth").write_bytes(pickle.dumps({"state_dict": Hostile()}))
    with pytest.raises(InputError):
        load_model(tmp_path / "x.pth")
    torch.save({"state_dict": Hostile(), "ovdet": {"builder": "vild_tiny"}}, tmp_path / "y.pth")
    with pytest.raises(InputError):
        load_model(tmp_path / "y.pth")
    assert not marker.exists()


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        save_model(vild_tiny("text"), CheckpointFacts("vild_tiny"), tmp_path / "file" / "x.pth")
    assert os.listdir(tmp_path) == ["file"]
