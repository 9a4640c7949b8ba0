from pathlib import Path

import numpy as np
import pytest
import torch

from ovdet.errors import InputError
from ovdet.seggpt import blocks
from ovdet.seggpt.build import BUILDERS, seggpt, seggpt_small, seggpt_vit_large
from ovdet.seggpt.model import Kind

TRUNK = dict(
    canvas_hw=(96, 32), patch=16, width=24, depth=2, heads=3, mlp_width=40, merge_block=0, taps=(0, 1),
    decoder_channels=4, position_grid=3,
)  # fmt: skip
SAVED = np.load(Path(__file__).parent / "transformers_reference.npz")


@pytest.fixture(scope="module")
def data(tiny_model, reference_script):
    """Three canvases: images, paintings, and the lower half hidden."""
    images, paintings, hidden = reference_script.inputs(tiny_model.config, 3)
    return images, paintings, hidden["lower"]


def kinds(count, kind=Kind.SEMANTIC):
    return torch.full((count,), int(kind))


def test_the_published_size():
    with torch.device("meta"):
        model = seggpt_vit_large()
    assert sum(value.numel() for value in model.parameters()) == 370_723_203  # released file
    assert sum(value.numel() for value in model.blocks[0].parameters()) == 12_606_848
    assert model.decoder.expand.weight.shape == (16384, 4096)
    assert not [name for name, _ in model.named_buffers() if name in model.state_dict()]
    assert [block.drop_path for block in model.blocks] == pytest.approx([0.1 * index / 23 for index in range(24)])


@pytest.mark.parametrize("way", ["lower", "scattered"])
@pytest.mark.parametrize("kind", list(Kind))
@torch.no_grad()
def test_equals_transformers(tiny_model, reference_script, way, kind):
    images, paintings, hidden = reference_script.inputs(tiny_model.config)
    found = tiny_model(images, paintings, hidden[way], kinds(2, kind))
    step = reference_script.STEP
    wanted = torch.from_numpy(SAVED[f"{way}_{kind.name.lower()}"])
    assert wanted.std() > 0.3
    torch.testing.assert_close(found[:, :, ::step, ::step], wanted, atol=1e-4, rtol=0)


def test_the_saved_answers_are_those_of_transformers(tiny_model, reference_script):
    pytest.importorskip("transformers")
    for name, answer in reference_script.compute(tiny_model).items():
        np.testing.assert_allclose(answer, SAVED[name], atol=1e-5)


def test_kinds_and_hiding_matter():
    names = list(SAVED)
    for index, name in enumerate(names):
        for other in names[:index]:
            assert np.abs(SAVED[name] - SAVED[other]).max() > 1e-2


@torch.no_grad()
def test_equals_a_plain_restatement_with_kinds_mixed_in_a_batch(tiny_model, plain, reference_script):
    images, paintings, hidden = reference_script.inputs(tiny_model.config, 3)
    mixed = torch.tensor([0, 1, 0])
    wanted = plain(tiny_model, images, paintings, hidden["scattered"], mixed)
    torch.testing.assert_close(tiny_model(images, paintings, hidden["scattered"], mixed), wanted, atol=1e-5, rtol=1e-5)


def shared_queries(images, paintings, owner):
    """Canvases of which those of one owner have one lower half."""
    half = images.shape[2] // 2
    images, paintings = images.clone(), paintings.clone()
    for each in set(owner):
        rows = [row for row, one in enumerate(owner) if one == each]
        images[rows, :, half:] = images[rows[:1], :, half:]
    return images, paintings


@pytest.mark.parametrize("owner", [[0, 0, 0], [0, 1, 0], [1, 0, 1]])
@torch.no_grad()
def test_feature_ensemble_is_the_released_one_and_keeps_queries_apart(tiny_model, plain, data, owner):
    images, paintings = shared_queries(data[0], data[1], owner)
    groups = [[row for row, one in enumerate(owner) if one == each] for each in sorted(set(owner))]
    wanted = plain(tiny_model, images, paintings, data[2], kinds(3), groups)
    found = tiny_model(images, paintings, data[2], kinds(3), torch.tensor(owner))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    alone = tiny_model(images, paintings, data[2], kinds(3))
    assert (found - alone).abs().max() > 1e-2


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", list(Kind))
@torch.no_grad()
def test_examples_encoded_once_change_no_answer(tiny_model, data, count, kind):
    images, paintings, masked = data
    half = images.shape[2] // 2
    examples = tiny_model.encode_examples(images[:count, :, :half], paintings[:count, :, :half], kind)
    kept = [each.clone() for each in (examples.pictures, examples.paintings, examples.blanks)]
    painted = tiny_model.paint(examples, images[:, :, half:])
    owner = torch.zeros(count, dtype=torch.long) if count > 1 else None
    for index in range(3):
        canvas = torch.cat([images[:count, :, :half], images[index : index + 1, :, half:].expand(count, -1, -1, -1)], 2)
        wanted = tiny_model(canvas, paintings[:count], masked[:count], kinds(count, kind), owner)[:1, :, half:]
        torch.testing.assert_close(painted[index : index + 1], wanted, atol=2e-6, rtol=1e-5)
    for before, after in zip(kept, (examples.pictures, examples.paintings, examples.blanks), strict=True):
        assert torch.equal(before, after)


