import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from ovdet.engine.amp import CpuAmpOptimWrapper, enable_amp
from ovdet.errors import InputError


def test_forward_is_bfloat16_and_weights_stay_float32():
    model = nn.Linear(4, 4)
    wrapper = CpuAmpOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        out = model(torch.rand(2, 4))
    assert out.dtype == torch.bfloat16
    before = model.weight.detach().clone()
    wrapper.backward(out.float().sum())
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32
    wrapper.step()
    assert not torch.equal(before, model.weight)
    assert model(torch.rand(2, 4)).dtype == torch.float32


@pytest.mark.parametrize("stated", [OptimWrapper, "OptimWrapper", "mmengine.optim.OptimWrapper", None])
@pytest.mark.parametrize(
    ("gpu", "expected"), [(False, "ovdet.engine.amp.CpuAmpOptimWrapper"), (True, "AmpOptimWrapper")]
)
def test_the_plain_wrapper_is_replaced(monkeypatch, stated, gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    config = Config({"optim_wrapper": {"optimizer": {"lr": 1}} | ({"type": stated} if stated else {})})
    enable_amp(config)
    assert config.optim_wrapper.type == expected
    enable_amp(config)
    assert config.optim_wrapper.type == expected


def test_another_wrapper_is_left_alone_or_refused():
    config = Config({"optim_wrapper": {"type": AmpOptimWrapper}})
    enable_amp(config)
    assert config.optim_wrapper.type is AmpOptimWrapper
    with pytest.raises(InputError, match="plain OptimWrapper, got ApexOptimWrapper"):
        enable_amp(Config({"optim_wrapper": {"type": "ApexOptimWrapper"}}))
