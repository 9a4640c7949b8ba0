from dataclasses import replace

import open_clip
import pytest
import torch

from ovdet.errors import InputError
from ovdet.vlm.contrastive.clip import OpenClipBackbone
from ovdet.vlm.zoo import create_vlm
from ovdet.xvlm import recipes
from ovdet.xvlm.build import xvlm
from ovdet.xvlm.config import SwinSizes, TextSizes, ViTSizes, plain
from ovdet.xvlm.positions import resize_relative_positions
from ovdet.xvlm.recipes import NEW, base_training, carry_over, load_carried, read_answers
from ovdet.xvlm.task_training import SelfCriticalTask
from ovdet.xvlm.weights import XVLMFacts, save_model

LARGER = SwinSizes(128, 4, 8, (2, 2, 2), (1, 2, 2), 0.0)
OFFICIAL_IMAGE = SwinSizes(64, 2, 8, (2, 2, 2), (1, 2, 2), 0.0)
OFFICIAL_TEXT = TextSizes(40, 32, 4, 48, 20, 2, 2, 2, 0.0, 0.0)


@pytest.fixture
def vocabulary_file(tmp_path, vocabulary):
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return str(tmp_path / "vocab.txt")


@pytest.fixture
def saved(tmp_path, swin_sizes, text_sizes, vocabulary):
    """Write a checkpoint of a task with random weights; gives its path and its weights."""

    def save(task):
        torch.manual_seed(len(task))
        model = xvlm(task, swin_sizes, text_sizes)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        arguments = model.recipe["arguments"]
        path = tmp_path / f"{task}.pth"
        save_model(model, XVLMFacts("xvlm", arguments, vocabulary), path)
        return str(path), model.state_dict()

    return save


def build(task, vocabulary_file, text_sizes, image=LARGER, **more):
    return base_training(task, vocabulary_file, image=plain(image), text=plain(text_sizes), **more)


