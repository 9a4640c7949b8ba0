"""How mmcv._ext comes to be: lazily, once, after a compiled one, and honest about what is missing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

import ovdet
from ovdet import compat
from ovdet.compat import finder
from ovdet.errors import CapabilityError


def run(program, *, first_on_path=None):
    """Run a program in a fresh interpreter and return what it printed."""
    roots = [str(Path(ovdet.__file__).parents[1])]
    setup = f"import sys; sys.path[:0] = {[str(first_on_path)] if first_on_path else []} + {roots}\n"
    done = subprocess.run([sys.executable, "-c", setup + program], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()


def test_importing_ovdet_imports_neither_torch_nor_mmcv_nor_numpy():
    heavy = "torch mmcv mmengine mmdet numpy torchvision open_clip timm cv2".split()
    assert run(f"import ovdet; print([name for name in {heavy} if name in sys.modules])") == "[]"


@pytest.mark.slow
def test_mmdet_imports_after_ovdet_and_says_nothing():
    program = (
        "import ovdet, mmdet.models, mmdet.apis, mmdet.datasets, mmdet.evaluation, mmcv.ops, torch\n"
        "torch.meshgrid(torch.arange(2), torch.arange(2))\n"
        "from mmdet.models.layers import DyReLU\n"
        "from mmdet.models.backbones.csp_darknet import SPPBottleneck\n"
        "SPPBottleneck(4, 4)(torch.rand(1, 4, 9, 9))\n"
        "print('imported')"
    )
    assert run(program) == "imported"


def test_a_compiled_mmcv_wins(tmp_path):
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '2.1.0'")
    (package / "_ext.py").write_text("def nms(*args, **kwargs): return 'compiled'")
    program = "import ovdet, mmcv._ext; print(mmcv._ext.nms(), ovdet.compat.operators()['roi_align'])"
    assert run(program, first_on_path=tmp_path) == "compiled compiled mmcv"


def test_without_mmcv_its_absence_is_what_is_reported(tmp_path):
    program = (
        "sys.modules['mmcv'] = None\nimport ovdet\n"
        "try: ovdet.compat.operators()\nexcept ImportError as error: print('ImportError')"
    )
    assert run(program) == "ImportError"


def test_install_twice_is_once():
    compat.install()
    compat.install()
    assert sum(isinstance(found, type(finder._FINDER)) for found in sys.meta_path) == 1
    assert sys.meta_path[-1] is finder._FINDER or "pytest" in sys.modules


def test_the_module_has_a_proper_spec_and_mmengine_sees_it():
    from mmengine.utils.dl_utils import mmcv_full_available

    spec = importlib.util.find_spec("mmcv._ext")
    assert isinstance(spec, ModuleSpec) and spec.origin == "ovdet.compat"
    assert mmcv_full_available()
    import mmcv._ext

    assert mmcv._ext.__spec__.name == mmcv._ext.__name__ == "mmcv._ext"


def test_operators_names_what_stands_in_and_each_exists():
    table = compat.operators()
    assert {"nms", "roi_align", "deform_conv2d", "sigmoid_focal_loss", "ms_deform_attn"} <= set(table)
    import mmcv._ext

    for stand_in in finder.STAND_INS.values():
        for function in stand_in.functions:
            assert getattr(mmcv._ext, function).__module__ == f"ovdet.compat.{stand_in.module}"


def test_everything_that_mmcv_looks_up_is_found():
    """load_ext() asserts it when mmcv.ops is imported; here for each file, so that the message names it."""
    import mmcv
    import mmcv._ext

    asked = 0
    for file in (Path(mmcv.__file__).parent / "ops").glob("*.py"):
        for names in re.findall(r"load_ext\(\s*'_ext',\s*\[(.*?)\]", file.read_text(), re.S):
            for name in re.findall(r"'(\w+)'", names):
                assert callable(getattr(mmcv._ext, name)), (file.name, name)
                asked += 1
    assert asked > 50


def test_what_has_no_stand_in_says_so_in_one_sentence():
    from mmcv.ops import CARAFEPack, box_iou_rotated

    with pytest.raises(CapabilityError, match="'carafe_forward' has no stand-in in ovdet") as caught:
        CARAFEPack(4, 2)(torch.rand(1, 4, 5, 5))
    assert "\n" not in str(caught.value)
    with pytest.raises(NotImplementedError, match="'box_iou_rotated'"):
        box_iou_rotated(torch.rand(1, 5), torch.rand(1, 5))


def test_private_names_are_not_invented():
    import mmcv._ext

    assert not hasattr(mmcv._ext, "__path__") and not hasattr(mmcv._ext, "_anything")


def test_mmcv_describes_its_environment():
    from mmcv.utils.env import collect_env

    assert "ovdet" in collect_env()["MMCV Compiler"]
