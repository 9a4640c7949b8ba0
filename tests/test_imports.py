"""Imports go downhill: what each room may know is written here, and read off the code."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ovdet"

FREE = {"errors", "compat", "version", "files"}
"""What any room may import."""

ANYTHING = None
MAY_IMPORT: dict[str, set[str] | None] = {
    "errors": set(),
    "version": set(),
    "compat": set(),
    "ops": set(),
    "results": {"ops"},
    "layers": {"ops"},
    "vlm": {"layers", "ops"},
    "zeroshot": {"vlm", "layers", "ops", "results"},
    "vild": {"vlm", "layers", "ops", "results"},
    "xvlm": {"vlm", "layers", "ops", "results"},
    "seggpt": {"vlm", "layers", "ops", "results"},
    "data": {"ops", "results"},
    "metrics": {"ops", "results"},
    "engine": {"layers", "ops", "results"},
    "files": set(),
    "media": {"results"},
    "formats": {"results"},
    "draw": {"results"},
    "detector": ANYTHING,
    "grounder": ANYTHING,
    "picture_index": set(),
    "retrieval": ANYTHING,
    "shipped": ANYTHING,
    "segmenter": ANYTHING,
    "examples": ANYTHING,
    "doctor": ANYTHING,
    "cli": ANYTHING,
    "__main__": ANYTHING,
    "__init__": ANYTHING,
}
EXCEPTIONS = {("results", "draw")}
"""`Detections.draw` fetches the painter when it is called."""

DOORS = {
    "open_clip": ("vlm/contrastive/clip.py",),
    "huggingface_hub": ("vlm/contrastive/clip.py",),
    "timm": ("vlm/contrastive/clip.py", "vlm/contrastive/efficientnet_lite.py", "xvlm/"),
    "transformers": (),
    "mmdet": ("vild/", "compat/", "data/transforms.py", "data/stickers/detection.py"),  # the last two pack samples
    "mmcv": ("vild/", "compat/", "data/transforms.py"),
    "mmengine": (
        "engine/",
        "vild/",
        "compat/",
        "data/",
        "metrics/evaluator.py",
        "metrics/sentence_evaluators.py",
        "metrics/episodes.py",
    ),
    "supervision": ("results.py",),
}
"""Who may import a library; the others ask them."""

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path):
    """(line, dotted name) of every import in a file, wherever it stands, relative ones made absolute."""
    found = []
    package = ("ovdet", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def within(path):
    return path.relative_to(PACKAGE).as_posix()


def test_every_room_has_its_rule():
    assert {room_of(path) for path in FILES} <= MAY_IMPORT.keys()
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=within)
def test_imports_go_downhill(path):
    room = room_of(path)
    allowed = MAY_IMPORT[room]
    if allowed is ANYTHING:
        return
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] != "ovdet" or len(parts) < 2:
            continue
        target = parts[1]
        known = target in allowed | FREE | {room} or (room, target) in EXCEPTIONS or target not in MAY_IMPORT
        assert known, f"{within(path)}:{line} imports {name}; {room} may know {sorted(allowed) or 'no other room'}"


@pytest.mark.parametrize("path", FILES, ids=within)
def test_libraries_come_in_by_their_door(path):
    for line, name in imports(path):
        doors = DOORS.get(name.split(".")[0])
        assert doors is None or within(path).startswith(doors), f"{within(path)}:{line} imports {name}; ask {doors}"
        assert not (name.split(".")[0] == "cv2" and room_of(path) == "vlm"), f"{within(path)}:{line} imports cv2"


def test_the_reader_sees_imports_in_functions_in_parentheses_and_relative_ones(tmp_path, monkeypatch):
    (tmp_path / "vlm").mkdir()
    path = tmp_path / "vlm" / "imagined.py"
    path.write_text(
        "def f():\n    from ovdet import data\n\nfrom .base import (\n    VLMBackbone,\n)\n"
        "from .. import vild\nfrom ..zeroshot.predict import A as B\nimport cv2.dnn\n"
    )
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert {name for _, name in imports(path)} == {
        "ovdet.data",
        "ovdet.vlm.base.VLMBackbone",
        "ovdet.vild",
        "ovdet.zeroshot.predict.A",
        "cv2.dnn",
    }