@pytest.mark.parametrize("task", ["box", "retrieval", "caption"])
def test_fine_tuning_starts_from_all_of_the_pre_training(task, saved, vocabulary_file, text_sizes):
    path, source = saved("pretrain")
    mine = build(task, vocabulary_file, text_sizes, start=path).model.state_dict()
    tables = 0
    for name, value in mine.items():
        if name.endswith("relative_position_bias_table"):
            stage = int(name.split("layers.")[1][0])
            expected = resize_relative_positions(source[name], min(4, 128 // (4 << stage)))
            tables += value.shape != source[name].shape
        else:
            expected = source[name]
        assert torch.equal(value, expected), name
    assert tables > 0


def test_training_by_reward_starts_from_a_captioner(saved, vocabulary_file, text_sizes, swin_sizes):
    path, source = saved("caption")
    task = build("caption", vocabulary_file, text_sizes, swin_sizes, start=path, samples=3)
    assert isinstance(task, SelfCriticalTask) and task.samples == 3
    assert all(torch.equal(value, source[name]) for name, value in task.model.state_dict().items())


def test_a_decoder_of_answers_starts_from_the_cross_modal_layers(saved, vocabulary_file, text_sizes):
    path, source = saved("pretrain")
    mine = build("vqa", vocabulary_file, text_sizes, start=path).model.state_dict()
    fresh = {
        name
        for name in mine
        if name.startswith("answer") and "cross_attn" in name and ("key" in name or "value" in name)
    }
    for name, value in mine.items():
        if name.startswith("answer_layers") and name not in fresh:
            assert torch.equal(value, source[name.replace("answer_layers", "fusion")]), name
    assert torch.equal(mine["answer_embedding.tokens.weight"], source["text_encoder.embedding.tokens.weight"])
    assert torch.equal(mine["word_head.dense.weight"], source["word_head.dense.weight"])
    assert fresh and all(float(mine[name].float().std()) < 0.1 for name in fresh)  # BERT's narrow random numbers


@pytest.mark.parametrize("task", ["nlvr-pretrain", "nlvr"])
def test_layers_are_doubled_for_pairs(task, saved, vocabulary_file, text_sizes):
    path, source = saved("pretrain")
    mine = build(task, vocabulary_file, text_sizes, start=path).model.state_dict()
    for place in range(2 * text_sizes.fusion_layers):
        for part in ("linear1.weight", "cross_attn.query.weight", "cross_attn.key.weight", "norm3.bias"):
            assert torch.equal(mine[f"fusion.layers.{place}.{part}"], source[f"fusion.layers.{place // 2}.{part}"])
    assert torch.equal(mine["text_encoder.layers.1.linear1.weight"], source["text_encoder.layers.1.linear1.weight"])
    if task == "nlvr-pretrain":
        assert torch.equal(mine["image_projection.weight"], source["space.image.weight"])


def test_pairs_that_are_doubled_already_stay_as_they_are(saved, vocabulary_file, text_sizes, swin_sizes):
    path, source = saved("nlvr-pretrain")
    mine = build("nlvr", vocabulary_file, text_sizes, swin_sizes, start=path).model.state_dict()
    for name in mine:
        assert name.startswith("head.") or torch.equal(mine[name], source[name]), name
    same = build("nlvr-pretrain", vocabulary_file, text_sizes, swin_sizes, start=path).model.state_dict()
    assert all(torch.equal(value, source[name]) for name, value in same.items())


@pytest.mark.parametrize(("first", "second"), [("box", "box"), ("caption", "caption"), ("nlvr-pretrain", "nlvr")])
def test_a_second_stage_starts_from_the_checkpoint_of_the_first(
    first, second, tmp_path, vocabulary_file, text_sizes, swin_sizes
):
    torch.manual_seed(0)
    task = build(first, vocabulary_file, text_sizes, swin_sizes)
    state = {f"task.{name}": value for name, value in task.state_dict().items()}  # as mmengine's runner saves it
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "iter_3.pth")
    mine = build(second, vocabulary_file, text_sizes, start=str(tmp_path / "iter_3.pth")).model.state_dict()
    checked = 0
    for name, value in mine.items():
        if not name.startswith("head.") and "relative_position" not in name:
            assert torch.equal(value, state[f"task.model.{name}"]), name
            checked += 1
    assert checked > 50


def test_a_second_box_stage_starts_from_the_first(saved, vocabulary_file, text_sizes, swin_sizes):
    path, source = saved("box")
    mine = build("box", vocabulary_file, text_sizes, swin_sizes, start=path).model.state_dict()
    assert all(torch.equal(value, source[name]) for name, value in mine.items())


@pytest.mark.parametrize(("of", "task", "lacks"), [("retrieval", "box", "box_head"), ("box", "retrieval", "space")])
def test_a_checkpoint_that_cannot_start_a_task(of, task, lacks, saved, vocabulary_file, text_sizes):
    path, _ = saved(of)
    with pytest.raises(InputError, match=f"cannot start the task '{task}': it lacks {lacks}"):
        build(task, vocabulary_file, text_sizes, start=path)


def test_shapes_must_fit(swin_sizes, text_sizes):
    model = xvlm("box", swin_sizes, text_sizes)
    weights = {name: value for name, value in model.state_dict().items()}
    weights["box_head.0.weight"] = torch.zeros(3, 3)
    with pytest.raises(InputError, match=r"it: box_head\.0\.weight is \(3, 3\), the model has"):
        load_carried(model, weights, "box", "it")


def test_pre_training_starts_from_a_swin_and_a_bert(official_state, tmp_path, vocabulary, text_sizes, swin_sizes):
    state = official_state("pretrain")
    words = len(state["text_encoder.bert.embeddings.word_embeddings.weight"])
    text_sizes = replace(text_sizes, vocabulary=words, positions=20, hidden=48)
    vocabulary_file = str(tmp_path / "vocab.txt")
    more_words = [f"word{i}" for i in range(words - len(vocabulary))]
    (tmp_path / "vocab.txt").write_text("\n".join([*vocabulary, *more_words]) + "\n")
    swin = {key.removeprefix("vision_encoder."): v for key, v in state.items() if key.startswith("vision_encoder.")}
    bert = {
        key.removeprefix("text_encoder.").replace("LayerNorm.weight", "LayerNorm.gamma"): value
        for key, value in state.items()
        if key.startswith("text_encoder.") and "crossattention" not in key
    }
    torch.save({"model": {**swin, "head.weight": torch.zeros(2, 2)}}, tmp_path / "swin.pth")
    torch.save({**bert, "bert.pooler.dense.bias": torch.zeros(3)}, tmp_path / "bert.bin")
    more = {"swin": str(tmp_path / "swin.pth"), "bert": str(tmp_path / "bert.bin")}
    task = build("pretrain", vocabulary_file, text_sizes, swin_sizes, **more)
    mine = task.model.state_dict()
    table = state["text_encoder.bert.embeddings.word_embeddings.weight"]
    assert torch.equal(mine["text_encoder.embedding.tokens.weight"], table)
    query = state["text_encoder.bert.encoder.layer.2.attention.self.query.weight"]
    assert torch.equal(mine["fusion.layers.0.self_attn.in_proj_weight"][: len(query)], query)
    assert torch.equal(mine["image_encoder.trunk.norm.weight"], state["vision_encoder.norm.weight"])
    del bert["bert.encoder.layer.0.intermediate.dense.bias"]
    torch.save(bert, tmp_path / "bert.bin")
    with pytest.raises(InputError, match=r"it lacks text_encoder\.layers\.0\.linear1\.bias"):
        build("pretrain", vocabulary_file, text_sizes, swin_sizes, **more)


def test_a_vocabulary_of_another_length(vocabulary_file, text_sizes):
    with pytest.raises(InputError, match="tokens, the model 30522"):
        base_training("box", vocabulary_file)


def test_every_task_says_what_it_learns_anew(swin_sizes, text_sizes):
    import re

    source = xvlm("pretrain", swin_sizes, text_sizes).state_dict()
    for task, rule in NEW.items():
        mine = xvlm(task, swin_sizes, text_sizes).state_dict()
        missing = [name for name in mine if name not in carry_over(source, mine, task)]
        assert all(re.match(rule, name) for name in missing) and (task == "pretrain" or bool(missing) == (rule != "$^"))


def test_answers_come_from_a_file(tmp_path):
    (tmp_path / "a.json").write_text('["yes", "no"]')
    assert read_answers(tmp_path / "a.json") == ["yes", "no"]
    for content, message in (("[1]", "holds no list of answers"), ("{", "cannot read the answers")):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InputError, match=message):
            read_answers(tmp_path / "a.json")


