"""Turn a DetPro or ViLD* checkpoint into one that ovdet loads.

python tools/convert/vild.py detpro.pth vild.pth --annotations lvis_v1_val.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ovdet.compat import load_checkpoint_file
from ovdet.errors import InputError
from ovdet.vild.weights import CheckpointFacts, convert_detpro, save_model


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=__doc__.splitlines()[2], allow_abbrev=False
    )
    parser.add_argument("source", type=Path, help="DetPro's .pth file (Mask R-CNN form)")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--text-tower", default="clip-vit-b-32", help="zoo entry that made the class embeddings")
    parser.add_argument("--templates", default="vild63", help="prompt set for new names")
    parser.add_argument("--annotations", type=Path, help="LVIS json: its frequent and common classes count as base")
    chosen = parser.parse_args(arguments)
    try:
        print(convert(chosen))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def convert(chosen: argparse.Namespace) -> str:
    """Read, rename, load strictly, write; returns the summary line."""
    checkpoint = load_checkpoint_file(chosen.source)
    weights = convert_detpro(checkpoint.get("state_dict", checkpoint))
    names, base_mask = lvis_classes(chosen.annotations) if chosen.annotations else ([], [])
    facts = CheckpointFacts(
        builder="vild_detpro_r50_fpn",
        arguments={"variant": weights.variant, "embed_dim": weights.embed_dim, "with_mask": weights.with_mask},
        text_tower={"name": chosen.text_tower},
        templates=chosen.templates,
        class_names=names,
        base_mask=base_mask,
    )
    model = facts.build()
    try:
        model.load_state_dict(weights.state_dict, strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{chosen.source} does not fit DetPro's R50 form: {' '.join(str(error).split())[:300]}"
        ) from error
    save_model(model, facts, chosen.target)
    return f"{chosen.target}: {weights.summary}"


def lvis_classes(annotations: Path) -> tuple[list[str], list[bool]]:
    """Class names in order of their ids, and which of them are not rare."""
    try:
        categories = json.loads(annotations.read_text(encoding="utf-8"))["categories"]
        ordered = sorted(categories, key=lambda category: category["id"])
        return [each["name"] for each in ordered], [each["frequency"] != "r" for each in ordered]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{annotations} is no LVIS annotation file with categories: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
