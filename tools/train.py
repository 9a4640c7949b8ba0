"""Train a model: python tools/train.py configs/vild/tiny_shapes.py --work-dir work_dirs/try. See docs/training.md."""

import sys

from ovdet.engine.launch import run
from ovdet.engine.train import main

if __name__ == "__main__":
    sys.exit(run(main))
