"""Plain aligned tables and figures for people; the same on a terminal and in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import click


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns two spaces apart under a header and a rule; those numbered in `right` are right-aligned."""
    body = list(rows)
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    aligned = frozenset(right)

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if k in aligned else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, body)])


def render_markdown(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """The same for Markdown; `|` in a cell is escaped."""
    aligned = frozenset(right)
    rule = ["---:" if k in aligned else "---" for k in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join(
        "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def render_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """One `name  value` line each, values aligned."""
    known = list(pairs)
    width = max((len(name) for name, _ in known), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in known)


def render_bytes(count: int) -> str:
    """A size as people read it, in powers of 1000: 950 B, 12.3 kB, 4.56 MB."""
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= divisor:
            return f"{count / divisor:.3g} {unit}"
    return f"{count} B"


def render_count(count: float) -> str:
    """A number of parameters or operations: 950, 12.3 k, 4.56 M, 17.8 G."""
    for unit, divisor in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= divisor:
            return f"{count / divisor:.4g}{unit}"
    return f"{count:g}"


def print_json(value: Any) -> None:
    """`value` on stdout as JSON with sorted keys; what JSON has no number for (NaN, infinity) is null."""
    click.echo(json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
