"""How `mmcv._ext` comes to be: an import finder that is asked last, so that a compiled mmcv wins."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from ovdet.errors import CapabilityError

EXTENSION = "mmcv._ext"
ORIGIN = "ovdet.compat"


class StandIn(NamedTuple):
    """Where the functions of one mmcv operator live and what they are made of."""

    module: str
    functions: tuple[str, ...]
    what: str


STAND_INS: dict[str, StandIn] = {
    "nms": StandIn("boxes", ("nms",), "torchvision nms"),
    "soft_nms": StandIn("boxes", ("softnms",), "numpy"),
    "nms_match": StandIn("boxes", ("nms_match",), "numpy"),
    "bbox_overlaps": StandIn("boxes", ("bbox_overlaps",), "plain torch"),
    "roi_align": StandIn("regions", ("roi_align_forward", "roi_align_backward"), "torchvision roi_align"),
    "roi_pool": StandIn("regions", ("roi_pool_forward", "roi_pool_backward"), "plain torch"),
    "deform_conv2d": StandIn(
        "deform",
        ("deform_conv_forward", "deform_conv_backward_input", "deform_conv_backward_parameters"),
        "torchvision deform_conv2d",
    ),
    "modulated_deform_conv2d": StandIn(
        "deform", ("modulated_deform_conv_forward", "modulated_deform_conv_backward"), "torchvision deform_conv2d"
    ),
    "sigmoid_focal_loss": StandIn(
        "focal", ("sigmoid_focal_loss_forward", "sigmoid_focal_loss_backward"), "plain torch"
    ),
    "softmax_focal_loss": StandIn(
        "focal", ("softmax_focal_loss_forward", "softmax_focal_loss_backward"), "plain torch"
    ),
    "ms_deform_attn": StandIn("attention", ("ms_deform_attn_forward", "ms_deform_attn_backward"), "torch grid_sample"),
}


class _ExtensionFinder(MetaPathFinder, Loader):
    """Finds and builds `mmcv._ext` when no other finder has one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, origin=ORIGIN) if fullname == EXTENSION else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = "Stand-ins for mmcv's compiled operators; see ovdet.compat."
        for stand_in in STAND_INS.values():
            home = import_module(f"ovdet.compat.{stand_in.module}")
            for name in stand_in.functions:
                setattr(module, name, getattr(home, name))
        module.get_compiler_version = lambda: "n/a (stand-ins of ovdet)"  # type: ignore[attr-defined]
        module.get_compiling_cuda_version = lambda: "not available"  # type: ignore[attr-defined]
        module.__getattr__ = missing_operator  # type: ignore[method-assign]


_FINDER = _ExtensionFinder()


def install() -> None:
    """Append the finder to `sys.meta_path`, once."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)


def compiled_mmcv() -> str | None:
    """Return the file of a real compiled `mmcv._ext`, or None where ovdet's stand-ins serve.

    Raises:
        ImportError: mmcv is not installed.
    """
    spec = importlib.util.find_spec(EXTENSION)
    return spec.origin if spec is not None and spec.loader is not _FINDER else None


def missing_operator(name: str) -> Callable[..., NoReturn]:
    """Give mmcv, which looks its operators up when it is imported, a function that says what is missing."""
    if name.startswith("_"):
        raise AttributeError(f"module {EXTENSION!r} has no attribute {name!r}")

    def raise_capability_error(*args: Any, **kwargs: Any) -> NoReturn:
        raise CapabilityError(
            f"mmcv's compiled operator {name!r} has no stand-in in ovdet; "
            "install an mmcv that is compiled for your torch, or choose a model that does without it"
        )

    raise_capability_error.__name__ = raise_capability_error.__qualname__ = name
    return raise_capability_error
