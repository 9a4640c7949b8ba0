import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def load_tool():
    """Called with a path under tools/: the module."""

    def load(path):
        file = Path(__file__).parents[2] / "tools" / path
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
