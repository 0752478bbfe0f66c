"""`bhpe-compile passes`: what the compiler does, in order."""

from __future__ import annotations

import click

from bhpe_compile.cli.options import format_option
from bhpe_compile.cli.tables import print_json, render_table


@click.command("passes", short_help="List the passes of the compiler in order.")
@format_option
def passes_command(style: str) -> None:
    """List the passes in the order in which they run, with the stage each belongs to.

    A pass is one step that rewrites the network: `binarize` decides which layers compute with single bits,
    `fold` merges scales and shifts into them, `lower` chooses the machine code of one CPU.
    """
    from bhpe_compile.schedule import list_passes

    rows = list_passes()
    if style == "json":
        print_json([{"stage": stage, "name": name, "summary": summary} for stage, name, summary in rows])
        return
    click.echo(render_table(("stage", "pass", "what it does"), rows))
