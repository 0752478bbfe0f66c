"""`bhpe-compile targets`: the CPUs a model can be compiled for."""

from __future__ import annotations

import click

from bhpe_compile.cli.options import format_option
from bhpe_compile.cli.tables import print_json, render_table


@click.command("targets", short_help="List the CPUs to compile for.")
@format_option
def targets_command(style: str) -> None:
    """List the CPUs and boards a model can be compiled for (the values of --target).

    \b
    --target takes as well
      boards.toml:NAME    a target of your own: `like = "arm"` and what is different
      '{"kind": ...}'     TVM's description as JSON, or `llvm -mtriple=... -mcpu=...`
    docs/devices.md shows both.
    """
    from bhpe_compile.targets import BOARDS, get_target, host_runs, list_targets

    targets = list_targets()
    if style == "json":
        boards = [get_target(name) for name in BOARDS]
        print_json([target.to_json() for target in (*targets, *boards)])
        return
    rows = [
        (target.name, target.summary, "directly" if host_runs(target) else target.emulator or "no")
        for target in targets
    ]
    click.echo(render_table(("target", "for", "runs here"), rows))
    click.echo()
    click.echo(render_table(("board", "is", "target"), [(n, what, t) for n, (t, what) in BOARDS.items()]))
