"""A run that is stopped and resumed is the same run, and reads nothing twice."""

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import MultiStepLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ovdet.data.sampling import SeededSampler, seed_everything
from ovdet.engine import checkpoint
from ovdet.engine.hooks import RepeatableHook
from ovdet.engine.loops import ResumableIterLoop


class Noise:
    """Samples whose random content is a function of seed and draw, as `OpenVocabularyDataset` makes them."""

    metainfo: dict = {}

    reads = 0  # of the class, since mmengine copies the data sets that it is given

    def __len__(self):
        return 5

    def __getitem__(self, draw):
        type(self).reads += 1
        seed_everything(0, draw.number)
        return {"x": torch.rand(4) + int(draw)}


class StopAt(Hook):
    """Ends a run early, after its checkpoint was written, as a power cut would."""

    priority = "LOWEST"

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.train_loop.stop_training = runner.iter + 1 == self.iteration


class Student(BaseModel):
    """Draws random numbers of its own, by dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x, mode="tensor"):
        return {"loss": self.layers(torch.stack(x)).square().mean()}


LOOPS = {
    "iterations": dict(type=ResumableIterLoop, max_iters=9),
    "counted passes": dict(type=ResumableIterLoop, max_iters=9),
    "epochs": dict(type=EpochBasedTrainLoop, max_epochs=3),  # of three steps each
}


@pytest.fixture
def run(tmp_path):
    checkpoint.install()

    def until(name, stop_at=9, resume=False, seed=11, loop="iterations"):
        torch.manual_seed(1)
        by_epoch = loop == "epochs"
        runner = Runner(
            model=Student(),
            work_dir=str(tmp_path / name),
            train_dataloader=dict(
                dataset=Noise(),
                sampler=dict(type=SeededSampler, seed=3, endless=loop == "iterations"),
                batch_size=2,
                num_workers=0,
            ),
            train_cfg=LOOPS[loop],
            optim_wrapper=dict(type=OptimWrapper, optimizer=dict(type=torch.optim.SGD, lr=0.002, momentum=0.9)),
            param_scheduler=[dict(type=MultiStepLR, by_epoch=False, milestones=[5], gamma=0.1)],
            default_hooks=dict(checkpoint=dict(type=CheckpointHook, by_epoch=by_epoch, interval=1 if by_epoch else 4)),
            custom_hooks=[dict(type=RepeatableHook), StopAt(stop_at)],
            randomness=dict(seed=seed),
            resume=resume,
            experiment_name=f"{tmp_path.name}-{name}-{stop_at}",
        )
        runner.train()
        return runner

    return until


@pytest.mark.parametrize(
    ("loop", "stop_at", "kept"),
    [("iterations", 4, 4), ("iterations", 6, 4), ("counted passes", 4, 4), ("epochs", 3, 3)],
)
def test_a_resumed_run_is_the_straight_run(run, loop, stop_at, kept):
    straight = run("straight", loop=loop)
    run("stopped", stop_at, loop=loop)
    Noise.reads = 0
    resumed = run("stopped", resume=True, loop=loop)
    assert resumed.iter == straight.iter == 9
    for mine, theirs in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.isfinite(mine).all()
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    momenta = [
        [state["momentum_buffer"] for state in one.optim_wrapper.optimizer.state_dict()["state"].values()]
        for one in (straight, resumed)
    ]
    torch.testing.assert_close(*momenta, rtol=0, atol=0)
    assert straight.optim_wrapper.get_lr() == resumed.optim_wrapper.get_lr() == {"lr": [pytest.approx(0.0002)]}
    if loop == "iterations":
        assert Noise.reads == (9 - kept) * 2, "nothing is read again"


def test_equal_seeds_give_equal_runs_and_others_do_not(run):
    first, again, other = run("a", 3), run("b", 3), run("c", 3, seed=12)
    weight = first.model.layers[0].weight
    torch.testing.assert_close(weight, again.model.layers[0].weight, rtol=0, atol=0)
    assert not torch.allclose(weight, other.model.layers[0].weight)
