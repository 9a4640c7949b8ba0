"""X-VLM's configs: each has the published schedule, and trains and is tested in small through its own pipeline."""

import base64
import json
import math
import pickle
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from ovdet.data.sampling import Draw
from ovdet.engine.config import load_config
from ovdet.engine.hooks import build_from
from ovdet.engine.protocol import file_digest
from ovdet.engine.test import main as main_of_test
from ovdet.metrics import captions

FOLDER = Path(__file__).parents[1] / "configs" / "xvlm"
COUNT_WORDS = FOLDER.parents[1] / "tools" / "data" / "caption_frequencies.py"
PATHS = sorted(path for path in FOLDER.glob("[!_]*.py") if not path.stem.startswith("stickers_"))
PUBLISHED = {
    "pretrain_4m": (1e-4, 204795, 2500),
    "pretrain_16m": (1e-4, 200640, 2500),
    "refcoco_plus_box_stage1": (3e-5, 3320, 332),
    "refcoco_plus_box": (3e-5, 7510, 751),
    "refcoco_plus_weak": (2e-5, 3755, 375),
    "retrieval_coco": (3e-5, 35420, 3542),
    "retrieval_flickr30k": (3e-5, 9060, 906),
    "vqa": (5e-5, 34270, 3427),
    "vqa_480": (5e-5, 34270, 3427),
    "nlvr2_stage1": (3e-5, 9990, 999),
    "nlvr2": (3e-5, 10790, 1079),
    "caption_stage1": (3e-5, 9990, 999),
    "caption": (1e-5, 11065, 1106),
    "caption_scst": (1e-5, 44275, 4427),
}
"""Learning rate, steps, warm-up: specifications of the official configurations; batches are dropped where cut short.

Those of VQA are of its official questions alone: how many of Visual Genome's come to them, a list of your own says.
"""
VQA_QUESTIONS, PROCESSES = 443757 + 214354, 8
RELEASED = {"pretrain_4m": 200000, "pretrain_16m": 200000, "caption": 11065, "caption_scst": 41000}
"""Steps of the published files, where not the best pass was published."""
CHOSEN = {
    "refcoco_plus_box": "refcoco+/val_inclusive",
    "refcoco_plus_weak": "refcoco+/val_inclusive",
    "retrieval_coco": "retrieval/mean",
    "retrieval_flickr30k": "retrieval/mean",
    "nlvr2": "nlvr/accuracy",
    "caption": "caption/CIDEr",
    "caption_scst": "caption/CIDEr",
}
"""What the best checkpoint is chosen by. Those of VQA validate on questions without answers: the last pass counts."""

WORDS = "a red blue thing is it yes no left right of picture the two dog".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
SIDE = 64
IMAGE = dict(kind="swin", image_size=SIDE, window=2, width=8, depths=[2, 2, 2], heads=[1, 2, 2], drop_path=0.0)
TEXT = dict(
    vocabulary=len(VOCABULARY), width=32, heads=4, hidden=64, positions=64, text_layers=2, fusion_layers=2, dropout=0.0
)
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def configs(*, tested=False):
    names = [path.stem for path in PATHS]
    return [name for name in names if not tested or "val_dataloader" in load_config(path_of(name))]


