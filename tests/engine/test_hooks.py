from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from PIL import Image

from ovdet.engine.hooks import RepeatableHook, ShowHook, VocabularyHook, as_detections
from ovdet.errors import InputError


class Model(torch.nn.Linear):
    """Remembers what it was told."""

    recipe = {"builder": "vild_tiny", "arguments": {"variant": "text"}}

    def __init__(self):
        super().__init__(1, 1)
        self.tables, self.teachers = [], []

    def set_class_embeddings(self, embeddings, base_mask):
        self.tables.append((embeddings, base_mask))

    def set_teacher(self, teacher):
        self.teachers.append(teacher)


class Tower(torch.nn.Module):
    built = 0
    fingerprint = "f00d"

    def __init__(self, name, weights="default"):
        super().__init__()
        type(self).built += 1


def embed(tower, names, templates):
    assert isinstance(tower, Tower) and templates == "plain"
    return torch.tensor([[float(len(name))] for name in names])


def loader(names, base_mask):
    return SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": names, "base_mask": base_mask}))


@pytest.fixture
def runner():
    logger = MMLogger.get_instance("test_hooks")
    one = SimpleNamespace(
        model=Model(), logger=logger, cfg=SimpleNamespace(filename="configs/vild/x.py"), _train_loop=object()
    )
    one.train_dataloader = loader(("ab", "cde"), (True, False))
    one.val_dataloader = loader(("cde", "f", "ab"), (False, False, True))
    one.test_dataloader = one.val_dataloader
    return one


@pytest.fixture
def hook():
    Tower.built = 0
    return VocabularyHook(dict(type=Tower, name="sentence-tower"), embed, templates="plain", test_scale=(160, 120))


def test_each_data_set_brings_its_names(hook, runner):
    hook.before_train(runner)
    hook.before_val_epoch(runner)
    hook.after_val_epoch(runner)
    found = [(table.flatten().tolist(), mask.tolist()) for table, mask in runner.model.tables]
    train, val = ([2.0, 3.0], [True, False]), ([3.0, 1.0, 2.0], [False, False, True])
    assert found == [train, val, train]
    assert Tower.built == 1 and not runner.model.teachers


def test_equal_names_are_set_once(hook, runner):
    runner.val_dataloader = runner.train_dataloader
    hook.before_train(runner)
    hook.before_val_epoch(runner)
    hook.after_val_epoch(runner)
    assert len(runner.model.tables) == 1


def test_testing_alone_does_not_ask_for_training_data(hook, runner):
    runner._train_loop = None
    del runner.train_dataloader
    hook.before_val_epoch(runner)
    hook.after_val_epoch(runner)
    hook.before_test_epoch(runner)
    assert len(runner.model.tables) == 1


def test_the_teacher_is_the_tower_where_they_are_the_same(runner):
    Tower.built = 0
    settings = dict(type=Tower, name="clip")
    VocabularyHook(settings, embed, templates="plain", teacher=dict(settings)).before_train(runner)
    assert len(runner.model.teachers) == Tower.built == 1
    VocabularyHook(settings, embed, templates="plain", teacher=dict(type=Tower, name="other")).before_train(runner)
    assert Tower.built == 3


def test_the_checkpoint_describes_itself_in_plain_types(hook, runner, tmp_path):
    content = {}
    hook.before_save_checkpoint(runner, content)
    torch.save(content, tmp_path / "c.pth")
    note = torch.load(tmp_path / "c.pth", weights_only=True)["ovdet"]
    assert note == {
        "format": 1,
        "room": "vild",
        "builder": "vild_tiny",
        "arguments": {"variant": "text"},
        "text_tower": {"name": "sentence-tower", "fingerprint": "f00d"},
        "templates": "plain",
        "class_names": ["ab", "cde"],
        "base_mask": [True, False],
        "test_scale": [160, 120],
        "config_name": "x",
    }


def test_a_dumped_config_names_functions_by_dotted_name(runner):
    hook = VocabularyHook(dict(type="collections.OrderedDict"), "operator.itemgetter")
    import collections
    import operator

    assert hook.embed is operator.itemgetter
    assert isinstance(hook.tower, collections.OrderedDict)


def test_iterations_repeat_and_differ():
    draws = {}
    for key, seed, rank, iteration in (("a", 1, 0, 5), ("b", 1, 0, 5), ("c", 1, 0, 6), ("d", 1, 1, 5), ("e", 2, 0, 5)):
        RepeatableHook().before_train_iter(SimpleNamespace(seed=seed, rank=rank, iter=iteration), 0)
        draws[key] = (float(torch.rand(1)), float(np.random.rand()))
    assert draws["a"] == draws["b"]
    assert len(set(draws.values())) == 4


