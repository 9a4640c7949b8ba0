from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict, weights_to_cpu

from ovdet.engine.amp import CpuAmpOptimWrapper
from ovdet.engine.config import load_config
from ovdet.engine.sentences import SentenceTraining
from ovdet.engine.test import load_weights
from ovdet.errors import InputError
from ovdet.vlm.zoo import create_vlm
from ovdet.xvlm.closer import CloserLook
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.small import Pointer, TowerTokens
from ovdet.xvlm.small_training import places_inside, same_regions, small_training, wrong_partners
from ovdet.xvlm.weights import load_model

CONFIG = Path(__file__).parents[2] / "configs" / "xvlm" / "stickers_small.py"
TINY = dict(image_size=64, width=32, text_layers=1, fusion_layers=1)


def test_a_training_goes_through_the_engine_to_the_desk(batch, tmp_path):
    """Steps in bfloat16 as on a CPU, a checkpoint as mmengine writes it, and the desk that reads it."""
    torch.manual_seed(0)
    model = SentenceTraining(dict(type=small_training, **TINY))
    wrapper = CpuAmpOptimWrapper(torch.optim.AdamW(model.parameters(), 1e-3), clip_grad=dict(max_norm=1.0))
    before = model.task.model.space.image.weight.clone()
    for _ in range(2):
        log = model.train_step(dict(batch), wrapper)
    assert {"loss", "loss_contrast", "loss_match", "loss_match_whole", "loss_box", "loss_giou", "loss_point"} == set(
        log
    )
    assert all(value.isfinite() for value in log.values())
    assert not torch.equal(before, model.task.model.space.image.weight)
    path = tmp_path / "iter_2.pth"
    torch.save({"meta": {}, "state_dict": weights_to_cpu(get_state_dict(model))}, path)
    again = SentenceTraining(dict(type=small_training, **TINY))
    again.load_state_dict(torch.load(path)["state_dict"], strict=True)
    grounder = XVLMGrounder.load(path)
    assert grounder.facts.builder == "xvlm_small" and grounder.facts.tower is not None
    picture = np.full((40, 60, 3), 99, np.uint8)
    answer = grounder.predict([picture], ["the red square"])[0][0]
    assert len(answer) == 1 and answer.size_hw == (40, 60)
    grounder.save(tmp_path / "small.safetensors")
    shipped = XVLMGrounder.load(tmp_path / "small.safetensors").predict([picture], ["the red square"])[0][0]
    np.testing.assert_allclose(shipped.boxes_xyxy, answer.boxes_xyxy, atol=1.5)
    model.eval()
    found = model(mode="predict", **batch, size_hw=torch.tensor([[40, 60]] * 3))
    assert len(found) == 5 and found[0]["box_xyxy"].shape == (4,)


def test_the_config_of_the_small_one_names_what_there_is():
    config = load_config(CONFIG)
    assert config.model.task.type is not None and config.train_cfg.max_iters > 1000
    assert config.default_hooks.checkpoint.max_keep_ckpts >= 2


def test_a_desks_own_file_can_be_tested_by_the_config():
    model = SentenceTraining(dict(type=small_training, **TINY))
    weights = {name: torch.randn_like(value) if value.is_floating_point() else value
               for name, value in model.task.model.state_dict().items()}  # fmt: skip
    load_weights(model, weights, "some file")
    assert all(torch.equal(value, weights[name]) for name, value in model.task.model.state_dict().items())
    weights.popitem()
    with pytest.raises(InputError, match="some file lacks"):
        load_weights(model, weights, "some file")


def test_a_second_stage_starts_from_a_desks_file(tmp_path):
    config = load_config(CONFIG.with_name("stickers_small_stage2.py"))
    assert config.model.task.init.endswith(".safetensors") and list(config.train_dataloader.dataset.nouns)
    path = tmp_path / "small.pth"
    trained = SentenceTraining(dict(type=small_training, **TINY))
    torch.save({"meta": {}, "state_dict": weights_to_cpu(get_state_dict(trained))}, path)
    model, started = trained.task.model, small_training(**TINY, init=str(path)).model
    assert all(torch.equal(value, started.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match=r"small\.pth holds another model"):
        small_training(**{**TINY, "fusion_layers": 2}, init=str(path))


def test_it_starts_with_what_a_teacher_knows():
    """Before the first step a text is near the regions that the teacher would say it of."""
    torch.manual_seed(0)
    model = small_training("sticker-clip", text_layers=0, frozen_stages=2).model.eval()
    teacher = create_vlm("sticker-clip")
    first = next(iter(teacher.trunk.state_dict()))
    assert torch.equal(model.image_encoder.trunk.state_dict()[first], teacher.trunk.state_dict()[first])
    texts = ["a cat", "a red car", "hot air balloon"]
    ids, mask = TowerTokens()(texts)
    with torch.no_grad():
        found = model.space.of_texts(model.encode_text(ids, mask)[:, 0])
        wanted = teacher.encode_text(texts)
    assert torch.nn.functional.cosine_similarity(found, wanted).min() > 0.95
    for part in (model.fusion.layers[0].cross_attn, model.pointer):
        assert torch.equal(part.query.weight, torch.eye(256)) and torch.equal(part.key.weight, torch.eye(256))


def test_teachers_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="compact trunk"):
        small_training("imagenet-words")
    with pytest.raises(InputError, match="32 wide"):
        small_training("sticker-clip", **TINY)


