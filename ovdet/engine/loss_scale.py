"""Mixed precision on GPUs with a loss scale that stays below a most, as published for X-VLM (apex, at most 1024)."""

from __future__ import annotations

from typing import Any

from mmengine.optim import AmpOptimWrapper


class CappedAmpOptimWrapper(AmpOptimWrapper):
    """mmengine's wrapper, whose dynamic loss scale starts at its most; torch's scaler knows none.

    It halves where gradients are not finite, and doubles after 2000 steps where they were, up to `most`.

    Args:
        most: of the loss scale.
        more: arguments of mmengine's wrapper besides `loss_scale`.
    """

    def __init__(self, most: float = 1024.0, **more: Any) -> None:
        super().__init__(loss_scale={"init_scale": most}, **more)
        self.most = most

    def step(self, **kwargs: Any) -> None:
        """Update parameters, then the loss scale."""
        super().step(**kwargs)
        if self.loss_scaler.get_scale() > self.most:
            self.loss_scaler.update(self.most)
