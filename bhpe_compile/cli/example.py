"""`bhpe-compile example DIR`: a small model, its binary form and a picture, to try everything with."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import click

from bhpe_compile.errors import UsageError

SEED = 20231114
"""Any number does; this one never changes."""

MODEL, BINARY_MODEL, PICTURE = "model.pt", "model-bidrn.pt", "person.png"


@click.command("example", short_help="Write a small model and a picture to try.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace files of these names that exist already.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def example_command(folder: Path, force: bool, quiet: bool) -> None:
    """Write a small model and a picture into DIR to try the compiler with.

    \b
    model.pt        a small Hand4Whole network in full precision
    model-bidrn.pt  the same network in its binary form, as training would leave it
    person.png      a photograph in the public domain (NASA)

    The models are initialised from a seed and not trained: everything works with them, and their poses mean
    nothing.
    """
    wanted = [folder / name for name in (MODEL, BINARY_MODEL, PICTURE)]
    taken = [path.name for path in wanted if path.exists()]
    if taken and not force:
        raise UsageError(f"{folder}: {', '.join(taken)} exist already; name another folder or add --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder)
    except OSError as error:
        raise UsageError(f"{folder}: cannot write there ({error.strerror or error})") from error
    if not quiet:
        for path in wanted:
            click.echo(path)


def _write(folder: Path) -> None:
    """Write the three files; on one machine always the same bytes."""
    import torch

    from bhpe_compile.models.checkpoint import save_model
    from bhpe_compile.models.hand4whole import Hand4Whole
    from bhpe_compile.models.initialise import initialise
    from bhpe_compile.models.presets import TINY
    from bhpe_compile.passes.binarize import BinarizeOptions, binarize

    torch.set_num_threads(1)  # sums in another order would end in other bytes
    model = Hand4Whole(TINY)
    initialise(model, SEED)
    save_model(folder / MODEL, model, TINY)
    options = BinarizeOptions()
    binary, _ = binarize(model, options)
    save_model(folder / BINARY_MODEL, binary, TINY, options.to_dict())
    with as_file(files("bhpe_compile") / "data" / PICTURE) as picture:
        shutil.copyfile(picture, folder / PICTURE)
