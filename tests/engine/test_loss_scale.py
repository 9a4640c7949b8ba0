"""The loss scale starts at its most, and comes back to it, but goes no further."""

import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from torch import nn

from ovdet.engine.loss_scale import CappedAmpOptimWrapper


def test_the_loss_scale_stays_below_its_most(monkeypatch):
    """torch's own scaler, on the CPU and doubling at each good step: it would go on to 2048."""
    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    monkeypatch.setattr(
        amp_optimizer_wrapper, "GradScaler", lambda **more: torch.amp.GradScaler("cpu", growth_interval=1, **more)
    )
    layer = nn.Linear(2, 1)
    wrapper = CappedAmpOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.01), clip_grad=dict(max_norm=1))
    scales = []
    for value in (1.0, 1.0, float("inf"), float("inf"), 1.0, 1.0, 1.0):
        before = layer.weight.detach().clone()
        wrapper.update_params(layer(torch.full((1, 2), value)).sum())
        assert torch.equal(before, layer.weight) == (value != 1.0)  # steps that are not finite are left out
        scales.append(wrapper.loss_scaler.get_scale())
    assert scales == [1024, 1024, 512, 256, 512, 1024, 1024]
    lower = CappedAmpOptimWrapper(most=8.0, optimizer=wrapper.optimizer)
    assert lower.loss_scaler.get_scale() == 8