def test_places_inside_of_boxes_against_a_loop():
    centres = Pointer(8, 4).centres
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.3], [0.3, 0.3, 0.02, 0.02], [0.5, 0.5, 1, 1]])
    found = places_inside(centres, boxes).view(3, 4, 4)
    for row, (cx, cy, w, h) in enumerate(boxes.tolist()):
        for y in range(4):
            for x in range(4):
                inside = abs((x + 0.5) / 4 - cx) <= w / 2 and abs((y + 0.5) / 4 - cy) <= h / 2
                assert bool(found[row, y, x]) == (inside if row != 1 else (y, x) == (1, 1)), (row, y, x)


def test_regions_are_the_same_in_one_picture_alone():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.3], [0.5, 0.5, 0.2, 0.2]])
    ids = same_regions(torch.tensor([0, 0, 0, 1]), boxes)
    assert ids[0] == ids[1] and len({int(each) for each in ids}) == 3


def test_wrong_partners_are_wrong():
    torch.manual_seed(0)
    images, texts = torch.nn.functional.normalize(torch.randn(2, 20, 8), dim=2)
    ids = torch.arange(20) // 4
    wrong_texts, wrong_images = wrong_partners(images, texts, ids, 9)
    assert len(wrong_texts) == 9 and (ids[wrong_texts] != ids[wrong_images]).all()


def test_losses_can_be_left_out_and_candidates_chosen_among(batch):
    torch.manual_seed(0)
    training = small_training(losses=("contrast", "match"), **TINY)
    assert set(training.loss(**batch)) == {"loss_contrast", "loss_match", "loss_match_whole"}
    whole = batch | {"is_image": torch.ones_like(batch["is_image"])}
    assert not {"loss_box", "loss_point"} & set(small_training(**TINY).loss(**whole))
    training.eval()
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 60, 40]])
    choice = {
        "candidates_xyxy": [boxes, boxes[:0], boxes],
        "candidate_scores": [torch.ones(2), torch.ones(0), torch.ones(2)],
    }
    sizes = torch.tensor([[40, 60]] * 3)
    drawn = training.predict(**batch, size_hw=sizes)
    chosen = training.predict(**batch, size_hw=sizes, **choice)
    for place, one, other in zip(batch["image_index"].tolist(), drawn, chosen, strict=True):
        if place == 1:  # without a candidate it draws
            assert torch.equal(one["box_xyxy"], other["box_xyxy"])
        else:
            assert (other["box_xyxy"] == boxes).all(1).any()


def test_what_speaks_for_a_candidate_can_be_weighed_and_left_out(batch, monkeypatch, tower):
    looked = []

    def look(image, boxes, texts):
        looked.append((image.shape[0], len(texts)))
        return CloserLook(tower)(image, boxes, texts)

    monkeypatch.setattr("ovdet.xvlm.small_training.shipped_closer", lambda: look)
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 60, 40]])
    choice = {"candidates_xyxy": [boxes] * 3, "candidate_scores": [torch.tensor([1.0, 0.5])] * 3}
    sizes = torch.tensor([[40, 60]] * 3)
    for weights, best in ((6 * [0.0], 0), ([0.0, 0, 0, 0, -1], 1)):
        training = small_training(**TINY, fit_weights=weights).eval()
        chosen = training.predict(**batch, size_hw=sizes, **choice)
        assert all(torch.equal(one["box_xyxy"], boxes[best]) for one in chosen)
        assert len(looked) == 3  # once a picture, and not at all by five weights
    with pytest.raises(InputError, match="6 numbers, or 5"):
        small_training(**TINY, fit_weights=[1.0])


@pytest.mark.parametrize("damage", ["facts", "weights"])
def test_a_damaged_training_checkpoint_is_refused(damage, tmp_path):
    training = small_training(**TINY)
    state = {f"task.{name}": value for name, value in training.state_dict().items()}
    if damage == "facts":
        state["task._extra_state"] = torch.zeros(5, dtype=torch.uint8)
    else:
        del state["task.model.space.temperature"]
    torch.save({"state_dict": state}, tmp_path / "iter_1.pth")
    with pytest.raises(InputError, match="does not say how to build" if damage == "facts" else "does not fit"):
        load_model(tmp_path / "iter_1.pth")