def instances(masks=True):
    found = InstanceData(
        bboxes=torch.tensor([[1.0, 2.0, 8.0, 9.0], [0.0, 0.0, 4.0, 4.0]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([1, 0]),
    )
    if masks:
        found.masks = torch.zeros(2, 12, 16, dtype=torch.bool)
        found.masks[0, 2:9, 1:8] = True
    return found


def test_instances_become_detections():
    result = as_detections(instances(), ("a", "b"), (12, 16))
    assert result.names == ["b", "a"]
    assert result.masks.sum(axis=(1, 2)).tolist() == [49, 0]
    assert as_detections(instances(masks=False), ("a", "b"), (12, 16)).masks is None


def test_pictures_are_drawn(runner, tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (16, 12), (90, 90, 90)).save(path)
    sample = SimpleNamespace(img_path=str(path), img_id=7, ori_shape=(12, 16), pred_instances=instances())
    runner.test_dataloader = loader(("ab", "cde"), (True, False))
    ShowHook(tmp_path / "shown").after_test_iter(runner, 0, outputs=[sample])
    with Image.open(tmp_path / "shown" / "7_picture.jpg") as drawn:
        assert np.ptp(np.asarray(drawn).reshape(-1, 3), axis=0).max() > 30


@pytest.mark.parametrize("size", [(12, 16), (16, 12)])  # as stored: on its side, or annotated without a look at the tag
def test_pictures_are_drawn_in_the_frame_of_the_annotations(runner, tmp_path, size):
    path, tag = tmp_path / "picture.jpg", Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", size, (90, 90, 90)).save(path, exif=tag)
    sample = SimpleNamespace(img_path=str(path), img_id=7, ori_shape=(12, 16), pred_instances=instances())
    runner.test_dataloader = loader(("ab", "cde"), (True, False))
    ShowHook(tmp_path / "shown").after_test_iter(runner, 0, outputs=[sample])
    with Image.open(tmp_path / "shown" / "7_picture.jpg") as drawn:
        assert drawn.size == (16, 12)


def test_scenes_drawn_on_the_fly_are_shown_too(runner, tmp_path):
    pixels = torch.zeros(3, 12, 16, dtype=torch.uint8)
    pixels[0] = 200  # BGR: blue
    sample = SimpleNamespace(img_path="evaluation/0/5", img_id=6, ori_shape=(12, 16), pred_instances=instances())
    sample.pred_instances = sample.pred_instances[:0]
    runner.test_dataloader = loader(("ab", "cde"), (True, False))
    ShowHook(tmp_path / "shown").after_test_iter(runner, 0, {"inputs": [pixels]}, [sample])
    with Image.open(tmp_path / "shown" / "6_5.jpg") as drawn:
        red, _, blue = np.asarray(drawn.convert("RGB")).reshape(-1, 3).mean(0)
        assert blue > 180 and red < 20


class Stored:
    """A teacher store, as the hook sees it."""

    rows, folder = 30, "store"

    def __init__(self, fingerprint, doubts=None):
        self.fingerprint, self.doubts, self.asked = fingerprint, doubts, []

    def __len__(self):
        return 3

    def check_teacher(self, fingerprint, embed_dim, name):
        self.asked.append((fingerprint, embed_dim, name))
        if fingerprint != self.fingerprint:
            raise InputError("made by another teacher")

    def doubt(self, ann_file):
        return self.doubts and f"{self.doubts} {ann_file}"


def reads(runner, source):
    """Let the training data read a store, inside of a wrapper as mmengine's RepeatDataset is one."""
    dataset = runner.train_dataloader.dataset
    dataset.metainfo["ann_file"] = "train.json"
    dataset.pipeline = SimpleNamespace(
        transforms=[object(), SimpleNamespace(source=None), SimpleNamespace(source=source)]
    )
    wrapper = SimpleNamespace(datasets=[SimpleNamespace(dataset=dataset)], metainfo=dataset.metainfo)
    runner.train_dataloader = SimpleNamespace(dataset=wrapper)


@pytest.fixture
def spec(monkeypatch):
    monkeypatch.setattr(Tower, "spec", SimpleNamespace(embed_dim=1, name="tower"), raising=False)


def test_stored_rows_of_the_teacher_take_its_place(runner, spec, monkeypatch):
    warned = []
    monkeypatch.setattr(runner.logger, "warning", warned.append)
    source = Stored("f00d", doubts="not of")
    reads(runner, source)
    tower = dict(type=Tower, name="t")
    VocabularyHook(text_tower=tower, teacher=tower, embed=embed, templates="plain").before_train(runner)
    assert source.asked == [("f00d", 1, "tower")] and warned == ["not of train.json"]
    assert runner.model.teachers == [], "the teacher itself is not needed"
    assert len(runner.model.tables) == 1


@pytest.mark.parametrize("teacher", [None, dict(type=Tower, name="another")])
def test_stored_rows_of_another_teacher_are_refused(runner, spec, teacher):
    reads(runner, Stored("beef"))
    hook = VocabularyHook(text_tower=dict(type=Tower, name="t"), teacher=teacher, embed=embed, templates="plain")
    with pytest.raises(InputError, match="made by another teacher"):
        hook.before_train(runner)
