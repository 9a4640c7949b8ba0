import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "data" / "make_shapes.py"


@pytest.fixture
def main():
    return runpy.run_path(str(SCRIPT))["main"]


def test_it_writes_a_data_set(main, tmp_path):
    assert main(["--out", str(tmp_path / "new" / "set"), "--images", "3", "--side", "64"]) == 0
    content = json.loads((tmp_path / "new" / "set" / "annotations.json").read_text())
    assert len(content["images"]) == len(list((tmp_path / "new" / "set" / "images").iterdir())) == 3


def test_mistakes_are_told(main, tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--images", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: images must be at least 1")
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file"), "--images", "1"]) == 2
    assert "cannot make the folder" in capsys.readouterr().err
