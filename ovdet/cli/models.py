"""`ovdet models`: what there is, under which licence, how large, and whether it is on this machine already."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ovdet.cli.terminal import Parser, write_json_line

if TYPE_CHECKING:
    from ovdet.vlm.zoo import ModelRow

_EXAMPLE = "ovdet models [--json]"
_HEADINGS = ("model", "family", "licence of weights", "size", "here", "source", "note")


def all_rows() -> list[ModelRow]:
    """The default, then the other models that the package brings, then the rest of the zoo of backbones."""
    from ovdet.detector import DEFAULT_MODEL
    from ovdet.shipped import shipped_models
    from ovdet.vlm.zoo import ModelRow, model_table

    shipped = [
        ModelRow(each.name, each.family, one.licence, one.size_mb, one.is_here, one.source, f"for {one.domain}")
        for each in shipped_models()
        for one in [each.model]
    ]
    first, *others = sorted(model_table(), key=lambda row: row.name != DEFAULT_MODEL)  # the others keep their order
    return [first, *shipped, *others]


def main(arguments: Sequence[str]) -> int:
    """Print the table, or one JSON object a model; returns the exit code."""
    parser = Parser(prog="ovdet models", example=_EXAMPLE, description="List the models that --model takes.")
    parser.add_argument("--json", action="store_true", help="one JSON object a model on stdout, a line each")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)

    rows = all_rows()
    if options.json:
        for row in rows:
            write_json_line(asdict(row), sys.stdout)
        return 0
    cells = [
        (row.name, row.family, row.licence, f"{row.size_mb} MB", "yes" if row.is_local else "no", row.source, row.note)
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *cells, strict=True)]
    for line in (_HEADINGS, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0
