"""Every config of a detector parses, builds, and takes one training step on generated pictures, by its own pipeline."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS, DefaultScope

from ovdet.data.proposals import Proposals
from ovdet.data.sampling import Draw
from ovdet.data.shapes import write_shapes
from ovdet.data.splits import OV_COCO_BASE, OV_COCO_NOVEL
from ovdet.data.teacher_store.facts import StoreFacts, TeacherFacts
from ovdet.data.teacher_store.folder import PictureKey, StoreBuilder, finish
from ovdet.engine.config import load_config
from ovdet.vlm.base import BackboneSpec, VLMBackbone

CONFIGS = Path(__file__).parents[1] / "configs"
EVERY = sorted(CONFIGS.glob("[!_]*/*.py"))
# The other rooms' configs and those of the stickers have tests of their own.
PATHS = [path for path in EVERY if path.parent.name == "vild" and not path.stem.startswith("stickers_")]
SMALL = 96


class Teacher(VLMBackbone):
    """Embeds crops by fixed random features of their colours."""

    def __init__(self, dim):
        spec = BackboneSpec("random", "contrastive", dim, 8, (0.0,) * 3, (1.0,) * 3, "Apache-2.0")
        super().__init__(spec)
        self.weight = torch.randn(3, dim, generator=torch.Generator().manual_seed(0))

    def encode_image(self, images):
        return torch.nn.functional.normalize(images.mean(dim=(2, 3)) @ self.weight, dim=1)

    def encode_text(self, texts):
        raise NotImplementedError

    def forward_dense(self, images):
        raise NotImplementedError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Folder of generated pictures, annotated as COCO (ids of its classes) and as LVIS (with frequencies)."""
    folder = tmp_path_factory.mktemp("shapes")
    content = json.loads(write_shapes(folder, images=4, side=64).read_text())
    coco_ids = [1, 2, 3, 5, 6, 17, 4, 7, 8]  # three of them novel
    names = {**OV_COCO_BASE, **OV_COCO_NOVEL}
    coco = {**content, "categories": [{"id": key, "name": name} for key, name in names.items()]}
    coco["annotations"] = [{**row, "category_id": coco_ids[row["category_id"] - 1]} for row in content["annotations"]]
    (folder / "coco.json").write_text(json.dumps(coco))
    lvis = {**content, "categories": [{**row, "frequency": "rcf"[row["id"] % 3]} for row in content["categories"]]}
    lvis["annotations"] = [{**row, "segmentation": polygon(row["bbox"])} for row in content["annotations"]]
    (folder / "lvis.json").write_text(json.dumps(lvis))
    return folder


def polygon(bbox):
    left, top, width, height = bbox
    return [[left, top, left + width, top, left + width, top + height, left, top + height]]


def shrink(pipeline):
    """The same transforms on small pictures."""
    for step in pipeline:
        for key in ("scale", "crop_size", "size"):
            if key in step:
                step[key] = (SMALL, SMALL)
        if "scales" in step:
            step["scales"] = [(SMALL, SMALL), (SMALL, SMALL - 16)]


def dataset_of(config, shapes):
    settings = config.train_dataloader.dataset
    settings.data_root = ""
    settings.data_prefix = dict(img=str(shapes / "images"))
    kind = "coco" if "coco" in settings.ann_file else "lvis" if "lvis" in settings.ann_file else "annotations"
    settings.ann_file = str(shapes / f"{kind}.json")
    shrink(settings.pipeline)
    return DATASETS.build(settings)


@pytest.fixture(autouse=True)
def scope():
    """What the Runner does with `default_scope`."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def test_there_are_configs():
    assert len(PATHS) >= 8


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_a_config_is_a_lab_note(path):
    text = path.read_text()
    note = text.split('"""')[1]
    assert f"configs/{path.parent.name}/{path.name}" in note, "the header gives the command"
    assert "Here: not trained yet" in note or "Here: 20" in note, (
        "the header gives our number with its date, or says so"
    )
    assert text.count("read_base():") <= 1 and len(text.splitlines()) <= 80


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_parts_build(path, tmp_path):
    config = load_config(path)
    for hook in config.custom_hooks:
        HOOKS.build(hook)
    for name, hook in config.default_hooks.items():
        HOOKS.build({**hook, "out_dir": str(tmp_path)} if name == "checkpoint" else hook)
    METRICS.build(config.val_evaluator)
    dumped = tmp_path / "dumped.py"
    config.dump(dumped)
    assert Config.fromfile(dumped).model["variant"] == config.model["variant"]
    assert config.test_dataloader == config.val_dataloader


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_one_training_step(path, shapes):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = load_config(path)
    if "backbone_checkpoint" in config.model:
        config.model.backbone_checkpoint = None
    dataset = dataset_of(config, shapes)
    model = MODELS.build(config.model)
    dim = model.config.embed_dim
    model.roi_head.sampler.num = 16
    model.proposal_settings.update(nms_pre=50, max_per_img=16)
    model.set_class_embeddings(torch.randn(len(dataset.metainfo["classes"]), dim), dataset.metainfo["base_mask"])
    if any("teacher" in hook for hook in config.custom_hooks):
        model.set_teacher(Teacher(dim))
    optimiser = build_optim_wrapper(model, config.optim_wrapper)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    batch = pseudo_collate([dataset[Draw(index, index)] for index in (0, 1)])
    numbers = model.train_step(batch, optimiser)
    assert all(torch.isfinite(value).all() for value in numbers.values())
    expected = {"text": "loss_cls", "vild": "loss_distill", "ensemble": "loss_distill"}[config.model.variant]
    assert numbers[expected] > 0
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    for part in ("backbone", "neck", "rpn_head", "roi_head"):
        assert any(name.startswith(part) for name in moved), f"{part} did not learn"


