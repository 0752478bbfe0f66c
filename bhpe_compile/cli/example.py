"""`bhpe-compile example DIR`: a small model, its binary form and two pictures, to try everything with; or a made-up
checkpoint of another network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import click

from bhpe_compile.errors import UsageError
from bhpe_compile.files import sweep, write_atomically

MODEL = "model.pt"
PICTURES = ("drawn.jpg", "person.png")
FILES = (MODEL, "model-bidrn.pt", *PICTURES)

Content = bytes | memoryview


@click.command("example", short_help="Write small trained models and pictures to try.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--network",
    metavar="NAME[:PRESET]",
    help="A made-up checkpoint of this network, in its published layout, in place of the trained models.",
)
@click.option("--force", is_flag=True, help="Replace other files of these names.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def example_command(folder: Path, network: str | None, force: bool, quiet: bool) -> None:
    """Write small trained models and pictures into DIR to try the compiler with.

    \b
    model.pt        a small Hand4Whole network in full precision
    model-bidrn.pt  its binary form, distilled from it
    drawn.jpg       a drawn person, the kind of picture they were trained on
    person.png      a photograph in the public domain (NASA)

    Both were trained here, on drawn people and for an hour or two on two CPU cores: docs/model-card.md says how
    good they are. They are for trying things, not for use.

    With --network, model.pt is a checkpoint of that network as its authors publish theirs, of the same size, with
    random weights: it compiles, and finds nothing in a picture.
    """
    embedded = files("bhpe_compile") / "data"
    names = FILES if network is None else (MODEL, *PICTURES)
    contents: dict[str, Content] = {}
    if network is not None:
        from bhpe_compile.compiler.made_up import made_up_checkpoint
        from bhpe_compile.networks.choice import choose

        contents[MODEL] = made_up_checkpoint(choose(network))
    contents |= {name: (embedded / name).read_bytes() for name in names if name not in contents}
    _write(folder, contents, force)
    if not quiet:
        for name in names:
            click.echo(folder / name)
    if network is not None and not quiet:
        click.echo(f"{MODEL}: random weights of a fixed seed, {network} was not trained", err=True)


def _write(folder: Path, contents: Mapping[str, Content], force: bool) -> None:
    """The files by name. UsageError where others of these names are there, or where it cannot be written."""
    try:
        others = [name for name, content in contents.items() if _differs(folder / name, content)]
        if others and not force:
            raise UsageError(f"{folder}: other {', '.join(others)} exist; name another folder or add --force")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
            sweep(folder / name)
    except OSError as error:
        raise UsageError(f"{folder}: cannot write there ({error.strerror or error})") from error


def _differs(path: Path, content: Content) -> bool:
    """Whether `path` exists and is not a file with these very bytes, which it costs nothing to write again."""
    return path.exists() and not (path.is_file() and path.read_bytes() == content)
