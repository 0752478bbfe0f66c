"""`bhpe-compile networks`: the networks whose checkpoints are known."""

from __future__ import annotations

import click

from bhpe_compile.cli.options import format_option
from bhpe_compile.cli.tables import print_json, render_table


@click.command("networks", short_help="List the networks whose checkpoints are known.")
@format_option
def networks_command(style: str) -> None:
    """List the networks there are, with their presets and the package each comes from (the values of --network).

    An installed package can bring networks of its own: docs/adding-a-network.md shows how.
    """
    from bhpe_compile.networks.registry import registered

    known = registered()
    if style == "json":
        print_json(
            [
                {
                    "name": name,
                    "presets": list(one.network.presets),
                    "source": one.source,
                    "summary": one.network.summary,
                }
                for name, one in known.items()
            ]
        )
        return
    rows = [
        (name, ", ".join(one.network.presets), one.network.summary, one.source) for name, one in known.items()
    ]
    click.echo(render_table(("network", "presets", "is", "from"), rows))