@torch.no_grad()
def test_the_order_of_examples_matters_at_the_seam_only(tiny_model, data):
    images, paintings, _ = data
    half = images.shape[2] // 2
    forth = tiny_model.encode_examples(images[:, :, :half], paintings[:, :, :half])
    back = tiny_model.encode_examples(images[:, :, :half].flip(0), paintings[:, :, :half].flip(0))
    one, other = tiny_model.paint(forth, images[:1, :, half:]), tiny_model.paint(back, images[:1, :, half:])
    torch.testing.assert_close(one[:, :, 1:], other[:, :, 1:], atol=1e-5, rtol=1e-5)
    assert (one[:, :, 0] - other[:, :, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_what_is_hidden_is_not_seen(tiny_model, data):
    images, paintings, masked = data
    changed = paintings.clone()
    changed[:, :, paintings.shape[2] // 2 :] = 7
    args = masked, kinds(3)
    assert torch.equal(tiny_model(images, paintings, *args), tiny_model(images, changed, *args))


@pytest.mark.parametrize("canvas_hw", [(96, 48), (32, 64)])
@torch.no_grad()
def test_canvases_of_other_sizes_stretch_positions(tiny_model, canvas_hw):
    torch.manual_seed(0)
    images, paintings = torch.randn(2, 2, 3, *canvas_hw)
    masked = torch.rand(2, canvas_hw[0] // 8, canvas_hw[1] // 8) < 0.5
    found = tiny_model(images, paintings, masked, kinds(2))
    assert found.shape == images.shape and found.isfinite().all()


def test_training_reaches_every_weight_and_equals_inference(tiny_model, data):
    images, paintings, masked = data
    mixed = torch.tensor([0, 1, 0])
    found = tiny_model(images, paintings, masked, mixed)
    with torch.no_grad():
        torch.testing.assert_close(found.detach(), tiny_model(images, paintings, masked, mixed), atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(found.square().sum(), list(tiny_model.parameters()))
    for (name, _), gradient in zip(tiny_model.named_parameters(), gradients, strict=True):
        assert gradient.abs().sum() > 0, name


def small_in_training():
    torch.manual_seed(0)
    return seggpt(
        canvas_hw=(32, 16), patch=8, width=12, depth=4, heads=2, merge_block=0, taps=(0, 3), drop_path=0.0
    ).train()


def test_checkpointing_changes_nothing():
    model = small_in_training()
    images, paintings = torch.randn(2, 2, 3, 32, 16)
    masked = torch.rand(2, 4, 2) < 0.5
    gradients = []
    for model.checkpointing in (False, True):
        out = model(images, paintings, masked, kinds(2))
        gradients.append(torch.autograd.grad(out.square().sum(), list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_it_learns_one_canvas_by_heart():
    model = small_in_training()
    torch.manual_seed(0)
    images, wanted = torch.randn(2, 1, 3, 32, 16)
    masked = (torch.arange(4) >= 2).view(1, 4, 1).expand(1, 4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        error = (model(images, wanted, masked, kinds(1)) - wanted)[:, :, 16:].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        losses.append(error.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("way", ["autocast", "cast"])
@torch.no_grad()
def test_bfloat16_is_near(tiny_model, data, way):
    images, paintings, masked = data
    wanted = tiny_model(images, paintings, masked, kinds(3))
    if way == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = tiny_model(images, paintings, masked, kinds(3))
    else:
        model = seggpt(**tiny_model.recipe["arguments"]).eval()
        model.load_state_dict(tiny_model.state_dict())
        found = model.bfloat16()(images, paintings, masked, kinds(3))
    assert (found.float() - wanted).abs().mean() < 0.05 * wanted.std()


def test_colours_survive_normalising(tiny_model):
    colours = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    torch.testing.assert_close(tiny_model.to_colours(tiny_model.normalise(colours)), colours.float(), atol=1e-3, rtol=0)
    black_and_white = tiny_model.normalise(
        torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    )
    wanted = torch.tensor([[-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.6400]])  # fact sheet, 2.1
    torch.testing.assert_close(black_and_white[:, :, 0, 0], wanted, atol=1e-4, rtol=0)
    assert (tiny_model.to_colours(torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1)).unique() == torch.tensor([0, 255])).all()


@torch.no_grad()
def test_hundreds_of_examples_need_little_beyond_themselves(tiny_model, monkeypatch):
    torch.manual_seed(0)
    pictures, paintings = torch.randn(2, 200, 3, 32, 32)
    targets = torch.randn(1, 3, 32, 32)
    whole = tiny_model.paint(tiny_model.encode_examples(pictures, paintings), targets)
    monkeypatch.setattr(blocks, "PART_BYTES", 40_000)
    in_parts = tiny_model.paint(tiny_model.encode_examples(pictures, paintings), targets)
    torch.testing.assert_close(whole, in_parts, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": torch.zeros(2, 3, 64, 40)}, "alike"),
        ({"masked": torch.zeros(2, 4, 8, dtype=torch.bool)}, "masked must be"),
        ({"kinds": torch.zeros(3, dtype=torch.long)}, "kinds must be"),
        ({"owner": torch.tensor([0, 2])}, "each index"),
    ],
)
def test_misfits_are_named(tiny_model, change, said):
    good = {
        "images": torch.zeros(2, 3, 64, 32),
        "paintings": torch.zeros(2, 3, 64, 32),
        "masked": torch.zeros(1, 8, 4, dtype=torch.bool),
        "kinds": kinds(2),
    }
    with pytest.raises(InputError, match=said):
        tiny_model(**{**good, **change})


def test_a_picture_of_another_size_than_the_examples_is_refused(tiny_model):
    examples = tiny_model.encode_examples(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="another size"):
        tiny_model.paint(examples, torch.zeros(1, 3, 64, 32))


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_tell_how_to_build_again(name):
    with torch.device("meta"):
        model = BUILDERS[name]()
        again = BUILDERS[model.recipe["builder"]](**model.recipe["arguments"])
    assert again.config == model.config
    assert isinstance(model.recipe["arguments"]["canvas_hw"], list)


def test_the_small_size_is_small():
    with torch.device("meta"):
        model = seggpt_small(128)
    assert sum(value.numel() for value in model.parameters()) < 8_000_000
    assert model.config.picture_hw == (128, 128)


@pytest.fixture(scope="module", params=[("pixels", 0), ("skips", 0), ("skips", 8)], ids=str)
def trunk_model(request):
    torch.manual_seed(0)
    decoder, looks = request.param
    model = seggpt(**{**TRUNK, "stem": "trunk", "decoder": decoder, "looks": looks}).eval()
    if model.matcher is not None:
        torch.nn.init.normal_(model.matcher.answer[2].weight)  # at the start it says nothing
    return model


@torch.no_grad()
def test_with_a_trunk_too_the_example_is_computed_once(trunk_model):
    pictures, paintings, targets = torch.randn(3, 2, 3, 48, 32)
    masked = torch.zeros(1, 6, 2, dtype=torch.bool)
    masked[:, 3:] = True
    examples = trunk_model.encode_examples(pictures[:1], paintings[:1])
    for target in targets:
        canvas = torch.cat([pictures[0], target], dim=1)[None]
        painting = torch.cat([paintings[0], torch.randn(3, 48, 32)], dim=1)[None]
        whole = trunk_model(canvas, painting, masked, kinds(1))
        lower = trunk_model(canvas, painting, masked, kinds(1), lower=True)
        torch.testing.assert_close(lower, whole[:, :, 48:], atol=1e-5, rtol=0)
        torch.testing.assert_close(trunk_model.paint(examples, target[None]), lower, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_the_trunk_sees_may_be_known_already(trunk_model):
    pictures, paintings = torch.randn(2, 2, 3, 96, 32)
    masked = torch.zeros(1, 6, 2, dtype=torch.bool)
    masked[:, 3:] = True
    halves = torch.cat(pictures.chunk(2, dim=2))
    seen = trunk_model.stem.levels(halves * trunk_model.std + trunk_model.mean)
    with_it = trunk_model(pictures, paintings, masked, kinds(2), seen=seen)
    torch.testing.assert_close(with_it, trunk_model(pictures, paintings, masked, kinds(2)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_with_a_trunk_too_pictures_in_question_are_kept_apart(trunk_model):
    """Three examples of each of two pictures: as `paint` does it one by one."""
    pictures, paintings = torch.randn(2, 3, 3, 48, 32)
    targets = torch.randn(2, 3, 48, 32)
    masked = torch.zeros(1, 6, 2, dtype=torch.bool)
    masked[:, 3:] = True
    owner = torch.arange(2).repeat_interleave(3)
    canvases = torch.cat([pictures.repeat(2, 1, 1, 1), targets[owner]], dim=2)
    shown = torch.cat([paintings.repeat(2, 1, 1, 1), torch.zeros(6, 3, 48, 32)], dim=2)
    together = trunk_model(canvases, shown, masked, kinds(6), owner, lower=True)
    examples = trunk_model.encode_examples(pictures, paintings)
    for index, target in enumerate(targets):
        painted = trunk_model.paint(examples, target[None])[0, :, 1:]  # but for the seam
        torch.testing.assert_close(together[3 * index][:, 1:], painted, atol=1e-4, rtol=0)


def test_the_trunk_keeps_still_until_told(trunk_model):
    trunk_model.train()
    assert not trunk_model.stem.trunk.training and trunk_model.stem.norms.training
    learning = {name for name, value in trunk_model.named_parameters() if value.requires_grad}
    assert not {name for name in learning if name.startswith("stem.trunk.")}
    assert {"stem.projections.0.weight", "patch_embed.weight"} <= learning
    trunk_model.eval()
