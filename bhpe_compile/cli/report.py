"""`bhpe-compile report`: parameters and operations of a network before and after; no checkpoint needed."""

from __future__ import annotations

from typing import Any

import click

from bhpe_compile.cli.options import SCHEMES, format_option
from bhpe_compile.cli.tables import print_json, render_count, render_table


@click.command("report", short_help="Count parameters and operations, before and after.")
@click.option(
    "--preset",
    type=click.Choice(["full", "tiny"]),
    default="full",
    show_default=True,
    help="full: Hand4Whole as published; tiny: the small network of `example`.",
)
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    default="bidrn",
    show_default=True,
    help="Which layers become binary, and how.",
)
@format_option
def report_command(preset: str, scheme: str, style: str) -> None:
    """Count parameters and operations of the original and the compiled network.

    `paper` figures follow the accounting of the BinaryHPE paper: a binary parameter is 1/32 of a parameter, a
    binary multiplication 1/64 of an operation.
    """
    from bhpe_compile.report.count import count

    counted = count(preset, scheme).to_json()
    if style == "json":
        print_json(counted)
        return
    click.echo(render_counts(counted))


def render_counts(counted: dict[str, Any]) -> str:
    """A table of `original` and `compiled` beside each other."""
    rows = [
        ("parameters", "params", "total"),
        ("  of them binary", "params", "binary"),
        ("multiply-accumulates", "ops", "macs"),
        ("  of them binary", "ops", "binary_macs"),
    ]
    before, after = counted["original"], counted["compiled"]
    lines = [
        (label, render_count(before[group][key]), render_count(after[group][key]))
        for label, group, key in rows
    ]
    lines.append(
        ("parameters, paper", f"{before['params']['paper_m']:.2f} M", f"{after['params']['paper_m']:.2f} M")
    )
    lines.append(
        ("operations, paper", f"{before['ops']['paper_g']:.2f} G", f"{after['ops']['paper_g']:.2f} G")
    )
    return render_table(("", "original", "compiled"), lines, right=(1, 2))
