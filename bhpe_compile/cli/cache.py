"""`bhpe-compile cache`: what is kept between runs, how big it is, and how to be rid of it."""

from __future__ import annotations

import click

from bhpe_compile.cli.options import format_option
from bhpe_compile.cli.tables import print_json, render_bytes, render_table


@click.command("cache", short_help="Show what is kept between runs, or remove it.")
@click.option("--clear", is_flag=True, help="Remove all of it; it is made again when it is needed.")
@format_option
def cache_command(clear: bool, style: str) -> None:
    """Show what is kept between runs: machine code, the open body, the mean pose, and people that were drawn.

    It is in ~/.cache/bhpe-compile, or where $BHPE_CACHE says. Everything there is made again when it is asked for;
    --clear removes it, and nothing that is not ours.
    """
    from bhpe_compile.cache import cache_folder
    from bhpe_compile.evaluate import kept

    listed = kept.clear() if clear else kept.list_kept()
    whole = sum(one.nbytes for one in listed)
    if style == "json":
        print_json(
            {
                "folder": str(cache_folder()),
                "cleared": clear,
                "bytes": whole,
                "kept": [{"name": one.path.name, "what": one.what, "bytes": one.nbytes} for one in listed],
            }
        )
        return
    if listed:
        rows = [(render_bytes(one.nbytes), one.path.name, one.what) for one in listed]
        click.echo(render_table(("size", "name", "is"), rows, right=(0,)) + "\n")
    said = "removed from" if clear else "kept in"
    click.echo(f"{render_bytes(whole)} {said} {cache_folder()}")
