"""`bhpe-compile serve ARTEFACT`: the page of a WebAssembly artefact, on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import existing

PORT = 8000


@click.command("serve", short_help="Show a compiled model on a page, in a browser here.")
@click.argument("artifact", metavar="ARTEFACT", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="The port of 127.0.0.1 to listen on; 0: any that is free.",
)
@click.option("--open", "opened", is_flag=True, help="Open the page in the browser as well.")
def serve_command(artifact: Path, port: int, opened: bool) -> None:
    """Serve the page of an artefact that was compiled with --target wasm32 --form web.

    \b
    bhpe-compile model-bidrn.pt --target wasm32 --form web
    bhpe-compile serve dist/model-bidrn-wasm32

    The page finds the person in a picture or before the camera. Only this machine reaches it, and pictures stay in the
    browser. The address is printed on stdout; Ctrl-C ends the server.
    """
    import webbrowser

    from bhpe_compile.runtime.serve import open_site

    with open_site(existing(artifact, "artefact"), port) as server:
        click.echo(server.url)
        LOG.message("serving to this machine alone; Ctrl-C ends it")
        if opened and not webbrowser.open(server.url):
            LOG.warning("no browser could be started: open the address yourself")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            LOG.message("ended")
