"""Mixed precision without a GPU, which mmengine's own wrapper asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from ovdet.errors import InputError


class CpuAmpOptimWrapper(OptimWrapper):
    """Forward passes in bfloat16 on CPUs; its exponents are float32's, so that losses need no scaling."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Cast inside of the forward pass."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


def enable_amp(config: Config) -> None:
    """Train in mixed precision: float16 with loss scaling on a GPU, bfloat16 on CPUs.

    Raises:
        InputError: the config's optimiser wrapper is another than the plain one.
    """
    wrapper: Any = config.optim_wrapper
    kind = wrapper.get("type", OptimWrapper)
    kind = kind if isinstance(kind, str) else kind.__name__
    if kind.endswith("AmpOptimWrapper"):
        return
    if kind.rpartition(".")[2] != "OptimWrapper":
        raise InputError(f"--amp wants a config whose optim_wrapper is a plain OptimWrapper, got {kind}")
    # By name, not by class: mmengine dumps the config as text.
    wrapper["type"] = "AmpOptimWrapper" if torch.cuda.is_available() else "ovdet.engine.amp.CpuAmpOptimWrapper"