@pytest.fixture
def bert(official_state, tmp_path):
    """BERT's own file, with what is left out of it, under the names of before."""
    state = {key.removeprefix("text_encoder."): value for key, value in official_state("pretrain").items()
             if key.startswith("text_encoder.") and "crossattention" not in key}  # fmt: skip
    state = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): value for key, value in state.items()}
    state |= {"bert.pooler.dense.weight": torch.ones(2, 2), "cls.seq_relationship.bias": torch.ones(2)}
    torch.save(state, tmp_path / "bert.bin")
    return str(tmp_path / "bert.bin")


def pretraining(tmp_path, image, **more):
    """Of the sizes of the made-up official weights."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(OFFICIAL_TEXT.vocabulary - 5))]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    text = plain(OFFICIAL_TEXT)
    return base_training("pretrain", str(tmp_path / "vocab.txt"), image=plain(image), text=text, **more).model


def test_pre_training_starts_from_a_clip_of_the_zoo(bert, tmp_path, monkeypatch):
    """Its encoder sees a picture as the tower of open_clip does."""
    torch.manual_seed(0)
    tower = dict(image_size=64, patch_size=16, width=32, layers=3, head_width=16, output_tokens=True)
    clip = open_clip.CLIP(8, tower, dict(context_length=9, vocab_size=20, width=16, heads=2, layers=1), quick_gelu=True)
    spec = create_vlm("imagenet-words").spec
    backbone = OpenClipBackbone(clip, None, spec)
    monkeypatch.setattr(recipes, "create_vlm", lambda name: backbone)
    sizes = ViTSizes("clip", 64, 16, 32, 3, 2, 128, 2, "quick_gelu")
    model = pretraining(tmp_path, sizes, vision="openai-vit-b-16", bert=bert).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        _, expected = clip.visual.eval()(images)
        tokens = model.image_encoder(images).tokens
    assert torch.allclose(tokens[:, 1:], expected, atol=1e-5)
    larger = pretraining(tmp_path, replace(sizes, image_size=96), vision="openai-vit-b-16", bert=bert)
    assert larger.image_encoder.trunk.pos_embed.shape == (1, 37, 32)
    with pytest.raises(InputError, match="starts a vision transformer"):
        pretraining(tmp_path, OFFICIAL_IMAGE, vision="openai-vit-b-16", bert=bert)
    with pytest.raises(InputError, match="one of `swin` and `vision`"):
        pretraining(tmp_path, sizes, vision="openai-vit-b-16")
    monkeypatch.setattr(recipes, "create_vlm", create_vlm)
    with pytest.raises(InputError, match="imagenet-words has no vision transformer"):
        pretraining(tmp_path, sizes, vision="imagenet-words", bert=bert)
