"""`bhpe-compile example DIR`: a small model, its binary form and two pictures, to try everything with."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from bhpe_compile.errors import UsageError
from bhpe_compile.files import sweep, write_atomically

FILES = ("model.pt", "model-bidrn.pt", "drawn.jpg", "person.png")


@click.command("example", short_help="Write small trained models and pictures to try.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace other files of these names.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def example_command(folder: Path, force: bool, quiet: bool) -> None:
    """Write small trained models and pictures into DIR to try the compiler with.

    \b
    model.pt        a small Hand4Whole network in full precision
    model-bidrn.pt  its binary form, distilled from it
    drawn.jpg       a drawn person, the kind of picture they were trained on
    person.png      a photograph in the public domain (NASA)

    Both were trained here, on drawn people and for an hour or two on two CPU cores: docs/model-card.md says how
    good they are. They are for trying things, not for use.
    """
    wanted = [folder / name for name in FILES]
    embedded = files("bhpe_compile") / "data"
    try:
        taken = [path.name for path in wanted if path.exists() and not _holds(path, embedded / path.name)]
        if taken and not force:
            raise UsageError(f"{folder}: other {', '.join(taken)} exist; name another folder or add --force")
        folder.mkdir(parents=True, exist_ok=True)
        for path in wanted:
            write_atomically(path, (embedded / path.name).read_bytes())
            sweep(path)
    except OSError as error:
        raise UsageError(f"{folder}: cannot write there ({error.strerror or error})") from error
    if not quiet:
        for path in wanted:
            click.echo(path)


def _holds(path: Path, source: Traversable) -> bool:
    """Whether `path` is a file with the very bytes of `source`, which it costs nothing to write again."""
    return path.is_file() and path.read_bytes() == source.read_bytes()
