"""The results of tools/reproduce/stickers.py as tables in Markdown: python tools/reproduce/sticker_table.py ROOT."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from ovdet.errors import InputError

NAMES = {
    "supervised": "supervised, base only",
    "crops": "teacher on crops",
    "text": "ViLD-text",
    "image": "ViLD-image",
    "vild": "ViLD",
    "ensemble": "ViLD-ensemble",
    "shipped": "from the teacher's trunk, longer",
    "shipped_crops": "the same, named by the teacher's crops (shipped)",
}
STYLES = {
    "trained": "artists trained on",
    "twemoji": "Twemoji, never trained on",
    "openmoji": "OpenMoji, never trained on",
}
SPLITS = {"75_25": "556 base and 185 novel names, 741 candidates", "48_17": "48 base and 17 novel names, 65 candidates"}


def read_results(folder: Path) -> dict[str, dict[str, float]]:
    """Metrics by "split-variant-seed-style".

    Raises:
        InputError: a file is no result of tools/test.py.
    """
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no result of tools/test.py ({error})") from error
        results[path.stem] = {key.rpartition("/")[2]: value for key, value in metrics.items()}
    return results


def cell(results: Mapping[str, Mapping[str, float]], keys: Sequence[str], metric: str) -> str:
    """The mean over seeds, with the single values where there are several; a dash where there is none."""
    values = [results[key][metric] for key in keys if key in results and metric in results[key]]
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def table(results: Mapping[str, Mapping[str, float]], split: str, style: str, seeds: Sequence[int] = (0, 1)) -> str:
    """Rows are variants; columns are box and mask AP50 of base, novel and all names."""
    head = [f"{kind} {group}" for kind in ("box", "mask") for group in ("base", "novel", "all")]
    lines = ["| | " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(head)]
    for variant, name in NAMES.items():
        keys = (
            [f"{variant}-{style}"]
            if variant.startswith("shipped")
            else [f"{split}-{variant}-{seed}-{style}" for seed in seeds]
        )
        if (variant.startswith("shipped") and split != "75_25") or not any(key in results for key in keys):
            continue
        cells = [
            cell(results, keys, f"{kind}_AP50_{group}")
            for kind in ("box", "mask")
            for group in ("base", "novel", "all")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print all tables; 2 where there is nothing to print."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) != 1:
        print(f"error: {__doc__}", file=sys.stderr)
        return 2
    try:
        results = read_results(Path(arguments[0]) / "results")
        if not results:
            raise InputError(f"there are no results in {arguments[0]}/results")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for split, about in SPLITS.items():
        for style, where in STYLES.items():
            print(f"\n### {about}: {where}\n\n{table(results, split, style)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