def path_of(name):
    return FOLDER / f"{name}.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny data in every layout that the configs read."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for number in range(4):
        picture = Image.fromarray(generator.integers(0, 256, (50, 70, 3), dtype=np.uint8))
        picture.save(root / f"{number}.png")
    (root / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    binary = [base64.b64encode((root / f"{number}.png").read_bytes()).decode() for number in range(4)]
    rows = [{"caption": ["a red thing", "it is blue"], "binary": one} for one in binary]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    elements = [
        {"caption": f"the {word} dog", "bb": [5 * i, 4 * i, 30, 20]} for i, word in enumerate(("red", "blue", "two"))
    ]
    rows = [{"elems": elements, "binary": one} for one in binary]
    (root / "regions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_refcoco(root)
    said = [{"raw": "A red thing."}, {"raw": "The dog is blue."}]
    images = [
        {"filename": f"{n}.png", "imgid": n, "split": split, "sentences": said}
        for n, split in enumerate(("train", "train", "val", "test"))
    ]
    (root / "dataset_coco.json").write_text(json.dumps({"images": images}))
    questions = [{"question": "Is it red?", "answer": ["yes"] * 6 + ["no"] * 4, "image": f"{n}.png", "question_id": n,
                  "dataset": "vg" if n else "vqa"} for n in range(3)]  # fmt: skip
    (root / "questions.json").write_text(json.dumps(questions))
    write_vqa(root, questions)
    pairs = [{"sentence": "two dog", "images": ["0.png", "1.png"], "label": label} for label in ("True", "False")]
    (root / "pairs.json").write_text(json.dumps(pairs))
    return root


def write_vqa(root, questions):
    """The same questions in the official form."""
    asked = [{"question": one["question"], "image_id": one["question_id"], "question_id": one["question_id"]}
             for one in questions]  # fmt: skip
    notes = [{"question_id": one["question_id"], "answers": [{"answer": said} for said in one["answer"]],
              "question_type": "is it", "answer_type": "yes/no"} for one in questions]  # fmt: skip
    (root / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": asked}))
    (root / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": notes}))
    (root / "val2014").mkdir()
    for one in asked:
        picture = (root / f"{one['image_id']}.png").read_bytes()
        (root / "val2014" / f"COCO_val2014_{one['image_id']:012d}.jpg").write_bytes(picture)


def write_refcoco(root):
    rows, boxes = [], []
    for number, split in enumerate(("train", "train", "val", "testB")):
        sentences = [{"raw": "x", "sent": "the red thing", "sent_id": number, "tokens": []}]
        rows.append({"ref_id": number, "ann_id": number, "category_id": 1, "image_id": number, "split": split,
                     "file_name": "", "sent_ids": [number], "sentences": sentences})  # fmt: skip
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [10, 5, 30, 20]})
    images = [{"id": n, "file_name": f"{n}.png", "height": 50, "width": 70} for n in range(4)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (root / "dets.json").write_text(json.dumps({str(n): [[10, 5, 30, 20, 0.9], [40, 20, 20, 20]] for n in range(4)}))
    (root / "refcoco+").mkdir()
    (root / "refcoco+" / "refs(unc).p").write_bytes(pickle.dumps(rows, 2))
    (root / "refcoco+" / "instances.json").write_text(json.dumps(content))


def shrink(config, folder):
    """The same recipe on tiny models and data; all that is of files and sizes, and nothing else, is replaced."""
    task = config.model.task
    for key in ("start", "swin", "bert"):
        task.pop(key, None)
    task.update(vocabulary=str(folder / "vocab.txt"), image={**IMAGE}, text={**TEXT})
    if task.get("heat"):
        task.layer = 0
    if "answers" in task:
        (folder / "answers.json").write_text('["yes", "no"]')
        task.answers = str(folder / "answers.json")
    for loader in LOADERS:
        if loader in config:
            config[loader].update(batch_size=min(config[loader].batch_size, 4), num_workers=0, persistent_workers=False)
            replace_files(config[loader].dataset, folder)
    if "texts" in config.train_dataloader.collate_fn:
        config.train_dataloader.collate_fn.texts = 5


def replace_files(dataset, folder):
    dataset.side = SIDE
    files = {
        "images": [str(folder / "captions.jsonl")],
        "regions": [str(folder / "regions.jsonl")],
        "root": str(folder),
        "picture_root": str(folder),
        "detector_boxes": str(folder / "dets.json"),
        "roots": dict(vqa=str(folder), vg=str(folder)),
    }
    for key, value in files.items():
        if key in dataset:
            dataset[key] = value
    name = dataset.type.__name__
    if "files" in dataset:
        kind = "regions" if name == "region_texts" else "captions" if name == "captioned_pictures" else "questions"
        dataset.files = [str(folder / f"{kind}.{'json' if kind == 'questions' else 'jsonl'}")]
    if "file" in dataset:
        dataset.file = str(folder / ("pairs.jsonl" if name == "nlvr2_pairs" else "dataset_coco.json"))
    for key in ("questions", "annotations"):
        if dataset.get(key):
            dataset[key] = str(folder / Path(dataset[key]).name)
    if name in ("vqa_test", "refcoco_training", "refcoco_test", "karpathy_training", "karpathy_test", "nlvr2_pairs"):
        dataset.verify = False
    if name == "pretraining_steps":
        dataset.update(image_batch=4, region_pictures=3, region_texts_drawn=6)


@pytest.fixture(autouse=True)
def pairs_in_the_official_layout(folder):
    rows = [
        {"identifier": f"dev-{n}-0-0", "sentence": "two dog", "label": label}
        for n, label in enumerate(("True", "False"))
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "dev").mkdir(exist_ok=True)
    for n in range(2):
        for side in range(2):
            (folder / "dev" / f"dev-{n}-0-img{side}.png").write_bytes((folder / f"{n}.png").read_bytes())


def hand_reward(model, config, folder):
    """Of a training by reward: its hook, and frequencies that its tool counts."""
    for hook in config.custom_hooks:
        if "reward" in hook:
            hook.reward.frequencies = str(count_words(folder))
            HOOKS.build(hook).before_train(SimpleNamespace(model=model))


def count_words(folder):
    path = folder / "frequencies.json"
    runpy.run_path(str(COUNT_WORDS))["main"]([str(folder / "dataset_coco.json"), "--out", str(path)])
    return path


def samples_of(dataset, count):
    if hasattr(dataset, "__getitem__"):
        try:
            return [dataset[Draw(index % len(dataset), index)] for index in range(count)]
        except NotImplementedError:
            pass
    stream = iter(dataset)
    return [next(stream) for _ in range(count)]


def collate(loader, samples):
    function = loader.collate_fn["type"] if "collate_fn" in loader else default_collate
    return function(samples, **{key: value for key, value in loader.collate_fn.items() if key != "type"})


def test_every_published_recipe_is_here():
    assert {path.stem for path in PATHS} == set(PUBLISHED)


def steps_of_passes(config):
    """Steps of a loop over as many questions as the official splits have, dealt to the published processes."""
    own = math.ceil(VQA_QUESTIONS / PROCESSES)
    loader = DataLoader(range(own), batch_size=config.train_dataloader.batch_size)
    runner = SimpleNamespace(visualizer=SimpleNamespace())
    arguments = {key: value for key, value in config.train_cfg.items() if key != "type"}
    loop = config.train_cfg.type(runner, loader, **arguments)
    assert loop.val_interval == loop.max_iters  # once, behind the last pass
    return loop.max_iters


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_schedule(name):
    """Linear from 0 over the warm-up, then linear to 0: as the official code's rule says, at some steps."""
    rate, steps, warm_up = PUBLISHED[name]
    config = load_config(path_of(name))
    if name.startswith("vqa"):
        assert steps_of_passes(config) == steps and config.param_scheduler[0].warm_up == warm_up / steps
    else:
        assert config.train_cfg.max_iters == config.steps == steps and config.warm_up == warm_up
    assert config.optim_wrapper.optimizer.lr == rate and config.optim_wrapper.optimizer.weight_decay == 0.01
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    given = {"end": steps, "optimizer": optimiser}  # by mmengine; the steps of the loop where a schedule states no end
    schedulers = [PARAM_SCHEDULERS.build({**given, **one}) for one in config.param_scheduler]
    wanted = {0, 1, warm_up // 2, warm_up, warm_up + 1, min(2 * warm_up, 6000)}
    for step in range(max(wanted) + 1):
        if step in wanted:
            factor = step / warm_up if step < warm_up else (steps - step) / (steps - warm_up)
            assert optimiser.param_groups[0]["lr"] == pytest.approx(rate * factor, abs=rate * 2e-6)
        optimiser.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parts_build_and_the_config_can_be_dumped(name, tmp_path):
    config = load_config(path_of(name))
    for hook in config.custom_hooks:
        HOOKS.build(hook)
    for key, hook in config.default_hooks.items():
        HOOKS.build({**hook, "out_dir": str(tmp_path)} if key == "checkpoint" else hook)
    if "val_evaluator" in config:
        if name.startswith("caption"):
            pytest.importorskip("pycocoevalcap")
        METRICS.build(config.val_evaluator)
        METRICS.build(config.test_evaluator)
    config.dump(tmp_path / "dumped.py")
    again = load_config(tmp_path / "dumped.py")
    assert again.model.task.task == config.model.task.task and again.train_cfg.keys() == config.train_cfg.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_one_training_step(name, folder):
    torch.manual_seed(0)
    config = load_config(path_of(name))
    shrink(config, folder)
    model = MODELS.build(config.model)
    hand_reward(model, config, folder)
    optimiser = build_optim_wrapper(model, {**config.optim_wrapper, "type": "OptimWrapper"})
    loader = config.train_dataloader
    batch = collate(loader, samples_of(build_from(loader.dataset), loader.batch_size))
    batches = [one for one in batch.values() if one is not None] if "regions" in batch else [batch]
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for one in batches:
        for key in ("image_ids", "boxes_xyxy", "size_hw", "tags"):
            assert key != "tags" or key not in one, "training batches have nothing of evaluation"
        numbers = model.train_step(one, optimiser)
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in numbers.values()), numbers
    moved = [key for key, value in model.named_parameters() if not torch.equal(value, before[key])]
    assert any("image_encoder" in key for key in moved) and any("text_encoder" in key for key in moved)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_weight_that_learns_gets_a_gradient(name, folder):
    """Else processes of a distributed training wait for each other, unless the config says that this may be."""
    torch.manual_seed(0)
    config = load_config(path_of(name))
    shrink(config, folder)
    model = MODELS.build(config.model)
    hand_reward(model, config, folder)
    loader = config.train_dataloader
    batch = collate(loader, samples_of(build_from(loader.dataset), loader.batch_size))
    for one in [each for each in batch.values() if each is not None] if "regions" in batch else [batch]:
        model.zero_grad()
        model.parse_losses(model(mode="loss", **one))[0].backward()
        idle = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
        assert not idle or config.get("find_unused_parameters"), idle


def test_the_published_checkpoints_are_kept():
    """The best by a named number, or a step that is still there at the end."""
    for name in PUBLISHED:
        config = load_config(path_of(name))
        hook, loop = config.default_hooks.checkpoint, config.train_cfg
        assert hook.get("save_best") == CHOSEN.get(name) and hook.get("rule") == ("greater" if name in CHOSEN else None)
        if name in CHOSEN:  # else the steps of best checkpoints, which are saved once more, push others out
            assert loop.val_interval % hook.interval == 0
        if name in RELEASED:
            saved = [*range(hook.interval, loop.max_iters, hook.interval), loop.max_iters]
            assert RELEASED[name] in (saved if hook.max_keep_ckpts < 0 else saved[-hook.max_keep_ckpts :])
    untold = {name for name in configs(tested=True) if name not in CHOSEN}
    assert untold == {"vqa", "vqa_480"}


@pytest.mark.parametrize("name", CHOSEN)
def test_the_best_checkpoint_is_saved_by_the_loop(name, folder, monkeypatch, tmp_path):
    """Two steps of the runner itself, with a validation behind each."""
    no_java(name, monkeypatch)
    config = load_config(path_of(name))
    shrink(config, folder)
    if "out" in config.val_evaluator:
        config.val_evaluator.out = str(tmp_path / "answers.json")
    config.train_cfg.update(max_iters=2, val_interval=1)
    config.default_hooks.checkpoint.interval = 1
    config.update(work_dir=str(tmp_path), log_level="ERROR")
    for hook in config.custom_hooks:
        if "reward" in hook:
            hook.reward.frequencies = str(count_words(folder))
    runner = Runner.from_cfg(config)
    runner.train()
    (best,) = tmp_path.glob("best_*.pth")
    assert best.name.startswith(f"best_{CHOSEN[name].replace('/', '_')}_iter_")
    values, _ = runner.message_hub.get_scalar(f"val/{CHOSEN[name]}").data
    assert len(values) == 2 and runner.message_hub.get_info("best_score") == max(values)


def test_what_is_tested_has_answers():
    """NLVR2's public test and not the part that the best pass is chosen by; questions whose answers are public."""
    nlvr = load_config(path_of("nlvr2"))
    assert [Path(nlvr[loader].dataset.file).stem for loader in LOADERS] == ["train", "dev", "test1"]
    for name in ("vqa", "vqa_480"):
        config = load_config(path_of(name))
        dataset = config.test_dataloader.dataset
        assert "val2014" in dataset.questions and "val2014" in dataset.annotations
        assert dataset.side == config.val_dataloader.dataset.side == config.model.task.image_size


def test_answers_for_the_server_by_options(folder, tmp_path):
    """The command of docs/grounding_data.md."""
    options = {"test_dataloader.dataset.questions": "data/vqa/v2_OpenEnded_mscoco_test2015_questions.json",
               "test_dataloader.dataset.annotations": None,
               "test_evaluator.out": "work_dirs/vqa_answers.json"}  # fmt: skip
    page = (FOLDER.parents[1] / "docs" / "grounding_data.md").read_text()
    assert all(f"{key}={value}" in page for key, value in options.items())
    config = load_config(path_of("vqa"), {**options, "test_evaluator.out": str(tmp_path / "answers.json")})
    shrink(config, folder)
    asked = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    config.test_dataloader.dataset.questions = str(asked)
    model, dataset = MODELS.build(config.model).eval(), DATASETS.build(config.test_dataloader.dataset)
    metric = METRICS.build(config.test_evaluator)
    batch = collate(config.test_dataloader, [dataset[index] for index in range(len(dataset))])
    metric.process(batch, model(mode="predict", **batch))
    assert metric.evaluate(size=len(dataset)) == {"vqa/answered": len(dataset)}
    assert {one["question_id"] for one in json.loads((tmp_path / "answers.json").read_text())} == {0, 1, 2}


def no_java(name, monkeypatch):
    if name.startswith("caption"):
        pytest.importorskip("pycocoevalcap")
        monkeypatch.setattr(captions, "find_java", lambda: False)


@pytest.mark.parametrize("phase", ["val", "test"])
@pytest.mark.parametrize("name", configs(tested=True))
def test_one_evaluation(name, phase, folder, monkeypatch, tmp_path):
    no_java(name, monkeypatch)
    torch.manual_seed(0)
    config = load_config(path_of(name))
    shrink(config, folder)
    loader, evaluator = config[f"{phase}_dataloader"], config[f"{phase}_evaluator"]
    if "out" in evaluator:
        evaluator.out = str(tmp_path / "answers.json")
    model = MODELS.build(config.model).eval()
    dataset = DATASETS.build(loader.dataset)
    metric = METRICS.build(evaluator)
    if getattr(metric, "keep", 0):
        model.task.keeps_states, metric.score_pairs = True, model.task.score_pairs
    metric.dataset_meta = dataset.metainfo
    batch = collate(loader, [dataset[index] for index in range(len(dataset))])
    with torch.no_grad():
        metric.process(batch, model(mode="predict", **batch))
    numbers = metric.evaluate(size=len(dataset))
    assert numbers and all(np.isfinite(value) for value in numbers.values())
    assert metric.report["protocol"]["dataset"] == dataset.metainfo["dataset"]
    assert len(metric.report["protocol"]["split_sha256"]) == 64
    assert phase == "test" or name not in CHOSEN or CHOSEN[name] in numbers
    if name.startswith("vqa"):
        assert phase == "val" or "vqa/all" in numbers
    if name.startswith("refcoco_plus"):
        assert {key.split("/")[1].split("_")[0] for key in numbers} == {"all", "val", "testB"}


def test_what_is_decayed_and_what_learns_faster(folder):
    """The official rule by names: no bias, table of positions or norm is decayed, but those of the heads are."""
    config = load_config(path_of("pretrain_4m"))
    shrink(config, folder)
    model = MODELS.build(config.model)
    groups = build_optim_wrapper(model, {**config.optim_wrapper, "type": "OptimWrapper"}).optimizer.param_groups
    names = {parameter: name.removeprefix("task.model.") for name, parameter in model.named_parameters()}
    found = {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    slow, fast = 1e-4, 2e-4
    expected = {
        "image_encoder.trunk.layers.0.blocks.0.attn.qkv.weight": (slow, 0.01),
        "image_encoder.trunk.layers.0.blocks.0.attn.relative_position_bias_table": (slow, 0),
        "image_encoder.trunk.layers.0.blocks.0.norm1.weight": (slow, 0),
        "image_encoder.trunk.norm.weight": (slow, 0),
        "text_encoder.embedding.norm.weight": (slow, 0),
        "text_encoder.layers.0.self_attn.in_proj_bias": (slow, 0),
        "fusion.layers.0.cross_attn.key.weight": (fast, 0.01),
        "fusion.layers.0.cross_attn.key.bias": (fast, 0),
        "fusion.layers.0.norm2.weight": (fast, 0),
        "fusion.layers.0.norm1.weight": (slow, 0),
        "match_head.1.weight": (fast, 0.01),
        "box_head.1.weight": (fast, 0.01),
        "space.temperature": (fast, 0.01),
        "space.image.bias": (fast, 0),
        "word_head.dense.weight": (slow, 0.01),
    }
    assert {name: found[name] for name in expected} == expected and len(found) == len(names)


KNOWN = {
    "refcoco_plus_box": {"all_inclusive": 100, "all_plain": 100},  # its head draws the one box that is right
    "refcoco_plus_weak": {"all_inclusive": 100, "all_plain": 100},  # the detector found nothing else
    "retrieval_coco": {"TR@1": 100, "IR@1": 100},  # there is one picture
    "vqa": {"all": 100},  # six of ten said the only answer
    "nlvr2": {"accuracy": 50},  # one sentence of one pair of pictures is said to be true, and false
    "caption": {"CIDEr": 0},  # it says a word that no reference has
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_tool_measures_what_is_known(name, folder, tmp_path, monkeypatch):
    """tools/test.py on data or weights by which the number is certain, and what its result file says."""
    no_java(name, monkeypatch)
    config = load_config(path_of(name))
    shrink(config, folder)
    if "out" in config.test_evaluator:
        config.test_evaluator.out = str(tmp_path / "answers.json")
    if name == "refcoco_plus_weak":
        (folder / "dets.json").write_text(json.dumps({str(n): [[10, 5, 30, 20]] for n in range(4)}))
    if name == "vqa":
        (folder / "answers.json").write_text('["yes"]')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    with torch.no_grad():
        if name == "refcoco_plus_box":
            last = [layer for layer in model.task.model.box_head.modules() if isinstance(layer, torch.nn.Linear)][-1]
            last.weight.zero_()
            last.bias.copy_(torch.logit(torch.tensor([25 / 70, 15 / 50, 30 / 70, 20 / 50])))
        if name == "caption":
            model.task.model.word_head.bias[VOCABULARY.index("left")] = 50.0
    config.work_dir = str(tmp_path / "work")
    config.dump(tmp_path / "config.py")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    out = tmp_path / "out.json"
    main_of_test([str(tmp_path / "config.py"), str(tmp_path / "weights.pth"), "--out", str(out)])
    result = json.loads(out.read_text())
    found = {key.split("/")[1]: value for key, value in result["metrics"].items()}
    assert {key: found[key] for key in KNOWN[name]} == pytest.approx(KNOWN[name], abs=1e-4)
    protocol = result["protocol"]
    assert protocol["weights_sha256"] == file_digest(tmp_path / "weights.pth") and len(protocol["split_sha256"]) == 64
    assert protocol["metric"] and protocol["dataset"] and protocol["task"]["task"] == config.model.task.task
    assert ("candidates_sha256" in protocol) == (name == "refcoco_plus_weak")
    assert ("answers_sha256" in protocol["task"]) == (name == "vqa")
