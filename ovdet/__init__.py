"""ovdet: find things in pictures and video by words, sentences or examples.

In:  a picture and class names, sentences or examples.   Out: boxes and masks (`Detections`), a `Grounding` a sentence.
Read results.py first, then detector.py, grounder.py and segmenter.py; each room's `__init__` says what it holds.

Public names are imported when first asked for, so that `import ovdet` stays light. What `import ovdet` does
do is register `ovdet.compat`'s stand-in for mmcv's compiled module, so that mmdet imports after it; nothing
of mmcv itself is imported for that.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ovdet import compat
from ovdet.version import __version__

if TYPE_CHECKING:
    from ovdet.detector import Detector
    from ovdet.errors import InputError
    from ovdet.grounder import Grounder
    from ovdet.results import Detections, Grounding
    from ovdet.segmenter import Segmenter
    from ovdet.vlm.zoo import create_vlm, list_models

_HOMES = {
    "Detections": "ovdet.results",
    "Detector": "ovdet.detector",
    "Grounder": "ovdet.grounder",
    "Grounding": "ovdet.results",
    "InputError": "ovdet.errors",
    "Segmenter": "ovdet.segmenter",
    "create_vlm": "ovdet.vlm.zoo",
    "list_models": "ovdet.vlm.zoo",
}

__all__ = [
    "Detections",
    "Detector",
    "Grounder",
    "Grounding",
    "InputError",
    "Segmenter",
    "__version__",
    "create_vlm",
    "list_models",
]

compat.install()


def __getattr__(name: str) -> Any:
    """Import a public name from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ovdet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
