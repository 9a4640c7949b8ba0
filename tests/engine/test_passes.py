"""Passes over the data are counted when it is read, and the schedule follows."""

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner, ValLoop
from torch import nn

from ovdet.data.sampling import SeededSampler
from ovdet.engine import checkpoint
from ovdet.engine.passes import LinearUpAndDown, PassLoop
from ovdet.errors import InputError


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode="tensor"):
        return {"loss": self.layer(inputs.float()[:, None]).square().mean()} if mode == "loss" else []


class Notes(Hook):
    """What rate each step had."""

    def __init__(self):
        self.rates = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates[runner.iter] = runner.optim_wrapper.get_lr()["lr"][0]


class Validations(ValLoop):
    seen: list = []

    def run(self):
        self.seen.append(self.runner.iter)


class Numbers(list):
    """Samples; mmengine hands batches of them over as they are collated."""

    def __getitem__(self, index):
        return {"inputs": super().__getitem__(index)}


def train(folder, samples=14, batch=3, resume=False, **loop):
    notes = Notes()
    loader = dict(dataset=Numbers(range(samples)), batch_size=batch, num_workers=0)
    runner = Runner(
        model=Model(),
        work_dir=str(folder),
        train_dataloader=dict(**loader, sampler=dict(type=SeededSampler), collate_fn=dict(type="default_collate")),
        val_dataloader=dict(**loader, sampler=dict(type=SeededSampler, endless=False)),
        val_evaluator=[],
        val_cfg=dict(type=Validations),
        train_cfg=dict(type=PassLoop, **loop),
        optim_wrapper=dict(type=OptimWrapper, optimizer=dict(type=torch.optim.SGD, lr=1.0)),
        param_scheduler=[dict(type=LinearUpAndDown, by_epoch=False, warm_up=0.25)],
        default_hooks=dict(checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=5), logger=None),
        custom_hooks=[notes],
        resume=resume,
        load_from=str(folder / "iter_5.pth") if resume else None,
        log_level="ERROR",
    )
    runner.train()
    return runner, notes.rates


def test_steps_and_schedule_are_those_of_the_data(tmp_path):
    """14 samples are 4 whole batches of 3 a pass; 3 passes are 12 steps, and up to step 3 the rate goes up."""
    Validations.seen.clear()
    runner, rates = train(tmp_path, passes=3, val_passes=2)
    assert runner.max_iters == runner.iter == 12 and Validations.seen == [8, 12]
    expected = [step / 3 if step < 3 else (12 - step) / 9 for step in range(12)]
    assert [rates[step] for step in range(12)] == pytest.approx(expected)
    _, others = train(tmp_path / "more", samples=30, passes=2)
    assert len(others) == 20


def test_a_resumed_run_goes_on_in_the_schedule(tmp_path):
    checkpoint.install()
    _, whole = train(tmp_path, passes=3)
    _, rest = train(tmp_path, passes=3, resume=True)
    assert rest == {step: rate for step, rate in whole.items() if step >= 5}


def test_mistakes_are_told(tmp_path):
    with pytest.raises(InputError, match="no step: each process has 2 samples, and batches are of 3"):
        train(tmp_path, samples=2, passes=1)
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    for share in (1.0, -0.5):
        with pytest.raises(InputError, match="share of the steps"):
            LinearUpAndDown(optimiser, warm_up=share, end=10)
    assert LinearUpAndDown(optimiser, warm_up=0.0, end=10).get_last_value() == [1.0]
