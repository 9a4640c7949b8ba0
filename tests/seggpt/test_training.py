import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from ovdet.errors import InputError
from ovdet.layers.trunk import CompactTrunk
from ovdet.seggpt.build import seggpt
from ovdet.seggpt.colours import class_colours
from ovdet.seggpt.losses import painting_loss
from ovdet.seggpt.prompts import prompt_of_training
from ovdet.seggpt.training import (
    PromptTuning,
    SegGPTTraining,
    export_trained,
    prompt_tuning,
    seggpt_training,
    soft_masks,
    start_matching,
)
from ovdet.seggpt.weights import load_model, save_model

SIZES = dict(
    canvas_hw=(32, 16), patch=4, width=32, depth=3, heads=2, merge_block=0, taps=(1, 2), decoder_channels=8,
    position_grid=4, drop_path=0.0,
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    return seggpt(**SIZES)


def canvases(count=4, seed=0):
    """Pictures of a bright square on dark; the painting colours it; the lower half is hidden."""
    rng = np.random.default_rng(seed)
    image = np.full((count, 3, 32, 16), 40, np.uint8)
    truth = np.zeros((count, 32, 16), bool)
    for n in range(count):
        for half in (0, 16):
            top, left = half + rng.integers(1, 9), rng.integers(1, 9)
            truth[n, top : top + 6, left : left + 6] = True
    image[truth[:, None].repeat(3, axis=1)] = 220
    painting = (truth[:, None].repeat(3, axis=1) * 255).astype(np.uint8)
    masked = np.zeros((count, 8, 4), bool)
    masked[:, 4:] = True
    tensors = dict(image=image, painting=painting, masked=masked, kind=np.zeros(count, np.int64))
    return {key: torch.from_numpy(value) for key, value in tensors.items()}, torch.from_numpy(truth)


def test_the_loss_is_that_of_the_model_in_normalised_colours(model):
    batch, _ = canvases()
    valid = torch.ones(4, 32, 16, dtype=torch.bool)
    valid[:, :, 0] = False
    task = SegGPTTraining(model)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    images, paintings = ((batch[name] / 255 - mean) / std for name in ("image", "painting"))
    wanted = painting_loss(model(images, paintings, batch["masked"], batch["kind"]), paintings, batch["masked"], valid)
    assert task.loss(**batch, valid=valid)["loss_painting"].item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_small_model_learns_to_paint_what_the_prompt_says(model):
    """The same pictures all over: the loss falls to a fraction, and masks are found."""
    batch, truth = canvases()
    valid = torch.ones(4, 32, 16, dtype=torch.bool)
    task = SegGPTTraining(model)
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = task.loss(**batch, valid=valid)["loss_painting"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.35 * losses[0]
    below = truth[:, 16:]
    counts = task.predict(**batch, truth=below, valid=torch.ones_like(below), label=torch.zeros(4))
    assert (counts[:, 0] / counts[:, 1]).mean() > 0.5


def test_scores_are_counts_of_judged_pixels(model):
    batch, truth = canvases()
    below, valid = truth[:, 16:], torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.8
    model.eval()
    soft = soft_masks(model, **batch)
    task = SegGPTTraining(model, threshold=float(soft.detach().median()))
    counts = task.predict(**batch, truth=below, valid=valid, label=torch.zeros(4))
    for n in range(4):
        found = (soft[n] > task.threshold)[valid[n]].numpy()
        wanted = below[n][valid[n]].numpy()
        assert counts[n, 0] / counts[n, 1] == pytest.approx(jaccard_score(wanted, found))
        assert counts[n, 2] / counts[n, 3] == pytest.approx(jaccard_score(~wanted, ~found))
    assert soft.shape == (4, 16, 16) and 0 <= soft.min() <= soft.max() <= 1


def test_only_the_prompt_learns_in_tuning(model):
    batch, _ = canvases()
    tuning = PromptTuning(model).train()
    assert not model.training and {name for name, p in tuning.named_parameters() if p.requires_grad} == {
        "picture",
        "painting",
    }
    before = {name: value.clone() for name, value in tuning.state_dict().items()}
    optimiser = torch.optim.Adam([tuning.picture, tuning.painting], lr=0.1)
    valid = torch.ones(4, 32, 16, dtype=torch.bool)
    losses = []
    for _ in range(25):
        loss = tuning.loss(**batch, valid=valid)["loss_painting"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = {name for name, value in tuning.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"picture", "painting"}


def test_a_prompt_of_an_example_is_that_example(model):
    batch, _ = canvases(1)
    tuning = PromptTuning(model, batch["image"][0, :, :16], batch["painting"][0, :, :16])
    images, paintings = model.normalise(batch["image"]), model.normalise(batch["painting"])
    model.eval()
    wanted = model(images, paintings, batch["masked"], batch["kind"])[:, :, 16:]
    assert torch.allclose(tuning(images[:, :, 16:]), wanted, atol=1e-5)
    whole = tuning.loss(batch["image"], batch["painting"], torch.ones(1, 32, 16, dtype=torch.bool))
    below = torch.ones(1, 16, 16, dtype=torch.bool)
    half = tuning.loss(batch["image"][:, :, 16:], batch["painting"][:, :, 16:], below)
    assert whole["loss_painting"].item() == pytest.approx(half["loss_painting"].item())


def test_tuning_refuses_half_a_start_and_other_sizes(model):
    with pytest.raises(InputError, match="only one was given"):
        PromptTuning(model, torch.zeros(3, 16, 16, dtype=torch.uint8))
    with pytest.raises(InputError, match="picture must be"):
        PromptTuning(model, *[torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2)
    with pytest.raises(InputError, match="a colour for each name"):
        PromptTuning(model, names=("a", "b"), colours=np.asarray([[0, 0, 0], [255, 255, 255]]))


def test_what_was_tuned_is_in_the_checkpoint_with_its_names(model):
    tuning = PromptTuning(model, names=("a", "b"), kind=1, seed=3)
    found = prompt_of_training({f"task.{key}": value for key, value in tuning.state_dict().items()})
    assert found.names == ("a", "b") and found.kind == 1 and np.array_equal(found.colours, class_colours(2))
    assert torch.equal(found.picture, tuning.picture) and torch.equal(found.painting, tuning.painting)
    found.check(model)
    assert prompt_of_training(SegGPTTraining(model).state_dict()) is None


def test_training_starts_from_a_checkpoint_or_an_auto_encoder(model, tmp_path):
    save_model(model, tmp_path / "model.pth")
    task = seggpt_training(seggpt, init=str(tmp_path / "model.pth"), **{**SIZES, "drop_path": 0.1})
    assert torch.equal(task.model.decoder.head.weight, model.decoder.head.weight)
    assert seggpt_training("ovdet.seggpt.build.seggpt", checkpointing=True, **SIZES).model.checkpointing
    with pytest.raises(InputError, match="other sizes"):
        seggpt_training(seggpt, init=str(tmp_path / "model.pth"), **{**SIZES, "heads": 4})
    with pytest.raises(InputError, match="not from both"):
        seggpt_training(seggpt, init="a", mae="b", **SIZES)
    state = model.state_dict()
    encoder = {key.replace(".fc", ".mlp.fc"): value for key, value in state.items() if key.startswith("blocks.")}
    encoder = {key: torch.ones_like(value) for key, value in encoder.items() if "_table" not in key}
    encoder["patch_embed.proj.weight"] = torch.ones_like(state["patch_embed.weight"])
    encoder["patch_embed.proj.bias"] = torch.ones_like(state["patch_embed.bias"])
    encoder["pos_embed"] = torch.ones_like(state["positions"])[None]
    torch.save({"model": encoder}, tmp_path / "mae.pth")
    started = seggpt_training(seggpt, mae=str(tmp_path / "mae.pth"), **SIZES).model
    assert (started.blocks[2].fc1.weight == 1).all() and not (started.decoder.expand.weight == 1).any()
    tuned = prompt_tuning(str(tmp_path / "model.pth"), kind=1)
    assert tuned.kind == 1 and torch.equal(tuned.model.norm.weight, model.norm.weight)
    start = dict(
        type=lambda: [{"image": torch.full((3, 16, 16), 9, dtype=torch.uint8), "painting": torch.ones(3, 16, 16)}]
    )
    tuned = prompt_tuning(str(tmp_path / "model.pth"), names=dict(type=lambda: ["a", "b"]), start=start)
    assert tuned.names == ("a", "b")
    assert torch.allclose(model.to_colours(tuned.picture[None]), torch.tensor(9.0), atol=1e-3)


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_a_checkpoint_of_training_becomes_a_model(model, tmp_path, name):
    weights = {f"task.{key}": value for key, value in SegGPTTraining(model).state_dict().items()}
    torch.save({"state_dict": weights, "meta": {"iter": 3}}, tmp_path / "iter_3.pth")
    export_trained(tmp_path / "iter_3.pth", seggpt(**SIZES), tmp_path / name, threshold=0.4)
    found, facts = load_model(tmp_path / name)
    assert facts.threshold == 0.4 and found.config == model.config
    largest = model.decoder.expand.weight.abs().max()
    assert (found.decoder.expand.weight - model.decoder.expand.weight).abs().max() <= 0.01 * largest
    with pytest.raises(InputError, match="does not hold such a model"):
        export_trained(tmp_path / "iter_3.pth", seggpt(**{**SIZES, "depth": 4}), tmp_path / name)


def test_several_checkpoints_become_the_mean_of_their_weights(model, tmp_path):
    task = SegGPTTraining(model)
    states = []
    for number, factor in enumerate((1.0, 3.0, -1.0)):
        states.append({f"task.{key}": factor * value for key, value in task.state_dict().items()})
        torch.save({"state_dict": states[-1]}, tmp_path / f"{number}.pth")
    export_trained([tmp_path / f"{number}.pth" for number in range(3)], seggpt(**SIZES), tmp_path / "mean.pth")
    found, _ = load_model(tmp_path / "mean.pth")
    for name, value in found.state_dict().items():
        mean = torch.stack([state[f"task.model.{name}"] for state in states]).mean(dim=0)
        assert torch.allclose(value, mean, atol=1e-6), name


def test_matching_starts_with_cosines(model):
    """Before training, tokens alike attend to each other: logits are cosines, and what is found is handed on."""
    start_matching(model)
    width, attention = model.config.width, model.blocks[1].attn
    tokens = torch.nn.functional.layer_norm(torch.randn(5, width), (width,))
    q, k, v = attention.qkv(tokens).chunk(3, dim=1)
    torch.testing.assert_close(q @ k.T, tokens @ tokens.T, atol=1e-4, rtol=0)  # summed over heads
    torch.testing.assert_close(attention.proj(v), tokens, atol=1e-4, rtol=0)


@pytest.mark.parametrize("learns", [0, 1])
def test_what_a_still_trunk_sees_is_kept_and_what_a_learning_one_sees_is_not(learns):
    sizes = {**SIZES, "canvas_hw": (64, 32), "patch": 16, "stem": "trunk", "decoder": "skips"}
    task = seggpt_training(seggpt, trunk_learns=learns, **sizes)
    batch = {
        "image": torch.randint(0, 255, (2, 3, 64, 32), dtype=torch.uint8),
        "painting": torch.randint(0, 255, (2, 3, 64, 32), dtype=torch.uint8),
        "masked": torch.tensor([[[False] * 2] * 2 + [[True] * 2] * 2]).expand(2, -1, -1),
        "kind": torch.zeros(2, dtype=torch.long),
        "valid": torch.ones(2, 64, 32, dtype=torch.bool),
        "pictures": torch.tensor([[4, 7], [7, 4]]),
    }
    task.loss(**batch)["loss_painting"].backward()
    assert set(task._seen) == (set() if learns else {4, 7})
    last = task.model.stem.trunk.stages[-1]
    assert all((value.grad is not None) == bool(learns) for value in last.parameters())


def test_names_teach_the_measure_of_likeness():
    """Cross-entropy of the names of things, each the mean of its tokens; on two colours it is soon learned."""
    torch.manual_seed(0)
    sizes = {**SIZES, "canvas_hw": (64, 32), "patch": 16, "stem": "trunk", "decoder": "skips", "looks": 8}
    task = seggpt_training(seggpt, names=3, **sizes)
    image = torch.zeros(2, 3, 64, 32, dtype=torch.uint8)
    image[:, 0, :32, :16], image[:, 2, 32:] = 255, 255  # red in the prompt's left half, blue in the whole target
    batch = {
        "image": image,
        "painting": torch.zeros(2, 3, 64, 32, dtype=torch.uint8),
        "masked": torch.tensor([[[False] * 2] * 2 + [[True] * 2] * 2]).expand(2, -1, -1),
        "kind": torch.zeros(2, dtype=torch.long),
        "valid": torch.ones(2, 64, 32, dtype=torch.bool),
        "names": torch.tensor([[[1, -1], [1, -1]], [[2, 2], [2, 2]]]).expand(2, -1, -1, -1),
    }
    halves = torch.cat(image.chunk(2, dim=2)).float() / 255
    with torch.no_grad():
        looks = task.model.matcher.looks(task.model.stem.levels(halves)).unflatten(1, (2, 2))
        means = torch.stack([looks[0, :, 0].mean(dim=0), looks[2].mean(dim=(0, 1))])  # prompts are the first two
        cosines = torch.nn.functional.cosine_similarity(means[:, None], task.names[None], dim=2)
        wanted = torch.nn.functional.cross_entropy(20 * cosines, torch.tensor([1, 2]), label_smoothing=0.1)
        assert task.loss(**batch)["loss_names"].item() == pytest.approx(0.1 * wanted.item(), rel=1e-4)
    optimiser = torch.optim.Adam([task.names, *task.model.matcher.parameters()], lr=0.03)
    for _ in range(40):
        optimiser.zero_grad()
        loss = task.loss(**batch)["loss_names"]
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5 * 0.1 * wanted.item()
    nothing = {**batch, "names": torch.full((2, 2, 2, 2), -1)}
    assert task.loss(**nothing)["loss_names"].item() == 0
    with pytest.raises(InputError, match="a model without one"):
        seggpt_training(seggpt, names=3, **{**sizes, "looks": 0})


def test_training_may_add_a_measure_of_likeness_to_a_model_without(tmp_path):
    """What it paints does not change by that alone."""
    sizes = {**SIZES, "canvas_hw": (64, 32), "patch": 16, "stem": "trunk", "decoder": "skips"}
    before = seggpt_training(seggpt, **sizes).model.eval()
    save_model(before, tmp_path / "model.pth")
    after = seggpt_training(seggpt, init=str(tmp_path / "model.pth"), looks=8, **sizes).model.eval()
    pictures, paintings = torch.randn(2, 1, 3, 64, 32)
    masked = torch.tensor([[[False] * 2] * 2 + [[True] * 2] * 2])
    args = pictures, paintings, masked, torch.zeros(1, dtype=torch.long)
    assert torch.equal(before(*args), after(*args))


def test_a_trunk_is_taken_and_told_how_much_of_it_learns(tmp_path):
    sizes = {**SIZES, "canvas_hw": (64, 32), "patch": 16, "stem": "trunk"}
    state = CompactTrunk().state_dict()
    torch.save({f"trunk.{name}": value for name, value in state.items()}, tmp_path / "trunk.pth")
    task = seggpt_training(seggpt, trunk=str(tmp_path / "trunk.pth"), trunk_learns=2, matching=True, **sizes)
    taken = task.model.stem.trunk
    assert all(torch.equal(value, state[name]) for name, value in taken.state_dict().items())
    learning = [index for index, stage in enumerate(taken.stages) if all(p.requires_grad for p in stage.parameters())]
    assert learning == [3, 4]
    save_model(task.model, tmp_path / "model.pth")
    again = seggpt_training(seggpt, init=str(tmp_path / "model.pth"), matching=True, **sizes).model
    assert all(torch.equal(value, task.model.state_dict()[name]) for name, value in again.state_dict().items())
    with pytest.raises(InputError, match="this one embeds patches"):
        seggpt_training(seggpt, trunk=str(tmp_path / "trunk.pth"), **SIZES)
