"""`bhpe-compile example DIR`: a small model, its binary form and a picture, to try everything with."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import click

from bhpe_compile.errors import UsageError

FILES = ("model.pt", "model-bidrn.pt", "person.png")


@click.command("example", short_help="Write a small trained model and a picture to try.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace files of these names that exist already.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def example_command(folder: Path, force: bool, quiet: bool) -> None:
    """Write a small trained model and a picture into DIR to try the compiler with.

    \b
    model.pt        a small Hand4Whole network in full precision
    model-bidrn.pt  its binary form, distilled from it
    person.png      a photograph in the public domain (NASA)

    Both were trained here, on drawn people and for an hour or two on two CPU cores: docs/model-card.md says how
    good they are. They are for trying things, not for use.
    """
    wanted = [folder / name for name in FILES]
    taken = [path.name for path in wanted if path.exists()]
    if taken and not force:
        raise UsageError(f"{folder}: {', '.join(taken)} exist already; name another folder or add --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in wanted:
            with as_file(files("bhpe_compile") / "data" / path.name) as source:
                shutil.copyfile(source, path)
    except OSError as error:
        raise UsageError(f"{folder}: cannot write there ({error.strerror or error})") from error
    if not quiet:
        for path in wanted:
            click.echo(path)
