"""The only place that knows the quirks of versions: mmcv without a compiler, checkpoints without unpickling.

mmdet needs mmcv's compiled operators, and no wheel of them exists for current torch. `install()` supplies the
module `mmcv._ext` from torchvision's operators and plain torch, on any device. A compiled mmcv that is really
there wins. What mmcv asks for and nothing stands in for raises one sentence when it is called.

Read finder.py first (how the module comes to be), then boxes.py, regions.py, deform.py, focal.py and
attention.py (the operators, with mmcv's own signatures) and checkpoints.py (what may be in a checkpoint).
"""

from __future__ import annotations

import os
from typing import Any

from ovdet.compat import finder, quiet

__all__ = ["install", "load_checkpoint_file", "operators"]


def install() -> None:
    """Make `import mmdet` work after this call; cheap, idempotent, imports neither torch nor mmcv."""
    finder.install()
    quiet.install()


def operators() -> dict[str, str]:
    """Say for each of mmcv's operators that ovdet knows what does its work here.

    Returns:
        Operator name (as mmcv's Python code spells it) -> what stands in, or "compiled mmcv".

    Raises:
        ImportError: mmcv is not installed at all.
    """
    if finder.compiled_mmcv() is not None:
        return dict.fromkeys(finder.STAND_INS, "compiled mmcv")
    return {name: stand_in.what for name, stand_in in finder.STAND_INS.items()}


def load_checkpoint_file(path: str | os.PathLike[str], *, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running anything that is in it; see `ovdet.compat.checkpoints.load`."""
    from ovdet.compat.checkpoints import load

    return load(path, map_location=map_location)