@pytest.mark.parametrize(
    "name", ["r50_coco_vild", "r50_coco_ensemble", "r50_lvis_vild", "r50_lvis_ensemble", "r50_lvis_detpro_ensemble"]
)
def test_one_option_switches_to_a_teacher_store(name, shapes, tmp_path):
    """The option that the config's header names."""
    boxes = np.asarray([[0, 0, 20, 20], [5, 5, 40, 30], [10, 2, 30, 44]], np.float32)
    scores = np.asarray([0.9, 0.8, 0.7], np.float32)
    keys = [
        PictureKey(r["id"], r["height"], r["width"]) for r in json.loads((shapes / "coco.json").read_text())["images"]
    ]
    builder = StoreBuilder(tmp_path / "store", StoreFacts(TeacherFacts("t", "f", 8), {}, {"file": "a"}), keys)
    builder.write(0, [Proposals(boxes, scores, np.eye(3, 8)) for _ in keys])
    finish(tmp_path / "store")
    path = CONFIGS / "vild" / f"{name}.py"
    option = "train_dataloader.dataset.pipeline.2.source"
    assert f"--cfg-options {option}=DIR" in path.read_text()
    config = load_config(path, {option: str(tmp_path / "store")})
    sample = dataset_of(config, shapes)[Draw(0, 0)]["data_samples"]
    rows = sample.proposals.embeds.argmax(dim=1)
    assert 1 <= len(rows) == len(sample.proposals.bboxes) == len(sample.proposals.scores)
    assert sample.proposals.scores.tolist() == pytest.approx(scores[rows.numpy()].tolist())
    limit = torch.tensor([*sample.img_shape[::-1], *sample.img_shape[::-1]])
    assert ((sample.proposals.bboxes >= 0) & (sample.proposals.bboxes <= limit)).all()


@pytest.mark.parametrize("name", ["r50_coco_vild", "r50_lvis_vild", "r50_lvis_detpro_ensemble"])
def test_no_padding_counts_as_picture(name, shapes):
    """The teacher crops within img_shape, and mmdet's Pad would put black there (the shapes' ground is bright)."""
    dataset = dataset_of(load_config(CONFIGS / "vild" / f"{name}.py"), shapes)
    for number in range(6):
        sample = dataset[Draw(0, number)]
        height, width = sample["data_samples"].img_shape
        assert sample["inputs"].shape == (3, height, width)
        assert sample["inputs"][:, -1].amax() > 0 and sample["inputs"][:, :, -1].amax() > 0


def test_the_official_learning_rate():
    """Warm-up 0.0032 -> 0.32 over 1000 steps, a tenth at 162,000 and at 171,000, no third drop."""
    config = load_config(CONFIGS / "vild" / "r50_lvis_ensemble.py")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=config.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build({**one, "optimizer": optimiser}) for one in config.param_scheduler]
    wanted = {
        0: 0.0032, 500: 0.1616, 1000: 0.32, 161999: 0.32, 162000: 0.032, 170999: 0.032, 171000: 0.0032, 179999: 0.0032,
    }  # fmt: skip
    found = {}
    for step in range(180000):
        if step in wanted:
            found[step] = optimiser.param_groups[0]["lr"]
        for scheduler in schedulers:
            scheduler.step()
    assert found == pytest.approx(wanted)


def test_weight_decay_is_for_kernels_only():
    config = load_config(CONFIGS / "vild" / "r50_lvis_text.py")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimiser = build_optim_wrapper(model, config.optim_wrapper).optimizer
    decay = {tuple(group["params"][0].shape): group["weight_decay"] for group in optimiser.param_groups}
    assert decay == {(4, 3, 3, 3): 4e-5, (4,): 0.0}
