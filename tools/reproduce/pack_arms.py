"""Pack two detectors of the results' table for the test that holds the claim's sign (tests/vild/test_claim.py).

python tools/reproduce/pack_arms.py work_dirs/stickers 75_25 --out tests/vild/claim

Reads ROOT/SPLIT-text-0 and ROOT/SPLIT-ensemble-0 of tools/reproduce/stickers.py; writes SPLIT-text.safetensors,
SPLIT-ensemble.safetensors and names.npz, the vectors of all names by the teacher of that training, so that the test
stays what it was when another teacher is shipped.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ovdet.data.stickers.vocabulary import load_vocabulary
from ovdet.errors import InputError
from ovdet.files import replacing
from ovdet.vild.predict import ViLDDetector
from ovdet.vild.weights import save_compact
from ovdet.vlm.zoo import create_vlm

ARMS = ("text", "ensemble")


def pack(root: Path, split: str, out: Path) -> list[str]:
    """Write the files; gives a line for each.

    Raises:
        InputError: a checkpoint or the teacher is missing, or a file cannot be written.
    """
    tower = create_vlm("sticker-clip", weights=str(root / "teacher.safetensors"))
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for arm in ARMS:
        detector = ViLDDetector.load(root / f"{split}-{arm}-0" / "last.pth", text_tower=tower)
        facts = replace(detector.facts, text_tower={"name": tower.spec.name, "fingerprint": tower.fingerprint})
        target = out / f"{split}-{arm}.safetensors"
        save_compact(detector.model, facts, target, {"licence": "Apache-2.0", "training": "docs/results.md, seed 0"})
        lines.append(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
    names = load_vocabulary("75-25").names  # of both splits
    vectors = detector.embed(names).cpu().numpy().astype(np.float16)  # (741, D)
    with replacing(out / "names.npz") as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, names=np.asarray(names), vectors=vectors)
    return [*lines, f"{out / 'names.npz'}: {len(names)} vectors"]


def main(argv: list[str] | None = None) -> int:
    """Pack one split; 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="of tools/reproduce/stickers.py")
    parser.add_argument("split", choices=("75_25", "48_17"))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(argv)
    try:
        print("\n".join(pack(args.root, args.split, args.out)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
