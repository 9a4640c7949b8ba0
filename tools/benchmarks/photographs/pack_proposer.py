"""Make a small file of the proposer's weights out of a checkpoint of configs/zeroshot/lite0_proposer.py.

    python tools/benchmarks/photographs/pack_proposer.py work_dirs/lite0_proposer/iter_3000.pth proposer.safetensors
    python tools/benchmarks/photographs/run.py --half development --proposer proposer.safetensors

The averaged weights are taken, or with `--last` those of the last step, which are better in a short training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ovdet.compat import checkpoints
from ovdet.errors import InputError
from ovdet.layers.compact import write_compact
from ovdet.zeroshot.proposer import Proposer

PREFIX = "proposer."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--last", action="store_true", help="weights of the last step instead of the averaged ones")
    parser.add_argument("out", type=Path, help="file to write, .safetensors")
    options = parser.parse_args(arguments)
    try:
        content = checkpoints.load(options.checkpoint)
        weights = proposer_weights(content, last=options.last)
        steps = int(content.get("meta", {}).get("iter", 0))
        write_compact(options.out, weights, {"steps": steps, "averaged": not options.last})
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"written: {options.out}, {options.out.stat().st_size / 1e6:.2f} MB, {steps} steps", file=sys.stderr)
    return 0


def proposer_weights(content: Mapping[str, Any], *, last: bool) -> dict[str, Tensor]:
    """The proposer's own weights out of a checkpoint, checked against the network.

    Raises:
        InputError: the checkpoint is of something else.
    """
    # mmengine swaps the two when it saves: the averaged weights are the state dict, the trained ones lie beside it.
    state = content.get("ema_state_dict" if last else "state_dict") or {}
    start = f"module.{PREFIX}" if last else PREFIX
    weights = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    if weights.keys() != Proposer().state_dict().keys():
        raise InputError("this is no checkpoint of configs/zeroshot/lite0_proposer.py: its weights have other names")
    return weights


if __name__ == "__main__":
    sys.exit(main())
