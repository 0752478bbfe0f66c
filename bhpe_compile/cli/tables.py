"""Plain aligned tables and figures for people; the same on a terminal and in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import click

from bhpe_compile.report.figures import render_bytes, render_count, render_duration, render_markdown
from bhpe_compile.text import printable

__all__ = [
    "print_json",
    "render_bytes",
    "render_count",
    "render_duration",
    "render_markdown",
    "render_pairs",
    "render_table",
    "to_indented_json",
    "to_json_text",
]


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns two spaces apart under a header and a rule; those numbered in `right` are right-aligned."""
    header = [printable(cell) for cell in header]
    body = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    aligned = frozenset(right)

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if k in aligned else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, body)])


def render_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """One `name  value` line each, values aligned."""
    known = [(printable(name), printable(value)) for name, value in pairs]
    width = max((len(name) for name, _ in known), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in known)


def print_json(value: Any) -> None:
    """`value` on stdout as JSON with sorted keys; what JSON has no number for (NaN, infinity) is null."""
    click.echo(to_json_text(value))


def to_json_text(value: Any) -> str:
    """`value` as JSON with sorted keys; what JSON has no number for (NaN, infinity) is null."""
    return json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False)


def to_indented_json(value: Any) -> str:
    """`value` as indented JSON in its own order, lists of numbers on one line, with a final line feed."""

    def lay(one: Any, indent: str) -> str:
        inner = indent + "  "
        if isinstance(one, dict) and one:
            rows = (f"{inner}{json.dumps(key)}: {lay(part, inner)}" for key, part in one.items())
            return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
        if isinstance(one, list) and any(isinstance(part, dict | list) for part in one):
            return "[\n" + ",\n".join(f"{inner}{lay(part, inner)}" for part in one) + f"\n{indent}]"
        return json.dumps(one, ensure_ascii=False, allow_nan=False)

    return lay(value, "") + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
