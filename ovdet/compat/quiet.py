"""Warnings of the frozen dependencies that are known to be harmless here, silenced one by one.

The filters stand behind everything that the user or Python itself has set, so `-W error` or `-W default` shows
these warnings again.
"""

from __future__ import annotations

import warnings

HARMLESS: tuple[tuple[str, type[Warning], str], ...] = (
    # Every DETR of mmdet calls meshgrid without `indexing`; the default that it relies on is still in force.
    (r"torch\.meshgrid: in an upcoming release", UserWarning, r"torch\.functional"),
    # mmdet (RTMDet's blocks) and mmengine spell autocast the old way; torch hands it on to the new one.
    (r"`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated", FutureWarning, r"mm(det|engine|cv)\."),
    # mmdet's mask head copies a tensor by new_tensor.
    (r"To copy construct from a tensor", UserWarning, r"mmdet\."),
    # mmdet imports deformable attention from where mmcv used to have it.
    (r"``MultiScaleDeformableAttention`` has been moved", ImportWarning, r"mmcv\.cnn\.bricks\.transformer"),
)
"""Beginning of the message, category, module that it is attributed to; all regular expressions but the category."""


def install() -> None:
    """Ignore the warnings in `HARMLESS`, unless the user's own filters say otherwise."""
    for message, category, module in HARMLESS:
        warnings.filterwarnings("ignore", message, category, module, append=True)
