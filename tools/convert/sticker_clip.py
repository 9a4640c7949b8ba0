"""Turn a training checkpoint of the sticker world's teacher into the small file that the package ships.

python tools/convert/sticker_clip.py work_dirs/sticker_clip_scenes/iter_3000.pth sticker_clip.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ovdet.data.stickers.curation import TRAIN_STYLES
from ovdet.data.stickers.sprites import PACK_VARIABLE, SpritePack
from ovdet.errors import InputError
from ovdet.vlm.contrastive.sticker_clip import ship, sticker_clip

NAMED = ("author", "url", "licence", "licence_url", "package", "version")
"""What the file says of each artist whose drawings were trained on."""


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__.splitlines()[2], allow_abbrev=False
    )
    parser.add_argument("source", type=Path, help="checkpoint of configs/vlm/sticker_clip.py")
    parser.add_argument("target", type=Path, help="file to write (.safetensors)")
    parser.add_argument("--pack", type=Path, metavar="DIR", help=f"sprite pack trained on (default: ${PACK_VARIABLE})")
    chosen = parser.parse_args(arguments)
    try:
        print(convert(chosen.source, chosen.target, chosen.pack))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def convert(source: Path, target: Path, pack: Path | None = None) -> str:
    """Pack, read again and compare; returns the summary line."""
    if target.suffix != ".safetensors":
        raise InputError(f"the file to write must end in .safetensors, got {target}")
    records = SpritePack(pack).records
    drawings = {style: {key: records[style][key] for key in NAMED} for style in TRAIN_STYLES}
    ship(source, target, {"licence": "Apache-2.0", "trained_on": drawings})
    before, after = sticker_clip(source), sticker_clip(target)
    pictures = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        agreement = (before.encode_image(pictures) * after.encode_image(pictures)).sum(dim=1).min()
    return f"{target}: {target.stat().st_size / 1e6:.2f} MB, lowest cosine with the checkpoint {agreement:.4f}"


if __name__ == "__main__":
    sys.exit(main())
