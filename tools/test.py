"""Test a checkpoint: python tools/test.py CONFIG CHECKPOINT --out results.json. See docs/training.md."""

import sys

from ovdet.engine.launch import run
from ovdet.engine.test import main

if __name__ == "__main__":
    sys.exit(run(main))
