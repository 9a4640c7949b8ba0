from pathlib import Path

import pytest

from ovdet.engine.config import apply_seed, load_config
from ovdet.errors import InputError

TINY = Path(__file__).parents[2] / "configs" / "vild" / "tiny_shapes.py"


@pytest.mark.parametrize(
    ("options", "where", "value"),
    [
        ({"train_cfg.max_iters": 7}, lambda c: c.train_cfg.max_iters, 7),  # stated in the base
        ({"model.distill_weight": 1.5}, lambda c: c.model.distill_weight, 1.5),  # an argument that no config states
        ({"custom_hooks.1.templates": "vild63"}, lambda c: c.custom_hooks[1].templates, "vild63"),  # in a list
        ({"train_dataloader.pin_memory": True}, lambda c: c.train_dataloader.pin_memory, True),  # a loader's own
        ({"randomness.deterministic": True}, lambda c: c.randomness.deterministic, True),  # of a section not stated
        ({"load_from": "a.pth"}, lambda c: c.load_from, "a.pth"),  # the Runner's own
    ],
)
def test_options_override(options, where, value):
    assert where(load_config(TINY, options)) == value


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("modle.variant", "no field 'modle.variant'; did you mean 'model'"),
        ("model.varient", "did you mean 'model.variant'"),
        ("model.variant.x", "no field 'model.variant.x'"),
        ("train_dataloader.dataset.sede", "did you mean 'train_dataloader.dataset.seed'"),
        ("custom_hooks.7.templates", "custom_hooks is a list of 2, so '7' should be a number below 2"),
        ("custom_hooks.first", "so 'first' should be a number"),
        ("randomness.sed", "did you mean 'randomness.seed'"),
        ("train_dataloader.workers", "did you mean 'train_dataloader.num_workers'"),
        ("train_dataloader.nothing.at.all", "no field 'train_dataloader.nothing.at.all'"),
        ("qqqq", "no field 'qqqq'$"),
    ],
)
def test_unknown_fields_are_refused(key, message):
    with pytest.raises(InputError, match=message):
        load_config(TINY, {key: 1})


def test_a_missing_or_broken_config_is_told(tmp_path):
    with pytest.raises(InputError, match="there is no config"):
        load_config(tmp_path / "none.py")
    (tmp_path / "broken.py").write_text("model = dict(\n")
    with pytest.raises(InputError, match=r"broken\.py does not load: SyntaxError"):
        load_config(tmp_path / "broken.py")
    (tmp_path / "wrong.py").write_text("from mmengine.runner import TestLoop\nx = y\n")
    with pytest.raises(InputError, match="does not load: NameError"):
        load_config(tmp_path / "wrong.py")
    (tmp_path / "data.json").write_text('{"images": []}')
    with pytest.raises(InputError, match=r"data\.json is no config of a detector: it has no `model`"):
        load_config(tmp_path / "data.json")


def test_one_seed_reaches_runner_data_and_sampler():
    config = load_config(TINY)
    apply_seed(config, 7)
    loader = config.train_dataloader
    assert (config.randomness.seed, loader.sampler.seed, loader.dataset.seed) == (7, 7, 7)
    apply_seed(config)
    assert config.randomness.seed == 7
    fresh = load_config(TINY)
    apply_seed(fresh)
    assert fresh.randomness.seed == fresh.train_dataloader.dataset.seed == 0
